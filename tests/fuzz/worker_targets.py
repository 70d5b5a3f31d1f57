"""Fuzz targets for what a worker may say to its coordinator: see `tests.fuzz.targets`."""

from tccp.coordinator.workers.link import HEADER, Kind, LinkReader, Opened
from tccp.coordinator.workers.stream import problem_of
from tccp.errors import HostError, ProtocolError, TccpError
from tccp.protocol.encoding import decode, encode


def _frame(kind: Kind, number: int, content: bytes) -> bytes:
    return HEADER.pack(len(content), kind, number) + content


def frames() -> list[bytes]:
    said = [_frame(Kind.READY, 0, b""), _frame(Kind.DATA, 7, bytes(600)), _frame(Kind.ENDED, 7, b"peer_gone\0away")]
    return [*said, b"".join(said), b"".join(said)[:-3]]


def feed_frames(data: bytes) -> bool:
    """However it is cut, the same frames come out; and what ends a connection is an error of ours, or none."""
    whole, cut = _cut([data]), _cut([data[:5], data[5:11], data[11:]])
    assert whole == cut
    for _, _, content in whole or ():
        assert problem_of(content) is None or isinstance(problem_of(content), TccpError)
    return bool(whole)


def _cut(parts: list[bytes]) -> list[tuple[Kind, int, bytes]] | None:
    reader = LinkReader()
    try:
        return [frame for part in parts for frame in reader.receive(part)]
    except HostError:
        return None


def opened() -> list[bytes]:
    return [encode(Opened("192.0.2.1:40000", bytes(500)))]


def feed_opened(data: bytes) -> bool:
    try:
        decode(data, Opened)
    except ProtocolError:
        return False
    return True
