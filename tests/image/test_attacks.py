"""No bit of a sealed image can be changed; and what the same changes do where a defence is left out."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings as sodium

from tccp.errors import SealedImageError
from tccp.image.keys import read_recipient_secret, read_tenant_public
from tests.image.images import CHUNK, HEADER, PAGE, chunk_at, open_bytes, verify_with_key, verify_without_key

VECTORS = Path(__file__).parents[1] / "vectors" / "image"
BASE = gzip.decompress((VECTORS / "base.sealed.gz").read_bytes())
SECRET = read_recipient_secret((VECTORS / "recipient.key").read_bytes())
TENANT = read_tenant_public((VECTORS / "tenant.pub").read_bytes())
HEADER_REASONS = {
    "malformed", "unsupported", "too_large", "truncated", "extended",
    "wrong_key", "suite_altered", "recipient_altered", "header_altered",
}  # fmt: skip


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(SealedImageError) as refused:
        verify_with_key(path, SECRET, TENANT)
    return refused.value.reason


def flipped(position: int, bit: int = 0) -> bytes:
    content = bytearray(BASE)
    content[position] ^= 1 << bit
    return bytes(content)


def test_no_byte_of_the_header_can_be_changed(tmp_path: Path) -> None:
    # Every byte that means something, and some of the zeros in between.
    for position in [*range(360), *range(360, 4032, 97), *range(4032, 4096)]:
        assert refusal(tmp_path / "image", flipped(position, position % 8)) in HEADER_REASONS, position


@settings(max_examples=60)
@given(position=st.integers(4096, HEADER - 1), bit=st.integers(0, 7))
def test_no_bit_of_the_recipients_can_be_changed(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    reason = refusal(tmp_path_factory.mktemp("flip") / "image", flipped(position, bit))

    assert reason in {"malformed", "recipients_altered", "recipient_altered", "not_a_recipient"}


@settings(max_examples=60)
@given(position=st.integers(HEADER, HEADER + PAGE - 1), bit=st.integers(0, 7))
def test_no_bit_of_the_tags_can_be_changed(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "image"

    assert refusal(path, flipped(position, bit)) == "tags_altered"
    with pytest.raises(SealedImageError, match="tags_altered"):
        verify_without_key(path)


@settings(max_examples=60)
@given(position=st.integers(HEADER + PAGE, len(BASE) - 1), bit=st.integers(0, 7))
def test_no_bit_of_the_chunks_can_be_changed(tmp_path_factory: pytest.TempPathFactory, position: int, bit: int) -> None:
    assert refusal(tmp_path_factory.mktemp("flip") / "image", flipped(position, bit)) == "chunk_altered"


@settings(max_examples=60)
@given(length=st.integers(0, len(BASE) + 2 * CHUNK).filter(lambda length: length != len(BASE)))
def test_no_length_but_the_right_one_is_accepted(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    content = BASE[:length].ljust(length, b"\0")

    expected = {"extended"} if length > len(BASE) else {"truncated", "malformed"}
    assert refusal(tmp_path_factory.mktemp("cut") / "image", content) in expected


def test_swapped_chunks_would_pass_if_places_were_not_in_the_nonce() -> None:
    """The control: the same cipher under one nonce for all chunks takes any chunk anywhere."""
    key, nonce = bytes(32), bytes(32)
    first, second = (sodium.crypto_aead_aegis256_encrypt(text, None, nonce, key) for text in (b"1", b"2"))

    assert sodium.crypto_aead_aegis256_decrypt(second, None, nonce, key) == b"2", "in the place of the first"
    assert first != second


def test_a_key_is_committed_to_because_the_cipher_alone_might_not(tmp_path: Path) -> None:
    """The commitment is what a wrong key meets first, before any chunk is looked at."""
    content = bytearray(BASE)
    content[64:96] = bytes(32)
    content[chunk_at(0) : chunk_at(0) + CHUNK] = bytes(CHUNK)

    assert refusal(tmp_path / "image", bytes(content)) == "wrong_key"


def test_nothing_of_an_altered_chunk_is_released(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(flipped(chunk_at(2) + CHUNK - 1))
    with pytest.raises(SealedImageError, match="chunk_altered"):
        open_bytes(path, SECRET, TENANT)

    released = (tmp_path / "image.opened").read_bytes()
    assert released[2 * CHUNK : 3 * CHUNK] == bytes(CHUNK)
