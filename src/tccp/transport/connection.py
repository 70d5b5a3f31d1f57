"""One TLS connection with its protocol session: send a message, receive a message, know both ends' keys."""

import os
import ssl
from typing import TypeVar

import trio

from tccp.errors import HostError, ProtocolError
from tccp.model import Nonce, spki_sha256
from tccp.protocol.binding import Channel
from tccp.protocol.messages import AnyMessage, Refused, Revoked
from tccp.protocol.session import Session, expect
from tccp.transport.certificates import spki_of_certificate

M = TypeVar("M", bound=AnyMessage)

READ_BYTES = 65_536
HANDSHAKE_S = 10.0


class PeerGoneError(HostError):
    """The peer closed the connection or vanished; ``reason`` is ``peer_gone``."""


class Connection:
    """Messages over a TLS stream whose handshake is done.

    Args:
        stream: Must have been through `handshake`.
        own_spki_sha256: The hash of the TLS key that this end showed.
    """

    def __init__(
        self, stream: "trio.SSLStream[trio.SocketStream]", session: Session, *, own_spki_sha256: bytes
    ) -> None:
        self._stream = stream
        self._session = session
        certificate = stream.getpeercert(binary_form=True)
        assert certificate, "both contexts demand a certificate"
        self.own_spki_sha256 = own_spki_sha256
        self.peer_spki = spki_of_certificate(certificate)
        self.peer_spki_sha256 = spki_sha256(self.peer_spki)

    def channel(self, coordinator_id: bytes, *, own_end_is_coordinator: bool) -> Channel:
        """The two ends as quotes are bound to them, seen from this side."""
        own, peer = self.own_spki_sha256, self.peer_spki_sha256
        if own_end_is_coordinator:
            return Channel(coordinator_id, coordinator_spki=own, node_spki=peer)
        return Channel(coordinator_id, coordinator_spki=peer, node_spki=own)

    async def send(self, message: AnyMessage) -> None:
        """Put *message* on the wire.

        Raises:
            PeerGoneError: The peer is gone.
        """
        data = self._session.send(message)
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
            raise PeerGoneError("peer_gone", str(problem.__cause__ or problem)) from None

    async def receive(self, kind: type[M]) -> M:
        """The peer's next message, which must be a *kind*.

        Raises:
            ProtocolError: It breaks the protocol.
            RefusalError: It is a refusal or revocation instead.
            PeerGoneError: The peer is gone.
        """
        message = await self.receive_any()
        if isinstance(message, Refused | Revoked) and not issubclass(kind, Refused | Revoked):
            raise RefusalError(message)
        return expect(message, kind)

    async def receive_any(self) -> AnyMessage:
        """The peer's next message, whatever is legal now; raises as `receive` does."""
        while (message := self._session.next_message()) is None:
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
                raise PeerGoneError("peer_gone", str(problem.__cause__ or problem)) from None
            if not data:
                raise self._ended()
            self._session.receive_data(bytes(data))
        return message

    def _ended(self) -> Exception:
        if self._session.holds_partial_message:
            return ProtocolError("truncated", "the peer closed the connection within a message")
        return PeerGoneError("peer_gone", "the peer closed the connection")

    async def aclose(self) -> None:
        """Close, without waiting for the peer."""
        await trio.aclose_forcefully(self._stream)


class RefusalError(Exception):
    """The peer said `Refused` or `Revoked` where an answer was due; the caller knows what that means."""

    def __init__(self, message: Refused | Revoked) -> None:
        super().__init__(message.reason)
        self.message = message


async def handshake(
    stream: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
) -> "trio.SSLStream[trio.SocketStream]":
    """TLS over *stream*, bounded in time.

    Raises:
        ProtocolError: ``tls_handshake``: the peer shows no certificate that we accept, or speaks no TLS 1.3.
        PeerGoneError: It vanished, or took longer than `HANDSHAKE_S`.
    """
    wrapped = trio.SSLStream(
        stream, context, server_side=server_side, server_hostname=server_name, https_compatible=True
    )
    try:
        with trio.fail_after(HANDSHAKE_S):
            await wrapped.do_handshake()
    except trio.TooSlowError:
        raise PeerGoneError("peer_gone", f"no TLS handshake in {HANDSHAKE_S:.0f} s") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        if isinstance(problem.__cause__, ssl.SSLError):
            raise ProtocolError("tls_handshake", str(problem.__cause__)) from None
        raise PeerGoneError("peer_gone", str(problem.__cause__ or problem)) from None
    return wrapped


def fresh_nonce() -> Nonce:
    """32 bytes from the kernel's random generator."""
    return Nonce(os.urandom(32))
