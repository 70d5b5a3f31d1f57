"""What a witness is sent, as the specification writes it."""

import pytest

from tccp.errors import LogError
from tccp.transparency.add_checkpoint import PROOF_LINES_MAX, AddCheckpoint, parse_add_checkpoint, parse_size
from tccp.transparency.note import to_base64
from tests.transparency.support import signed_checkpoint

NOTE = signed_checkpoint(20, bytes(32))
HASHES = (bytes(32), b"\xff" * 32)


def test_a_request_is_written_as_the_specification_shows_it() -> None:
    body = AddCheckpoint(17, HASHES, NOTE).encode()

    assert body == f"old 17\n{to_base64(HASHES[0])}\n{to_base64(HASHES[1])}\n\n".encode() + NOTE
    assert parse_add_checkpoint(body) == AddCheckpoint(17, HASHES, NOTE)
    assert parse_add_checkpoint(b"old 0\n\n" + NOTE) == AddCheckpoint(0, (), NOTE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 1\n" + NOTE[:20],
        b"old 01\n\n" + NOTE,
        b"old -1\n\n" + NOTE,
        b"old 9223372036854775808\n\n" + NOTE,
        b"Old 1\n\n" + NOTE,
        b"old 1 \n\n" + NOTE,
        b"old 1\r\n\r\n" + NOTE,
        b"old 1\nAAAA\n\n" + NOTE,
        b"old 1\n" + to_base64(bytes(32)).encode() + b" \n\n" + NOTE,
        b"old 1\n" + (to_base64(bytes(32)).encode() + b"\n") * (PROOF_LINES_MAX + 1) + b"\n" + NOTE,
        b"x" * 200_000,
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(LogError, match="request_malformed"):
        parse_add_checkpoint(body)


def test_a_size_has_one_spelling() -> None:
    assert parse_size(b"17\n") == 17
    for body in (b"", b"017\n", b"17\n\n", b"17 entries", b"9" * 40):
        with pytest.raises(LogError, match="answer_malformed"):
            parse_size(body)
