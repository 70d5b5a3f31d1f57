"""From node to node: TLS between two boots that the coordinator has told of each other.

Both ends show the certificates of their leases, and each demands the very key that the coordinator named: a lease
alone, of whichever node, opens nothing. The first bytes of a stream name the move, and say which of its streams it is:
on 0 both ends talk, 1 carries memory, devices and vTPM, each other one a disk.
"""

import contextlib
import hashlib
import hmac
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import structlog
import trio

from tccp.errors import HostError, ProtocolError
from tccp.node.identity import NodeIdentity
from tccp.node.registration import HeldLease
from tccp.node.vm.alone import together
from tccp.protocol.messages import MoveOrder
from tccp.transport.bulk_stream import BulkStream
from tccp.transport.calling import call
from tccp.transport.certificates import KeyPair, key_pem, node_host, pem_of, spki_of_certificate
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls import peer_context

CONNECT_S = 15.0
ARRIVE_S = 60.0  # from when we may be sent the VM until its node is there
STRANGERS_MAX = 64  # who come while we wait, and are looked at at the same time
ID_BYTES = 32

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
    async def connected(self, order: MoveOrder, count: int) -> AsyncGenerator[list[BulkStream]]:
        """Connected *count* times to the destination of *order*, which knows the move and which stream each is.

        Raises:
            HostError: ``unreachable``; ``another_peer``: another is there.
        """
        found: dict[int, BulkStream] = {}
        with contextlib.ExitStack() as stack:

            async def connect(number: int) -> None:
                stream = await self._call(order)
                stack.callback(stream.close)
                await shake_hands(stream, order.spki_sha256)
                try:
                    await stream.send_all(order.move_id + bytes([number]))
                except PeerGoneError:
                    raise HostError("unreachable", f"{order.address} has closed the connection") from None
                found[number] = stream

            async with together() as begin:
                for number in range(count):
                    begin(connect, number)
            yield [found[number] for number in range(count)]

    async def _call(self, order: MoveOrder) -> BulkStream:
        host, _, port = order.address.rpartition(":")
        return self.secured(await call(host.strip("[]"), int(port), within_s=CONNECT_S), to=order.node)

    def secured(self, plain: trio.SocketStream, *, to: str | None) -> BulkStream:
        """TLS over *plain*, before the handshake; *to* is the node that we call, None when we are called."""
        own = KeyPair(certificate=pem_of(self.lease.certificate), key=key_pem(self.identity.tls_key))
        context = peer_context(own, self.authority, is_server=to is None)
        return BulkStream(plain, context, server_side=to is None, server_name=None if to is None else node_host(to))


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
    async def accepted(self, spki_sha256: bytes, move_id: bytes, count: int) -> AsyncGenerator[list[BulkStream]]:
        """Connected *count* times to the one node that we wait for; others are sent away.

        Raises:
            HostError: ``source_silent``: it did not come.
        """
        found: dict[int, BulkStream] = {}
        with contextlib.ExitStack() as stack:
            try:
                await self._take_in(found, spki_sha256, move_id, count)
            finally:
                for stream in found.values():
                    stack.callback(stream.close)
            if len(found) < count:
                raise HostError("source_silent", f"nobody came to {self.address} in {ARRIVE_S:.0f} s")
            yield [found[number] for number in range(count)]

    async def _take_in(self, found: dict[int, BulkStream], spki_sha256: bytes, move_id: bytes, count: int) -> None:
        """Until all are there, or the time is over. A stranger who says nothing keeps nobody else waiting."""
        at_once = trio.Semaphore(STRANGERS_MAX)

        async def look_at(plain: trio.SocketStream) -> None:
            stream, number = None, None
            try:
                stream = self.peers.secured(plain, to=None)
                await shake_hands(stream, spki_sha256)
                number = await _expect(stream, move_id, set(range(count)) - set(found))
            except HostError as problem:
                log.warning("another_peer", reason=problem.reason, detail=problem.detail)
            finally:
                at_once.release()
                if number is None and stream is not None:
                    stream.close()
            if stream is None or number is None:
                return
            if number in found:  # two say that they are the same
                stream.close()
            else:
                found[number] = stream
                if len(found) == count:
                    nursery.cancel_scope.cancel()

        with trio.move_on_after(ARRIVE_S):
            async with trio.open_nursery() as nursery:
                while True:
                    await at_once.acquire()
                    nursery.start_soon(look_at, await self.listener.accept())


async def shake_hands(stream: BulkStream, spki_sha256: bytes) -> None:
    """Agree on keys with the boot whose TLS key has this hash, and no other.

    Raises:
        HostError: ``another_peer``.
    """
    try:
        with trio.fail_after(CONNECT_S):
            await stream.handshake()
    except (ProtocolError, PeerGoneError, trio.TooSlowError) as problem:
        raise HostError("another_peer", f"no TLS: {problem}") from None
    found = hashlib.sha256(spki_of_certificate(stream.peer_certificate())).digest()
    if not hmac.compare_digest(found, spki_sha256):
        raise HostError("another_peer", f"its key is {found.hex()[:16]}, not {spki_sha256.hex()[:16]}")


async def _expect(stream: BulkStream, move_id: bytes, missing: set[int]) -> int:
    """Which stream of the move it is."""
    said = b""
    with contextlib.suppress(PeerGoneError, trio.TooSlowError), trio.fail_after(CONNECT_S):
        while len(said) <= ID_BYTES and (more := await stream.receive_some(1 + ID_BYTES - len(said))):
            said += more
    if not hmac.compare_digest(said[:ID_BYTES], move_id) or len(said) != 1 + ID_BYTES:
        raise HostError("another_move", "it does not name the move that we wait for")
    if said[ID_BYTES] not in missing:
        raise HostError("another_move", f"stream {said[ID_BYTES]} is none that is missing")
    return said[ID_BYTES]
