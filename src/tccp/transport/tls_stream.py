"""TLS over a trio socket, with a way to send that does not wait.

trio's own SSLStream wakes a task for every record that is sent; a coordinator that answers hundreds of nodes at
once encrypts and hands to the kernel what it can, and lets a task of its own wait only for those peers that do not
read. Both ends of every connection use this class.
"""

import socket
import ssl
from collections.abc import Callable

import trio

from tccp.errors import ProtocolError
from tccp.transport.errors import PeerGoneError

READ_BYTES = 65_536
SEND_BYTES = 262_144
# A peer that lets this much wait has stopped reading; nothing that we say is longer than a frame.
UNSENT_BYTES_MAX = 2 << 20


class TlsStream:
    """One end of a TLS connection. One task reads; sending is for one task at a time.

    Args:
        stream: Connected; its socket belongs to this object from now on.
    """

    def __init__(
        self, stream: trio.SocketStream, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
    ) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._unsent = bytearray()
        self._closed = False

    async def handshake(self) -> None:
        """Agree on keys; each side knows the other's certificate afterwards.

        Raises:
            ProtocolError: ``tls_handshake``: the peer shows no certificate that we accept, or speaks no TLS 1.3.
            PeerGoneError: It vanished.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send_outgoing()
                await self._read_more()
            except ssl.SSLError as problem:
                await self._send_alert()
                raise ProtocolError("tls_handshake", str(problem)) from None
            else:
                await self._send_outgoing()
                return

    def peer_certificate(self) -> bytes:
        """The certificate that the peer showed, DER."""
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate, "both contexts demand a certificate"
        return certificate

    async def receive(self) -> bytes:
        """What has arrived, at least one byte; empty when the peer has closed.

        Raises:
            PeerGoneError: It vanished.
            ProtocolError: ``tls_record``: what came is not from the peer, or it breaks TLS.
        """
        if not (self._incoming.pending or self._incoming.eof or self._tls.pending()):
            await self._read_more()  # a read would only say so
        while True:
            try:
                data = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                await self._read_more()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLEOFError:
                return b""
            except ssl.SSLError as problem:
                raise ProtocolError("tls_record", str(problem)) from None
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
                return data

    async def pass_on(self, sink: Callable[[bytes], None]) -> None:
        """Give *sink* whatever arrives, until the peer closes; raises as `receive`, and what *sink* does."""
        while data := await self.receive():
            sink(data)

    def send_nowait(self, data: bytes) -> bool:
        """Encrypt *data* and hand the kernel what it takes; False when some is left for `flush`.

        Raises:
            PeerGoneError: The peer is gone, or has not read for long.
        """
        try:
            self._tls.write(data)
        except ssl.SSLError as problem:
            raise PeerGoneError("peer_gone", str(problem)) from None
        record = self._outgoing.read()
        if not self._unsent and not self._closed:  # mostly the kernel takes all of it
            record = record[self._send(record) :]
            if not record:
                return True
        self._unsent += record
        if len(self._unsent) > UNSENT_BYTES_MAX:
            raise PeerGoneError("peer_gone", f"does not read; {len(self._unsent)} bytes wait")
        return self._push()

    def push(self) -> bool:
        """Hand the kernel what it takes of what waits; False when some is left; raises as `flush`."""
        return self._push()

    async def flush(self) -> None:
        """Wait until the kernel has taken everything.

        Raises:
            PeerGoneError: The peer is gone.
        """
        while not self._push():
            try:
                await trio.lowlevel.wait_writable(self._socket)
            except trio.ClosedResourceError:
                raise PeerGoneError("peer_gone", "closed by us") from None

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 - at most `READ_BYTES`
        """`receive`, as trio calls it."""
        return await self.receive()

    async def send_all(self, data: bytes) -> None:
        """Send *data*, of any length, and return when the kernel has taken everything.

        Raises:
            PeerGoneError: The peer is gone.
        """
        for start in range(0, len(data), SEND_BYTES):
            self.send_nowait(data[start : start + SEND_BYTES])
            await self.flush()

    def close(self) -> None:
        """Close at once, without waiting for the peer."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _push(self) -> bool:
        if self._closed:
            raise PeerGoneError("peer_gone", "closed by us")
        while self._unsent:
            sent = self._send(self._unsent)
            if not sent:
                return False
            del self._unsent[:sent]
        return True

    def _send(self, data: bytes | bytearray) -> int:
        """How many bytes the kernel took; 0 when it takes none now."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as problem:
            raise PeerGoneError("peer_gone", problem.strerror or "gone") from None

    async def _send_outgoing(self) -> None:
        self._unsent += self._outgoing.read()
        await self.flush()

    async def _send_alert(self) -> None:
        """Say why, if the peer listens at once."""
        try:
            self._unsent += self._outgoing.read()
            self._push()
        except PeerGoneError:
            return

    async def _read_more(self) -> None:
        try:
            await trio.lowlevel.wait_readable(self._socket)
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except (OSError, trio.ClosedResourceError, ValueError) as problem:
            raise PeerGoneError("peer_gone", str(problem)) from None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
