"""Reading what a TPM says never runs past the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import TpmError
from tccp.tpm.marshal import Reader, tpm2b, u8, u16, u32


@given(st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.binary(max_size=100))
def test_what_was_written_is_read_back(one: int, two: int, four: int, buffer: bytes) -> None:
    reader = Reader(u8(one) + u16(two) + u32(four) + tpm2b(buffer) + b"rest")

    assert (reader.uint(1), reader.uint(2), reader.uint(4), reader.tpm2b(), reader.rest()) == (
        *(one, two, four, buffer),
        b"rest",
    )
    reader.finish()


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"", lambda reader: reader.uint(1)),
        (b"123", lambda reader: reader.uint(4)),
        (b"12", lambda reader: reader.take(3)),
        (b"\x00", Reader.tpm2b),
        (b"\x00\x03ab", Reader.tpm2b),
        (b"\xff\xff", Reader.tpm2b),
        (u32(2) + b"1234567", lambda reader: reader.count(4)),
        (u32(0xFFFFFFFF), lambda reader: reader.count(1)),
        (b"x", Reader.finish),
    ],
)
def test_too_few_or_too_many_bytes_are_malformed(data: bytes, read: object) -> None:
    assert callable(read)
    with pytest.raises(TpmError, match="tpm_malformed_response"):
        read(Reader(data))
