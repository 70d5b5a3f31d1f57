"""``tccp-coordinator``: start everything in order, serve, and stop in order.

    keys of the TPM -> store -> policies -> listeners -> READY ... SIGHUP: reload ... SIGTERM: stop accepting, close

Nothing is served before all of it is there, and a part that fails for good ends the daemon: systemd starts it anew.
"""

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import structlog
import trio

from tccp import logs, systemd
from tccp.attestation.enrolment import EkAuthorities
from tccp.attestation.quote import AkKey
from tccp.config import CoordinatorConfig, ListenConfig, LogServerConfig, MetricsConfig, TenantsConfig, load_config
from tccp.control.server import ControlGroups, serve_control
from tccp.control.sockets import control_listeners
from tccp.coordinator.activations import Activations
from tccp.coordinator.authorities import load_authorities, old_revocations
from tccp.coordinator.clock import SteadyClock
from tccp.coordinator.control import ControlAnswers
from tccp.coordinator.cosignatures import Cosignatures
from tccp.coordinator.custody.journal import log_what_was_done
from tccp.coordinator.custody.vault import KEYS, read_vault, unseal_keys
from tccp.coordinator.evidence import OwnEvidence
from tccp.coordinator.examination import Examiner
from tccp.coordinator.identity import CoordinatorKeys, make_identity
from tccp.coordinator.ima_policies import ImaPolicies
from tccp.coordinator.launch import Launches
from tccp.coordinator.log_opening import START_TIMEOUT_US, open_published_log
from tccp.coordinator.log_server import LogServer, log_context
from tccp.coordinator.log_view import LogView
from tccp.coordinator.measured_before import MeasuredBefore
from tccp.coordinator.metrics import CoordinatorReport
from tccp.coordinator.policies import PolicyBook, load_operators
from tccp.coordinator.probes import Probes
from tccp.coordinator.published_log import PublishedLog
from tccp.coordinator.registration import serve_node, serve_stream
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.services import Services
from tccp.coordinator.shadows import Shadows
from tccp.coordinator.start import record_start
from tccp.coordinator.tenants import TenantDesk, serve_tenant
from tccp.coordinator.workers.pool import WorkerPool
from tccp.errors import ConfigError, HostError, TccpError
from tccp.protocol.control_roles import CoordinatorRequest
from tccp.protocol.statements import log_origin
from tccp.service import Program, run_daemon
from tccp.store import FencedError, Store, open_store
from tccp.tpm import Tpm, open_tpm
from tccp.transparency.note import NoteSigner, parse_note_key
from tccp.transport.accepting import name_of, serve_connections
from tccp.transport.addresses import PerAddress
from tccp.transport.connection import Stream
from tccp.transport.metrics import serve_metrics
from tccp.transport.tls import coordinator_context, public_context

BACKLOG = 4096
LAPSE_SWEEP_S = 1.0
# A disk may take its time; a store that is silent for longer is not coming back.
STORE_SILENCE_S = 10.0
CLOCK_WARNING_S = 5.0
READ_BYTES_PER_S = 20_000_000  # of a slow disk that has other things to do
# Keys of the configuration that a reload leaves as they were.
NEEDS_RESTART = ("state_directory", "listen", "tenants", "log_server", "metrics", "control", "tpm", "witness")

PROGRAM = Program(
    "coordinator",
    CoordinatorConfig,
    "The trusted coordinator: attests nodes and leases them their place in the perimeter.",
    Path("/etc/tccp/coordinator.toml"),
)

log = structlog.get_logger()


@asynccontextmanager
async def running_services(config: CoordinatorConfig) -> AsyncIterator[Services]:
    """Everything but the listeners, started in order and stopped in reverse."""
    state = Path(config.state_directory)
    authorities = load_authorities(config.enrolment)
    operators = load_operators(config.policies)
    async with (
        _tpm_and_keys(config) as (tpm, keys),
        _store(state / "coordinator.db") as store,
        _log(state, store, keys) as published,
    ):
        known_ms = await store.newest_time_ms()
        clock = SteadyClock(not_before_ms=known_ms)
        await store.hold_vms(known_ms, clock.now_ms())
        _tell_of_old_revocations(config, authorities, clock.now())
        await log_what_was_done(state / KEYS, store, clock.now_ms())
        identity = make_identity(keys, now=clock.now())
        ak = await tpm.create_ak(kind=config.tpm.ak)
        ek = await tpm.read_ek()
        properties = await tpm.properties()
        before = MeasuredBefore(store, keys.memory_key)
        policies, examiner = PolicyBook(await store.policies()), Examiner(ImaPolicies(config.ima), before)
        shadows = Shadows(await store.shadows(), examiner)
        await examiner.ima.prepare_all([*policies.all(), *shadows.policies()])
        yield Services(
            config=config,
            identity=identity,
            authorities=authorities,
            store=store,
            log=published,
            clock=clock,
            evidence=OwnEvidence(tpm, ak, config.tpm.selection, identity),
            policies=policies,
            shadows=shadows,
            operators=operators,
            examiner=examiner,
            measured_before=before,
            ak_spki=AkKey.from_tpm_public(ak.public).spki,
            tpm_name=f"{properties.manufacturer} {properties.vendor}".strip(),
            pcrs_at_start=await tpm.read_pcrs(config.tpm.selection),
            activations=Activations(tpm, ek, ak),
            cosignatures=Cosignatures(
                _log_signer(keys).key, tuple(parse_note_key(each.key) for each in config.witness)
            ),
            log_context=log_context(config.log_server, keys.ca, now=clock.now()),
            started_ms=clock.now_ms(),
        )


def _log_signer(keys: CoordinatorKeys) -> NoteSigner:
    return NoteSigner(log_origin(keys.coordinator_id), keys.log_signing_key)


def _store(database: Path) -> AbstractAsyncContextManager[Store]:
    """All of it is read before it is used, and systemd shall not give up on that."""
    bytes_now = database.stat().st_size if database.exists() else 0
    systemd.notify(f"EXTEND_TIMEOUT_USEC={START_TIMEOUT_US + bytes_now * 1_000_000 // READ_BYTES_PER_S}")
    return open_store(database)


def _log(state: Path, store: Store, keys: CoordinatorKeys) -> AbstractAsyncContextManager[PublishedLog]:
    return open_published_log(state / "log", store, _log_signer(keys), keys.log_salt_key)


@asynccontextmanager
async def _tpm_and_keys(config: CoordinatorConfig) -> AsyncIterator[tuple[Tpm, CoordinatorKeys]]:
    """The TPM, and the keys that it gives back because this machine is in an approved state."""
    state = Path(config.state_directory)
    sealed = read_vault(state)
    async with open_tpm(config.tpm.tcti) as tpm:
        yield tpm, CoordinatorKeys.of(await unseal_keys(tpm, state, sealed))


async def serve(config_path: Path, *, task_status: "trio.TaskStatus[Services]" = trio.TASK_STATUS_IGNORED) -> None:
    """Run the coordinator until it is told to stop (SIGTERM, SIGINT) or cancelled."""
    config = load_config(config_path, CoordinatorConfig)
    sockets = systemd.listen_fds()
    async with contextlib.AsyncExitStack() as opened:
        # First what two coordinators cannot both have: opening the store shuts out whoever has it open.
        control = control_listeners(Path(config.control.socket), sockets.get("control"))
        control_ends = await opened.enter_async_context(control)
        listeners = await _listeners(config.listen, sockets.get("nodes"), key="listen")
        tenant_listeners = await _listeners(config.tenants, sockets.get("tenants"), key="tenants")
        log_listeners = await _listeners(config.log_server, sockets.get("log"), key="log_server")
        metrics_listeners = await _metrics_listeners(config, sockets.get("metrics"))
        for listener in (*listeners, *tenant_listeners, *log_listeners, *metrics_listeners):
            await opened.enter_async_context(listener)
        services = await opened.enter_async_context(running_services(config))
        nursery = await opened.enter_async_context(trio.open_nursery())
        keys = services.identity.keys
        authorities = (keys.ca.certificate_pem, keys.door.certificate)
        renewals = Renewals(services)
        launches = Launches(services, renewals)
        services.listening = name_of(listeners[0])
        services.tenants_listening = name_of(tenant_listeners[0])
        services.log_listening = name_of(log_listeners[0])
        services.metrics_listening = name_of(metrics_listeners[0]) if metrics_listeners else ""
        nursery.start_soon(services.evidence.run)
        nursery.start_soon(services.log.run)
        await record_start(services)
        nursery.start_soon(services.verifier.run)
        nursery.start_soon(services.measured_before.run)
        nursery.start_soon(renewals.run)
        nursery.start_soon(launches.run)
        store_answers = systemd.Heartbeat(silence_s=STORE_SILENCE_S)
        nursery.start_soon(_sweep_lapsed_leases, services, store_answers)
        nursery.start_soon(_serve_control, services, renewals, control_ends)
        await nursery.start(serve_nodes, services, renewals, launches, listeners, authorities)
        nursery.start_soon(serve_tenants, services, renewals, tenant_listeners)
        nursery.start_soon(serve_log, services, log_listeners)
        nursery.start_soon(serve_metrics, metrics_listeners, CoordinatorReport(services, store_answers))
        nursery.start_soon(lambda: systemd.keep_watchdog(healthy=store_answers.alive))
        nursery.start_soon(_obey_signals, services, config_path, nursery.cancel_scope)
        systemd.notify("READY=1", f"STATUS=listening on {services.listening}")
        log.info("ready", listening=services.listening, coordinator_id=services.coordinator_id.hex())
        task_status.started(services)
    log.info("stopped")


async def serve_nodes(
    services: Services,
    renewals: Renewals,
    launches: Launches,
    listeners: list[trio.SocketListener],
    authorities: Sequence[bytes],
    *,
    task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve nodes, at most as many at once as the configuration allows; in this process, or behind workers."""
    own, listen = services.identity.tls, services.config.listen
    if listen.workers > 1:

        async def serve(stream: Stream, address: str) -> None:
            await serve_stream(services, renewals, launches, stream, address)

        counters = services.sessions.counters
        services.workers = WorkerPool(services.config, own, authorities, listeners, serve=serve, counters=counters)
        await services.workers.run(task_status=task_status)
        return
    context = coordinator_context(own, authorities)

    async def serve_one(stream: trio.SocketStream) -> None:
        await serve_node(services, renewals, launches, stream, context)

    task_status.started()
    await serve_connections(listeners, serve_one, connections_max=listen.connections_max)


async def serve_tenants(services: Services, renewals: Renewals, listeners: list[trio.SocketListener]) -> None:
    """Serve tenants, at most as many at once as the configuration allows."""
    context = public_context(services.identity.tls)
    view = LogView(services.log.files, services.cosignatures)
    desk = TenantDesk(services, services.activations, view, Probes(services, renewals))

    async def serve_one(stream: trio.SocketStream) -> None:
        await serve_tenant(desk, stream, context)

    limits, refused = services.config.tenants, services.sessions.counters.too_many
    per_address = PerAddress(limits.connections_per_address_max, "tenants", refused)
    await serve_connections(listeners, serve_one, connections_max=limits.connections_max, per_address=per_address)


async def serve_log(services: Services, listeners: list[trio.SocketListener]) -> None:
    """Serve those who read the log, at most as many at once as the configuration allows."""
    server = LogServer(services.log, services.cosignatures)

    async def serve_one(stream: trio.SocketStream) -> None:
        await server.serve(stream, services.log_context)

    limits, refused = services.config.log_server, services.sessions.counters.too_many
    per_address = PerAddress(limits.connections_per_address_max, "log", refused)
    await serve_connections(listeners, serve_one, connections_max=limits.connections_max, per_address=per_address)


async def _listeners(
    config: ListenConfig | TenantsConfig | LogServerConfig | MetricsConfig,
    given: list[socket.socket] | None,
    *,
    key: str,
) -> list[trio.SocketListener]:
    if given:
        return systemd.trio_listeners(given)
    try:
        return await trio.open_tcp_listeners(config.port, host=config.address, backlog=BACKLOG)
    except OSError as problem:
        where = f"{config.address}:{config.port}"
        raise ConfigError("cannot_listen", f"{where}: {problem.strerror or problem}", hint=f"set [{key}]") from None


async def _metrics_listeners(config: CoordinatorConfig, given: list[socket.socket] | None) -> list[trio.SocketListener]:
    """None unless the operator or systemd asks for them."""
    if not given and config.metrics is None:
        return []
    return await _listeners(config.metrics or MetricsConfig(), given, key="metrics")


async def _serve_control(services: Services, renewals: Renewals, listeners: list[trio.SocketListener]) -> None:
    control = services.config.control
    groups = ControlGroups(admin=control.admin_group, viewer=control.viewer_group)
    answers = ControlAnswers(services, renewals)
    await serve_control(listeners, CoordinatorRequest, answers, own_uid=os.getuid(), groups=groups)


async def _sweep_lapsed_leases(services: Services, store_answers: systemd.Heartbeat) -> None:
    """End what was not renewed in time. The record must say so even if no node ever comes back.

    The sweep goes through the store's thread, and so it is that thread's heartbeat as well.

    Raises:
        FencedError: Another coordinator has taken the database over; this one is over.
    """
    while True:
        await trio.sleep(LAPSE_SWEEP_S)
        try:
            lapsed = await services.store.lapse_leases(services.clock.now_ms())
        except FencedError:
            raise
        except HostError as problem:
            log.error("sweep_failed", reason=problem.reason, detail=problem.detail)
            lapsed = []
        store_answers.beat()  # an error is an answer, too
        services.sessions.counters.lapses += len(lapsed)
        for lease_id, node in lapsed:
            log.warning("lapsed", node=str(node), lease=lease_id.hex())
        if abs(ahead := services.clock.ahead_of_host_s()) > CLOCK_WARNING_S:
            log.warning("host_clock_was_set", tccp_is_ahead_s=round(ahead))


async def _obey_signals(services: Services, config_path: Path, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async for number in received:
            if number == signal.SIGHUP:
                with systemd.reloading():
                    await _reload(services, config_path)
            else:
                systemd.notify("STOPPING=1")
                log.info("stopping", signal=signal.Signals(number).name)
                scope.cancel()
                return


def _tell_of_old_revocations(config: CoordinatorConfig, authorities: EkAuthorities, now: datetime) -> None:
    if authorities.has_old_lists(now):
        log.warning("revocations_outdated", files=old_revocations(config.enrolment, now))


async def _reload(services: Services, config_path: Path) -> None:
    """Take over what can change while running: leases, EK authorities, operators, IMA policies, the log server's
    certificate, log level; an error changes nothing.
    """
    try:
        config = load_config(config_path, CoordinatorConfig)
        authorities: EkAuthorities = load_authorities(config.enrolment)
        _tell_of_old_revocations(config, authorities, services.clock.now())
        operators = load_operators(config.policies)
        context = log_context(config.log_server, services.identity.keys.ca, now=services.clock.now())
    except TccpError as problem:
        log.error("reload_failed", reason=problem.reason, detail=problem.detail)
        return
    for fixed in NEEDS_RESTART:
        if getattr(config, fixed) != getattr(services.config, fixed):
            log.warning("needs_restart", key=fixed)
    config = msgspec.structs.replace(config, **{fixed: getattr(services.config, fixed) for fixed in NEEDS_RESTART})
    services.config, services.authorities, services.log_context = config, authorities, context
    services.operators, services.examiner.ima.config = operators, config.ima
    await services.examiner.ima.prepare_all([*services.policies.all(), *services.shadows.policies()])
    logs.configure(log_format=config.log.format, level=config.log.level)
    if services.workers is not None:
        services.workers.log_as(config.log)
    log.info("reloaded", ek_authorities=len(authorities), lease_s=config.leases.seconds)


def main(arguments: list[str] | None = None) -> int:
    """The command ``tccp-coordinator``; exit codes as `tccp` has them."""
    return run_daemon(PROGRAM, serve, arguments)
