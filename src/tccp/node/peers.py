"""From node to node: TLS between two boots that the coordinator has told of each other.

Both ends show the certificates of their leases, and each demands the very key that the coordinator named: a lease
alone, of whichever node, opens nothing. The first bytes name the move.
"""

import contextlib
import hashlib
import hmac
import math
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import structlog
import trio

from tccp.errors import HostError
from tccp.node.identity import NodeIdentity
from tccp.node.registration import HeldLease
from tccp.protocol.messages import MoveOrder
from tccp.transport.certificates import KeyPair, key_pem, node_host, pem_of, spki_of_certificate
from tccp.transport.tls import peer_context

CONNECT_S = 15.0
ARRIVE_S = 60.0  # from when we may be sent the VM until its node is there
ID_BYTES = 32

Stream = trio.SSLStream[trio.SocketStream]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Peers:
    """The way to other nodes, and from them to us.

    Args:
        authority: The coordinator's, PEM: issuer of leases.
        host: On which we wait for the nodes from which VMs come; None: no VM comes.
    """

    identity: NodeIdentity
    authority: bytes
    lease: HeldLease = field(repr=False)
    host: str | None

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncGenerator["Waiting"]:
        """Be there for one source.

        Raises:
            HostError: ``moves_not_configured``, ``cannot_listen``.
        """
        if self.host is None:
            hint = "[vms] move_address in node.toml: an address of this host that other nodes reach"
            raise HostError("moves_not_configured", "no VM comes to this node from another", hint=hint)
        try:
            (listener, *others) = await trio.open_tcp_listeners(0, host=self.host)
        except OSError as problem:
            raise HostError("cannot_listen", f"{self.host}: {problem}") from None
        for other in others:
            await other.aclose()
        async with listener:
            yield Waiting(self, listener)

    @contextlib.asynccontextmanager
    async def connected(self, order: MoveOrder) -> AsyncGenerator[Stream]:
        """Connected to the destination of *order*, which knows the move.

        Raises:
            HostError: ``unreachable``; ``another_peer``: another is there.
        """
        host, _, port = order.address.rpartition(":")
        try:
            with trio.fail_after(CONNECT_S):
                plain = await trio.open_tcp_stream(host.strip("[]"), int(port))
        except (OSError, trio.TooSlowError) as problem:
            raise HostError("unreachable", f"{order.address}: {problem or 'no answer'}") from None
        async with closing(self.secured(plain, to=order.node)) as stream:
            await shake_hands(stream, order.spki_sha256)
            try:
                await stream.send_all(order.move_id)
            except trio.BrokenResourceError:
                raise HostError("unreachable", f"{order.address} has closed the connection") from None
            yield stream

    def secured(self, plain: trio.SocketStream, *, to: str | None) -> Stream:
        """TLS over *plain*, before the handshake; *to* is the node that we call, None when we are called."""
        own = KeyPair(certificate=pem_of(self.lease.certificate), key=key_pem(self.identity.tls_key))
        context = peer_context(own, self.authority, is_server=to is None)
        host = None if to is None else node_host(to)
        return trio.SSLStream(plain, context, server_hostname=host, server_side=to is None, https_compatible=True)


@dataclass(frozen=True, slots=True)
class Waiting:
    """We wait for the source of a move."""

    peers: Peers
    listener: trio.SocketListener

    @property
    def address(self) -> str:
        """Host and port."""
        host, port, *_ = self.listener.socket.getsockname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @contextlib.asynccontextmanager
    async def accepted(self, spki_sha256: bytes, move_id: bytes) -> AsyncGenerator[Stream]:
        """Connected to the one node that we wait for; others are sent away.

        Raises:
            HostError: ``source_silent``: it did not come.
        """
        with trio.move_on_after(ARRIVE_S) as patience:
            while True:
                plain = await self.listener.accept()
                async with contextlib.AsyncExitStack() as stack:
                    stream = await stack.enter_async_context(closing(self.peers.secured(plain, to=None)))
                    try:
                        await shake_hands(stream, spki_sha256)
                        await _expect(stream, move_id)
                    except HostError as problem:
                        log.warning("another_peer", reason=problem.reason, detail=problem.detail)
                        continue
                    patience.deadline = math.inf
                    yield stream
                    return
        raise HostError("source_silent", f"nobody came to {self.address} in {ARRIVE_S:.0f} s")


async def shake_hands(stream: Stream, spki_sha256: bytes) -> None:
    """Agree on keys with the boot whose TLS key has this hash, and no other.

    Raises:
        HostError: ``another_peer``.
    """
    try:
        with trio.fail_after(CONNECT_S):
            await stream.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError, ssl.SSLError) as problem:
        raise HostError("another_peer", f"no TLS: {problem.__cause__ or problem}") from None
    certificate = stream.getpeercert(binary_form=True)
    found = hashlib.sha256(spki_of_certificate(certificate)).digest()
    if not hmac.compare_digest(found, spki_sha256):
        raise HostError("another_peer", f"its key is {found.hex()[:16]}, not {spki_sha256.hex()[:16]}")


async def _expect(stream: Stream, move_id: bytes) -> None:
    said = b""
    try:
        with trio.fail_after(CONNECT_S):
            while len(said) < ID_BYTES and (more := await stream.receive_some(ID_BYTES - len(said))):
                said += more
    except (trio.BrokenResourceError, trio.TooSlowError):
        pass
    if not hmac.compare_digest(said, move_id):
        raise HostError("another_move", "it does not name the move that we wait for")


@contextlib.asynccontextmanager
async def closing(stream: Stream) -> AsyncGenerator[Stream]:
    """Close the socket at the end, without waiting for the peer."""
    try:
        yield stream
    finally:
        await trio.aclose_forcefully(stream)
