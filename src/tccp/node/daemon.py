"""``tccp-node``: register with the coordinator, keep the lease, come back when the connection is lost."""

import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
import trio

from tccp import __version__, logs, systemd
from tccp.attestation.ek_id import ek_id_of
from tccp.config import MetricsConfig, NodeConfig, VmsConfig, load_config
from tccp.control.server import ControlGroups, serve_control
from tccp.control.sockets import control_listeners
from tccp.errors import ConfigError, EvidenceError, HostError, ProtocolError, TccpError, TpmError
from tccp.measures import Tally
from tccp.node.control import NodeAnswers
from tccp.node.hypervisor import Hypervisor, NoHypervisor
from tccp.node.identity import NodeIdentity, make_node_identity
from tccp.node.ima_list import ImaList
from tccp.node.key_desk import KeyDesk
from tccp.node.metrics import NodeReport
from tccp.node.peers import Peers
from tccp.node.qemu_hypervisor import open_qemu_hypervisor
from tccp.node.registration import HeldLease, NodeTpm, connect, door_context, keep_lease, register
from tccp.node.remains import RemainsFolder
from tccp.node.vms import Vms
from tccp.protocol.control import NodeStatus
from tccp.protocol.control_roles import NodeRequest
from tccp.protocol.messages import Revoked
from tccp.service import Program, run_daemon
from tccp.tpm import open_tpm
from tccp.transport.accepting import name_of
from tccp.transport.connection import RefusalError
from tccp.transport.metrics import serve_metrics
from tccp.transport.trust import CoordinatorTrust, load_trust

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 60.0
# What a refused node can change is changed by a person, so it asks less often.
BACKOFF_REFUSED_S = 10.0
# But these say only that something came in between: registering again is all that it takes.
AGAIN_SOON = frozenset({"rebooted", "lease_expired", "lease_ended", "lease_unknown", "policy_changed"})

HINTS = {
    "not_enrolled": "enrol this node's EK at the coordinator: `tccp coordinator enrol`",
    "revoked": "this node was put out of the perimeter for ever",
    "pcr_not_in_policy": "this host booted what its policy does not name; `tccp coordinator node show` has the value",
    "ima_entry_refused": "this host has run what its policy does not name; `tccp coordinator node show` says what",
    "ima_nothing_measured": "this kernel measures nothing: boot it with ima_policy=tcb",
    "no_ima_policy": "the coordinator has not got the compiled IMA policy that is to judge this node",
    "rebooted": "the TPM was reset while the lease held; registering again",
    "certificate_revoked": "the maker of this TPM has taken its certificate, or one above it, back: ask the maker why",
    "untrusted": "the coordinator does not know the maker of this TPM: [enrolment] ek_authorities",
    "another_name": "`name` in node.toml is not the name that this TPM is enrolled under",
    "no_policy": "the policy that is to judge this node does not exist at the coordinator",
}

PROGRAM = Program(
    "node",
    NodeConfig,
    "A node: proves with its TPM what this host runs, and keeps a lease from the trusted coordinator.",
    Path("/etc/tccp/node.toml"),
)

log = structlog.get_logger()


@dataclass(slots=True)
class Node:
    """One running node daemon."""

    config: NodeConfig
    trust: CoordinatorTrust
    identity: NodeIdentity
    host: NodeTpm
    tpm_name: str
    started_ms: int
    hypervisor: Hypervisor
    lease: HeldLease = field(default_factory=HeldLease)
    desk: KeyDesk = field(init=False)
    vms: Vms = field(init=False)
    state: str = "connecting"
    last_problem: TccpError | None = None
    retry_at: float = 0.0
    connections: int = 0
    failures: Tally = field(default_factory=Tally)
    metrics_listening: str = ""  # empty: nowhere

    def __post_init__(self) -> None:
        """What needs the keys of this boot."""
        self.desk = KeyDesk(self.identity.release_key)
        address = self.config.vms.move_address if self.config.vms else None
        peers = Peers(self.identity, self.trust.ca_certificate, self.lease, address)
        self.vms = Vms(
            self.hypervisor,
            self.desk,
            self.lease,
            self.identity,
            self.trust.coordinator_id,
            peers=peers,
            remains=RemainsFolder(Path(self.config.vms.state) if self.config.vms else None),
            mark_every_s=(self.config.vms or VmsConfig()).mark_every_s,
        )

    async def stay_registered(self) -> None:
        """Register, keep the lease, and after whatever ends that, wait and begin again."""
        backoff = BACKOFF_FIRST_S
        while True:
            at_least = 0.0
            try:
                await self._one_connection()
            except RefusalError as refusal:
                self._refused(refusal)
                at_least = 0.0 if refusal.message.reason in AGAIN_SOON else BACKOFF_REFUSED_S
            except EvidenceError as problem:
                log.error("coordinator_not_trusted", reason=problem.reason, detail=problem.detail)
                self.last_problem = problem
                at_least = BACKOFF_REFUSED_S
            except TpmError as problem:
                if self.host.tpm.closed:
                    raise  # the daemon ends, and its restart opens a new connection
                log.error("tpm_refused", reason=problem.reason, detail=problem.detail)
                self.last_problem = problem
                at_least = BACKOFF_REFUSED_S
            except (HostError, ProtocolError) as problem:
                log.warning("connection_lost", reason=problem.reason, detail=problem.detail)
                self.last_problem = problem
            # Who was in has not been waiting before.
            self.failures.add(self.last_problem.reason if self.last_problem else "closed")
            backoff = max(BACKOFF_FIRST_S if self.state == "admitted" else backoff, at_least)
            self.state = "waiting"
            pause = backoff * random.uniform(0.5, 1.5)  # noqa: S311 - spreads nodes out, keeps no secret
            self.retry_at = trio.current_time() + pause
            systemd.notify(f"STATUS=waiting {pause:.0f} s: {self.last_problem}")
            await trio.sleep(pause)
            backoff = min(2 * backoff, BACKOFF_MAX_S)

    async def _one_connection(self) -> None:
        self.state = "connecting"
        self.connections += 1
        where = self.config.coordinator
        context = door_context(self.identity, self.trust)
        connection = await connect(where.host, where.port, self.identity, context)
        try:
            self.state = "registering"
            channel = await register(connection, self.host, self.identity, self.trust, self.lease)
            self.state, self.last_problem = "admitted", None
            systemd.notify("STATUS=admitted")
            self.desk.attach(connection)
            await keep_lease(connection, channel, self.host, self.identity, self.lease, desk=self.desk)
        finally:
            self.desk.detach()
            connection.close()

    def _refused(self, refusal: RefusalError) -> None:
        """We are out at once, whatever the lease said."""
        self.lease.drop()
        reason = refusal.message.reason
        verb = "revoked" if isinstance(refusal.message, Revoked) else "refused"
        self.last_problem = TccpError(reason, f"the coordinator {verb} this node", hint=HINTS.get(reason, ""))
        self.vms.lose_all(reason, f"{self.last_problem.detail}: see `tccp node status`")
        log.error(verb, reason=reason, hint=self.last_problem.hint)

    def status(self) -> NodeStatus:
        """What the control socket shows."""
        problem = self.last_problem
        waiting = self.state == "waiting"
        return NodeStatus(
            name=self.config.name,
            software=__version__,
            started_ms=self.started_ms,
            state="lapsed" if self.state == "admitted" and not self.lease.holds else self.state,
            coordinator=self.config.coordinator.address,
            coordinator_id=self.trust.coordinator_id,
            boot_id=self.identity.boot_id,
            ek_id=ek_id_of(self.host.ek.public),
            tpm=self.tpm_name,
            lease_id=self.lease.lease_id if self.lease.holds else b"",
            lease_left_s=max(0, int(self.lease.left_s)),
            renewals=self.lease.renewals,
            last_error=str(problem) if problem else "",
            last_error_hint=problem.hint if problem else "",
            retry_in_s=max(0, int(self.retry_at - trio.current_time())) if waiting else 0,
        )


async def serve(config_path: Path, *, task_status: "trio.TaskStatus[Node]" = trio.TASK_STATUS_IGNORED) -> None:
    """Run the node until it is told to stop (SIGTERM, SIGINT) or cancelled."""
    config = load_config(config_path, NodeConfig)
    trust = load_trust(Path(config.coordinator.trust_file))
    sockets = systemd.listen_fds()
    control = control_listeners(Path(config.control.socket), sockets.get("control"))
    metrics = await _metrics_listeners(config.metrics, sockets.get("metrics"))
    # The control socket first: while another daemon of this node runs, its TPM is left alone.
    async with control as listeners, open_tpm(config.tpm.tcti) as tpm, AsyncExitStack() as opened:
        event_log = Path(config.tpm.event_log) if config.tpm.event_log else None
        ima_list = ImaList(Path(config.tpm.ima_list) if config.tpm.ima_list else None)
        opened.callback(ima_list.close)
        host = NodeTpm(tpm, await tpm.read_ek(), await tpm.create_ak(kind=config.tpm.ak), event_log, ima_list)
        properties = await tpm.properties()
        identity = make_node_identity(config.name)
        node = Node(
            config=config,
            trust=trust,
            identity=identity,
            host=host,
            tpm_name=f"{properties.manufacturer} {properties.vendor}".strip(),
            started_ms=_unix_ms(),
            hypervisor=await opened.enter_async_context(_hypervisor(config, identity)),
        )
        for listener in metrics:
            await opened.enter_async_context(listener)
        async with trio.open_nursery() as nursery:
            groups = ControlGroups(admin=config.control.admin_group, viewer=config.control.viewer_group)

            async def control_server() -> None:
                answers = NodeAnswers(node.status, node.vms)
                await serve_control(listeners, NodeRequest, answers, own_uid=os.getuid(), groups=groups)

            nursery.start_soon(node.vms.run)
            nursery.start_soon(control_server)
            nursery.start_soon(node.stay_registered)
            node.metrics_listening = name_of(metrics[0]) if metrics else ""
            nursery.start_soon(serve_metrics, metrics, NodeReport(node))
            nursery.start_soon(lambda: systemd.keep_watchdog(healthy=lambda: True))
            nursery.start_soon(_obey_signals, node, config_path, nursery.cancel_scope)
            systemd.notify("READY=1", "STATUS=connecting")
            log.info("ready", node=config.name, coordinator=config.coordinator.address)
            task_status.started(node)
    log.info("stopped")


async def _metrics_listeners(
    config: MetricsConfig | None, given: list[socket.socket] | None
) -> list[trio.SocketListener]:
    """None unless the operator or systemd asks for them."""
    if given:
        return systemd.trio_listeners(given)
    if config is None:
        return []
    try:
        return await trio.open_tcp_listeners(config.port, host=config.address)
    except OSError as problem:
        where = f"{config.address}:{config.port}"
        raise ConfigError("cannot_listen", f"{where}: {problem.strerror or problem}", hint="set [metrics]") from None


@asynccontextmanager
async def _hypervisor(config: NodeConfig, identity: NodeIdentity) -> AsyncIterator[Hypervisor]:
    """What runs VMs here."""
    if config.vms is None:
        yield NoHypervisor()
        return
    async with open_qemu_hypervisor(config.vms, identity) as hypervisor:
        yield hypervisor


async def _obey_signals(node: Node, config_path: Path, scope: trio.CancelScope) -> None:
    signals = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(*signals) as received:
            async for number in received:
                if number == signal.SIGHUP:
                    nursery.start_soon(_reload, node, config_path)
                else:
                    systemd.notify("STOPPING=1")
                    log.info("stopping", signal=signal.Signals(number).name)
                    await node.vms.end_all("node_stopped")
                    scope.cancel()
                    return


def _read_again(config_path: Path) -> tuple[NodeConfig, CoordinatorTrust]:
    config = load_config(config_path, NodeConfig)
    return config, load_trust(Path(config.coordinator.trust_file))


async def _reload(node: Node, config_path: Path) -> None:
    """Take over the log settings now, and from the next connection on the coordinator; an error changes nothing."""
    with systemd.reloading():
        await _take_over(node, config_path)


async def _take_over(node: Node, config_path: Path) -> None:
    try:
        config, trust = await trio.to_thread.run_sync(_read_again, config_path, abandon_on_cancel=True)
    except TccpError as problem:
        log.error("reload_failed", reason=problem.reason, detail=problem.detail)
        return
    for fixed in ("name", "control", "tpm", "vms", "metrics"):
        if getattr(config, fixed) != getattr(node.config, fixed):
            log.warning("needs_restart", key=fixed)
    node.config = msgspec.structs.replace(node.config, coordinator=config.coordinator, log=config.log)
    node.trust = trust
    logs.configure(log_format=config.log.format, level=config.log.level)
    log.info("reloaded", coordinator=config.coordinator.address)


def _unix_ms() -> int:
    return int(time.time() * 1000)


def main(arguments: list[str] | None = None) -> int:
    """The command ``tccp-node``; exit codes as `tccp` has them."""
    return run_daemon(PROGRAM, serve, arguments)
