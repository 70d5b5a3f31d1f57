"""One TLS connection with its protocol session: send a message, receive a message, know both ends' keys."""

import os
import select
import ssl
from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

from tccp.errors import ProtocolError
from tccp.model import Nonce, spki_sha256
from tccp.protocol.binding import Channel
from tccp.protocol.messages import AnyMessage, Refused, Revoked
from tccp.protocol.session import Session, State, expect
from tccp.transport.certificates import spki_of_certificate
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls_stream import TlsStream

M = TypeVar("M", bound=AnyMessage)

HANDSHAKE_S = 10.0


class RefusalError(Exception):
    """The peer said `Refused` or `Revoked` where an answer was due; the caller knows what that means."""

    def __init__(self, message: Refused | Revoked) -> None:
        super().__init__(message.reason)
        self.message = message


class Stream(Protocol):
    """What a connection needs of its stream, once the TLS handshake is done: what `TlsStream` says of each."""

    def peer_certificate(self) -> bytes:
        """What the peer showed."""

    async def receive(self) -> bytes:
        """What has arrived."""

    async def pass_on(self, sink: Callable[[bytes], None]) -> None:
        """Give *sink* what arrives."""

    def send_nowait(self, data: bytes) -> bool:
        """Send without waiting."""

    def push(self) -> bool:
        """Send what waits, without waiting."""

    async def flush(self) -> None:
        """Wait until it is sent."""

    def close(self) -> None:
        """Close at once."""


class Connection:
    """Messages over a TLS stream whose handshake is done.

    Args:
        own_spki_sha256: The hash of the TLS key that this end showed.
    """

    def __init__(self, stream: Stream, session: Session, *, own_spki_sha256: bytes) -> None:
        self._stream = stream
        self._session = session
        self._flushing = trio.Lock()
        self.own_spki_sha256 = own_spki_sha256
        self.peer_spki = spki_of_certificate(stream.peer_certificate())
        self.peer_spki_sha256 = spki_sha256(self.peer_spki)

    @property
    def state(self) -> State:
        """How far the session has come."""
        return self._session.state

    def channel(self, coordinator_id: bytes, *, own_end_is_coordinator: bool) -> Channel:
        """The two ends as quotes are bound to them, seen from this side."""
        own, peer = self.own_spki_sha256, self.peer_spki_sha256
        if own_end_is_coordinator:
            return Channel(coordinator_id, coordinator_spki=own, node_spki=peer)
        return Channel(coordinator_id, coordinator_spki=peer, node_spki=own)

    async def send(self, message: AnyMessage) -> None:
        """Put *message* on the wire, and wait until the kernel has taken it.

        Raises:
            PeerGoneError: The peer is gone.
        """
        self.send_nowait(message)
        await self.flush()

    def send_nowait(self, message: AnyMessage) -> bool:
        """Put *message* on the wire without waiting; False when some of it has to wait for `flush`.

        Raises:
            PeerGoneError: The peer is gone, has not read for long, or has broken the protocol meanwhile.
        """
        if self.state is State.CLOSED:
            raise PeerGoneError("peer_gone", "the conversation is over")
        return self._stream.send_nowait(self._session.send(message))

    def push(self) -> bool:
        """Hand the kernel what it takes of what waits, without waiting; raises as `send`."""
        return self._stream.push()

    async def flush(self) -> None:
        """Wait until the kernel has taken everything; raises as `send`."""
        async with self._flushing:  # one task waits for a socket at a time
            await self._stream.flush()

    async def receive(self, kind: type[M]) -> M:
        """The peer's next message, which must be a *kind*.

        Raises:
            ProtocolError: It breaks the protocol.
            RefusalError: It is a refusal or revocation instead.
            PeerGoneError: The peer is gone.
        """
        return expect(await self.receive_any(), kind)

    async def receive_any(self) -> AnyMessage:
        """The peer's next message, whatever else is legal now; raises as `receive` does."""
        while (message := self._session.next_message()) is None:
            data = await self._stream.receive()
            if not data:
                raise self._ended()
            self._session.receive_data(data)
        if isinstance(message, Refused | Revoked):
            raise RefusalError(message)
        return message

    async def pass_on(self, take: Callable[[AnyMessage], None]) -> None:
        """Give *take* every message of the peer as it arrives; only an end ends this, raised as by `receive`.

        No task is woken for a message where the stream can do without; what *take* raises ends it, too.
        """

        def arrived(data: bytes) -> None:
            self._session.receive_data(data)
            while (message := self._session.next_message()) is not None:
                if isinstance(message, Refused | Revoked):
                    raise RefusalError(message)
                take(message)

        arrived(b"")  # what came with the last message
        await self._stream.pass_on(arrived)
        raise self._ended()

    def _ended(self) -> Exception:
        if self._session.holds_partial_message:
            return ProtocolError("truncated", "the peer closed the connection within a message")
        return PeerGoneError("peer_gone", "the peer closed the connection")

    def close(self) -> None:
        """Close, without waiting for the peer."""
        self._stream.close()


def has_left(stream: trio.SocketStream) -> bool:
    """Whether a peer has given up while it waited in the backlog: a handshake would be wasted on it.

    After a restart thousands come at once, and those at the end of the queue are not there any more when it is theirs.
    """
    poll = select.poll()
    poll.register(stream.socket.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


async def handshake(
    stream: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
) -> TlsStream:
    """TLS over *stream*, bounded in time; closed when it fails.

    Raises:
        ProtocolError: ``tls_handshake``: the peer shows no certificate that we accept, or speaks no TLS 1.3.
        PeerGoneError: It vanished, or took longer than `HANDSHAKE_S`.
    """
    if server_side and has_left(stream):
        stream.socket.close()
        raise PeerGoneError("peer_gone", "left before its handshake")
    tls = TlsStream(stream, context, server_side=server_side, server_name=server_name)
    try:
        with trio.fail_after(HANDSHAKE_S):
            await tls.handshake()
    except trio.TooSlowError:
        tls.close()
        raise PeerGoneError("peer_gone", f"no TLS handshake in {HANDSHAKE_S:.0f} s") from None
    except BaseException:
        tls.close()
        raise
    return tls


def fresh_nonce() -> Nonce:
    """32 bytes from the kernel's random generator."""
    return Nonce(os.urandom(32))
