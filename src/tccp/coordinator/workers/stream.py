"""A node's connection as the coordinator sees it when a worker holds the socket: the face of a `TlsStream`."""

from collections.abc import Callable

import trio

from tccp.coordinator.workers.link import CONTENT_BYTES_MAX, STEP_BYTES, Kind, Link
from tccp.errors import ProtocolError
from tccp.transport.errors import PeerGoneError

COUNT_BYTES = 4


class WorkerStream:
    """One end of a TLS connection whose keys and socket are a worker's.

    Args:
        link: To the worker.
        number: Of the connection there.
        certificate: What the node showed, DER.
    """

    def __init__(self, link: Link, number: int, certificate: bytes) -> None:
        self._link, self._number, self._certificate = link, number, certificate
        self._received = bytearray()
        self._taken = 0  # of what arrived, and the worker has not been told so
        self._arrived = trio.Event()
        self._sink: Callable[[bytes], None] | None = None
        self._end: Exception | None = None
        self._has_ended = self._closed = False

    # ---- the worker's word, from the task that reads the link

    def on_data(self, data: bytes) -> None:
        """The node has said this."""
        if self._sink is None:
            self._received += data
            self._arrived.set()
            return
        self._take(len(data))
        try:
            self._sink(data)
        except Exception as problem:  # noqa: BLE001 - also a bug is raised again by the task of this connection
            self._sink = None
            self.on_end(problem)

    def on_end(self, problem: Exception | None) -> None:
        """The connection is over: closed by the node, or else for *problem*."""
        if not self._has_ended:
            self._has_ended, self._end = True, problem
        self._arrived.set()

    # ---- the face of a `TlsStream`

    def peer_certificate(self) -> bytes:
        """The certificate that the peer showed, DER."""
        return self._certificate

    async def receive(self) -> bytes:
        """What has arrived, at least one byte; empty when the peer has closed; raises as `TlsStream.receive` does."""
        while not self._received:
            if self._has_ended:
                if self._end is not None:
                    raise self._end
                return b""
            self._arrived = trio.Event()
            await self._arrived.wait()
        data = self._take_all()
        await trio.lowlevel.checkpoint_if_cancelled()
        return data

    async def pass_on(self, sink: Callable[[bytes], None]) -> None:
        """Give *sink* whatever arrives, at once and in the task that reads the link; returns when the peer closes."""
        if self._received:
            sink(self._take_all())
        self._sink = sink
        try:
            while not self._has_ended:
                self._arrived = trio.Event()
                await self._arrived.wait()
        finally:
            self._sink = None
        if self._end is not None:
            raise self._end

    def send_nowait(self, data: bytes) -> bool:
        """Hand *data* to the worker; False when `flush` should wait until it has read more.

        Raises:
            PeerGoneError: The peer is gone.
        """
        if self._closed or self._has_ended:
            raise PeerGoneError("peer_gone", "closed by us" if self._closed else "the peer closed the connection")
        for start in range(0, len(data), CONTENT_BYTES_MAX):
            self._link.say(Kind.DATA, self._number, data[start : start + CONTENT_BYTES_MAX])
        return True

    def push(self) -> bool:
        """Nothing waits here."""
        return True

    async def flush(self) -> None:
        """Wait until the worker has read most of what it was told. Whether the peer reads is the worker's to see."""
        await self._link.room()

    def close(self) -> None:
        """Have the worker close, after what was sent."""
        if not self._closed:
            self._closed = True
            self._link.say(Kind.CLOSE, self._number)

    def _take_all(self) -> bytes:
        data = bytes(self._received)
        self._received.clear()
        self._take(len(data))
        return data

    def _take(self, count: int) -> None:
        self._taken += count
        if self._taken >= STEP_BYTES:
            self._link.say(Kind.TAKEN, self._number, self._taken.to_bytes(COUNT_BYTES, "big"))
            self._taken = 0


def problem_of(content: bytes) -> Exception | None:
    """Why a connection has ended: ``reason NUL detail``, or nothing when the node has closed it."""
    if not content:
        return None
    reason, _, detail = content.decode("utf-8", "replace").partition("\0")
    return (PeerGoneError if reason == "peer_gone" else ProtocolError)(reason, detail)
