"""Frames survive any cutting of the stream, and nothing else than frames is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import ProtocolError
from tccp.protocol.framing import FRAME_BYTES_MAX, FrameReader, frame


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_frames_arrive_whole_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader, received = FrameReader(), []

    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.receive_data(stream[start:end])
        received += list(reader.frames())

    assert received == payloads
    assert not reader.holds_partial_frame


@pytest.mark.parametrize("size", [0, FRAME_BYTES_MAX + 1, 0xFFFFFFFF])
def test_a_frame_of_an_illegal_size_is_refused_before_its_bytes_arrive(size: int) -> None:
    reader = FrameReader()
    reader.receive_data(size.to_bytes(4, "big"))

    with pytest.raises(ProtocolError, match="frame_size"):
        reader.next_frame()


def test_the_largest_frame_passes() -> None:
    reader = FrameReader()
    reader.receive_data(frame(b"x" * FRAME_BYTES_MAX))

    assert reader.next_frame() == b"x" * FRAME_BYTES_MAX


@pytest.mark.parametrize("payload", [b"", b"x" * (FRAME_BYTES_MAX + 1)])
def test_we_send_no_illegal_frame(payload: bytes) -> None:
    with pytest.raises(ValueError, match="a frame carries"):
        frame(payload)


def test_who_allows_less_takes_and_sends_no_more() -> None:
    reader = FrameReader(bytes_max=5)
    reader.receive_data(frame(b"12345", bytes_max=5) + (6).to_bytes(4, "big"))

    assert reader.next_frame() == b"12345"
    with pytest.raises(ProtocolError, match="frame_size"):
        reader.next_frame()
    with pytest.raises(ValueError, match="1 to 5 bytes, not 6"):
        frame(b"123456", bytes_max=5)


def test_a_length_that_has_not_arrived_whole_is_waited_for() -> None:
    reader = FrameReader()
    for byte in b"\0\0\0":
        reader.receive_data(bytes([byte]))
        assert reader.next_frame() is None
        assert reader.holds_partial_frame
    reader.receive_data(b"\1x")

    assert reader.next_frame() == b"x"
    assert not reader.holds_partial_frame
