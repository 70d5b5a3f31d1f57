"""A tenant beside a running coordinator: her policy, her store, and somebody on the wire between the two."""

import contextlib
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from tccp.coordinator.log_view import LogHeads, LogView
from tccp.coordinator.services import event_body
from tccp.protocol.statements import log_origin
from tccp.store import EventDraft, EventKind
from tccp.tenant.policy import TenantPolicy, parse_tenant_policy
from tccp.tenant.trust import Look, add_trust, check_trust
from tccp.tenant.trust_store import TrustStore
from tccp.transparency.note import NoteKey, NoteSigner
from tccp.transparency.writer import LogWriter
from tccp.transport.certificates import KeyPair
from tccp.transport.tls import SERVER_NAME, public_context, tenant_context
from tests.support.live_coordinator import HOST, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm

ZERO_PCRS = "[pcrs]\n" + "".join(f'{index} = ["{"00" * 32}"]\n' for index in (0, 4, 7))


def policy_for(tpm: SoftTpm, folder: Path, *, extra: str = "", pcrs: str = ZERO_PCRS) -> TenantPolicy:
    """A policy that trusts the maker of *tpm*, and a TPM as it comes.

    Args:
        extra: More TOML, before the tables.
    """
    authorities = folder / "tenant-authorities"
    authorities.mkdir(exist_ok=True)
    for number, certificate in enumerate(tpm.authority.certificates):
        (authorities / f"{number}.der").write_bytes(certificate)
    return parse_tenant_policy(f'ek_authorities = "{authorities}"\n{extra}\n{pcrs}'.encode())


class Tenant:
    """Who trusts one coordinator as ``tc``.

    Args:
        folder: Where her store is.
        policy: Her demands.
    """

    def __init__(self, folder: Path, policy: TenantPolicy) -> None:
        self.store, self.policy = TrustStore(folder / "trust"), policy

    async def add(self, port: int, *, name: str = "tc", keep_event_log: Path | None = None) -> Look:
        """``tccp trust add --accept-first-identity``."""
        add = partial(
            add_trust,
            self.store,
            name,
            f"{HOST}:{port}",
            self.policy,
            accept_first_identity=True,
            keep_event_log=keep_event_log,
        )
        return await trio.to_thread.run_sync(add)

    async def check(self, *, name: str = "tc") -> Look:
        """``tccp trust check``."""
        return await trio.to_thread.run_sync(check_trust, self.store, name)


@asynccontextmanager
async def coordinator_with_log(
    folder: Path, tpm: SoftTpm, *, entries: int = 3, extra: str = ""
) -> AsyncIterator[LiveCoordinator]:
    """A running coordinator whose log has so many entries; the first is its start."""
    async with live_coordinator(folder, tpm, extra=extra) as coordinator:
        await grow(coordinator, entries - coordinator.services.log.size)
        yield coordinator


async def grow(coordinator: LiveCoordinator, entries: int) -> None:
    """Have some things happen, each of which becomes an entry."""
    services = coordinator.services
    for _ in range(entries):
        event = EventDraft(services.clock.now_ms(), EventKind.REFUSE, None, event_body(reason="untrusted"))
        seq = await services.store.append_event(event)
    if entries > 0:
        await services.log.included(seq)


def rewrite_log(coordinator: LiveCoordinator, numbers: Sequence[int]) -> None:
    """Another log from the beginning, signed by the same key: what only who owns the coordinator can do."""
    directory = coordinator.services.log.files.directory
    shutil.rmtree(directory, ignore_errors=True)
    signer = NoteSigner(origin_of(coordinator), coordinator.services.identity.keys.log_signing_key)
    with LogWriter.create(directory, signer) as writer:
        if numbers:
            writer.append(0, [b"entry %d" % number for number in numbers])


def origin_of(coordinator: LiveCoordinator) -> str:
    """The name of its log."""
    return log_origin(coordinator.services.coordinator_id)


def log_key_of(coordinator: LiveCoordinator) -> NoteKey:
    """The key of its log's checkpoints."""
    return NoteKey(origin_of(coordinator), coordinator.services.identity.keys.log_key)


async def served_heads(coordinator: LiveCoordinator) -> LogHeads:
    """What it shows to tenants as the heads of its log."""
    services = coordinator.services
    return await LogView(services.log.files, services.cosignatures).heads()


class Relay:
    """Somebody between the two who passes everything on, and keeps what the client said.

    Args:
        target: The port that it passes on to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.said = bytearray()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client, server = self._connect(client)
                self._sockets += [client, server]
                for source, sink, kept in ((client, server, self.said), (server, client, bytearray())):
                    thread = threading.Thread(target=self._pass_on, args=(source, sink, kept), daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _connect(self, client: socket.socket) -> tuple[socket.socket, socket.socket]:
        return client, socket.create_connection((HOST, self._target))

    def _pass_on(self, source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                kept += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it, and wait for its threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


class Interceptor(Relay):
    """A relay that ends TLS with a key of its own, and so reads everything: what only the evidence can find out."""

    def __init__(self, target: int, own: KeyPair) -> None:
        self._server_context = public_context(own)
        super().__init__(target)

    def _connect(self, client: socket.socket) -> tuple[socket.socket, socket.socket]:
        readable = self._server_context.wrap_socket(client, server_side=True)
        plain = socket.create_connection((HOST, self._target))
        return readable, tenant_context(None).wrap_socket(plain, server_hostname=SERVER_NAME)


@contextlib.contextmanager
def interceptor_before(port: int, own: KeyPair) -> Iterator[Interceptor]:
    """An interceptor while it is wanted; *own* is its key, with a certificate of anybody's."""
    interceptor = Interceptor(port, own)
    try:
        yield interceptor
    finally:
        interceptor.close()


@contextlib.contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    """A relay while it is wanted."""
    relay = Relay(port)
    try:
        yield relay
    finally:
        relay.close()
