"""TLS for what is carried in bulk: OpenSSL reads and writes the socket itself, so that a thread can see to it.

The loop shakes hands and says a little; then a thread may take over (`read_into`, `write`), in which Python's lock is
free while bytes are encrypted and copied: a third of the processor time that `tccp.transport.tls_stream` takes for as
many bytes. Never both at a time.
"""

import socket
import ssl
from typing import Protocol

import trio

from tccp.errors import ProtocolError
from tccp.transport.errors import PeerGoneError

# A peer that has vanished without a word is noticed by the kernel: after so long without an answer to what was sent,
# or to the questions that are asked when nothing is.
SILENT_MS_MAX = 15_000
ASK_AFTER_S, ASK_EVERY_S, ASK_TIMES = 5, 2, 5


class BulkWire(Protocol):
    """What a thread needs of a stream; nothing of it waits."""

    def fileno(self) -> int:
        """Of the socket, for poll."""

    def read_into(self, view: memoryview) -> int:
        """Some bytes; 0 at the end. BlockingIOError: none just now. OSError: it is broken."""

    def write(self, view: memoryview) -> int:
        """How much was taken. BlockingIOError: nothing just now; say the same again. OSError: it is broken."""


class BulkStream:
    """One end of a TLS connection.

    Args:
        stream: Connected; its socket belongs to this object from now on.
        server_name: Demanded of the peer's certificate, as far as *context* does.

    Attributes:
        sent_bytes, received_bytes: So far, without what TLS adds.

    Raises:
        PeerGoneError: The peer has reset the connection already.
    """

    def __init__(
        self, stream: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
    ) -> None:
        self.sent_bytes = self.received_bytes = 0
        plain = socket.socket(fileno=stream.socket.detach())
        try:
            plain.setblocking(False)
            # Where either fails, Python's TLS would drop the socket: nobody is there any more, or can be called so.
            plain.getpeername()
            (server_name or "").encode("idna")
            if plain.family != socket.AF_UNIX:
                _notice_silence(plain)
            self._tls = context.wrap_socket(
                plain, server_side=server_side, server_hostname=server_name, do_handshake_on_connect=False
            )
        except (OSError, UnicodeError) as problem:
            plain.close()
            raise PeerGoneError("peer_gone", str(problem)) from None

    async def handshake(self) -> None:
        """Agree on keys; each side knows the other's certificate afterwards.

        Raises:
            ProtocolError: ``tls_handshake``: the peer shows no certificate that we accept, or speaks no TLS 1.3.
            PeerGoneError: It vanished.
        """
        while True:
            try:
                self._tls.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                await self._wait(wanted)
            except ssl.SSLError as problem:
                raise ProtocolError("tls_handshake", str(problem)) from None
            except (OSError, ValueError) as problem:
                raise PeerGoneError("peer_gone", str(problem)) from None
            else:
                return

    def peer_certificate(self) -> bytes:
        """The certificate that the peer showed, DER."""
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate, "both contexts demand a certificate"
        return certificate

    # ---- for the loop

    async def send_all(self, data: bytes) -> None:
        """Send *data*.

        Raises:
            PeerGoneError: The peer is gone.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[self.write(view) :]
            except BlockingIOError:
                await self._wait(ssl.SSLWantWriteError())
            except (OSError, ValueError) as problem:
                raise PeerGoneError("peer_gone", str(problem)) from None
        await trio.lowlevel.checkpoint_if_cancelled()

    async def receive_some(self, max_bytes: int) -> bytes:
        """What there is, at least one byte; nothing at the end.

        Raises:
            PeerGoneError: The peer is gone, or breaks TLS.
        """
        while True:
            try:
                data = self._tls.recv(max_bytes)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                await self._wait(wanted)
            except (OSError, ValueError) as problem:
                raise PeerGoneError("peer_gone", str(problem)) from None
            else:
                self.received_bytes += len(data)
                await trio.lowlevel.checkpoint_if_cancelled()
                return data

    def close(self) -> None:
        """Close at once, without waiting for the peer. No thread uses it any more."""
        if self._tls.fileno() >= 0:
            trio.lowlevel.notify_closing(self._tls)
            self._tls.close()

    async def _wait(self, wanted: ssl.SSLError) -> None:
        try:
            if isinstance(wanted, ssl.SSLWantReadError):
                await trio.lowlevel.wait_readable(self._tls)
            else:
                await trio.lowlevel.wait_writable(self._tls)
        except (trio.ClosedResourceError, ValueError):
            raise PeerGoneError("peer_gone", "closed by us") from None

    # ---- for a thread

    def fileno(self) -> int:
        """See `BulkWire`."""
        return self._tls.fileno()

    def read_into(self, view: memoryview) -> int:
        """See `BulkWire`."""
        try:
            count = self._tls.recv_into(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        self.received_bytes += count
        return count

    def write(self, view: memoryview) -> int:
        """See `BulkWire`."""
        try:
            count = self._tls.send(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        self.sent_bytes += count
        return count


def _notice_silence(plain: socket.socket) -> None:
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, ASK_AFTER_S),
        (socket.TCP_KEEPINTVL, ASK_EVERY_S),
        (socket.TCP_KEEPCNT, ASK_TIMES),
        (socket.TCP_USER_TIMEOUT, SILENT_MS_MAX),
        (socket.TCP_NODELAY, 1),
    ):
        plain.setsockopt(socket.IPPROTO_TCP, option, value)
