"""Bytes <-> frames: four bytes of length, big-endian, then that many bytes of msgpack."""

from collections.abc import Iterator

from tccp.errors import ProtocolError

FRAME_BYTES_MAX = 1 << 20
HEADER_BYTES = 4


def frame(payload: bytes, *, bytes_max: int = FRAME_BYTES_MAX) -> bytes:
    """*payload* as one frame.

    Raises:
        ValueError: The payload is empty or larger than *bytes_max*: a bug of ours.
    """
    if not 0 < len(payload) <= bytes_max:
        raise ValueError(f"a frame carries 1 to {bytes_max} bytes, not {len(payload)}")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


class FrameReader:
    """Cuts a stream of bytes, however it arrives, into frames."""

    def __init__(self, *, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Take what arrived. Never more than one full frame and one read stay buffered if frames are taken out."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next whole frame, or None until more data has come.

        Raises:
            ProtocolError: The peer announces an empty frame, or one larger than the limit.
        """
        if len(self._buffer) < HEADER_BYTES:
            return None
        size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if not 0 < size <= self._bytes_max:
            raise ProtocolError("frame_size", f"a frame of {size} bytes, {self._bytes_max} are allowed")
        if len(self._buffer) < HEADER_BYTES + size:
            return None
        payload = bytes(self._buffer[HEADER_BYTES : HEADER_BYTES + size])
        del self._buffer[: HEADER_BYTES + size]
        return payload

    def frames(self) -> Iterator[bytes]:
        """All whole frames that have arrived."""
        while (payload := self.next_frame()) is not None:
            yield payload

    @property
    def holds_partial_frame(self) -> bool:
        """Some bytes of an unfinished frame are here: the peer vanished in the middle if no more come."""
        return bool(self._buffer)
