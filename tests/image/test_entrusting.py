"""Keys that are handed on open for one recipient, for one purpose, whole or not at all."""

from pathlib import Path

import pytest

from tccp.core._lib import ffi
from tccp.core.image import ImageKey
from tccp.errors import LaunchError
from tccp.image.entrusting import unwrap_keys, wrap_keys
from tccp.image.keys import RecipientSecretKey
from tccp.image.recipients import HPKE

OURS, OTHERS = RecipientSecretKey.from_seed(b"\x01" * 32), RecipientSecretKey.from_seed(b"\x02" * 32)
PLAIN = [b"\x0a" * 32, b"\x0b" * 32, b"\x0c" * 32]


def keys() -> list[ImageKey]:
    return [ImageKey.take(bytearray(plain)) for plain in PLAIN]


def opened(wrapped: bytes, *, secret: RecipientSecretKey = OURS, info: bytes = b"vm 1", count: int = 3) -> list[bytes]:
    return [bytes(key.buffer) for key in unwrap_keys(wrapped, secret, info, count=count)]


def test_keys_come_out_in_their_order() -> None:
    assert opened(wrap_keys(keys(), OURS.public, b"vm 1")) == PLAIN


@pytest.mark.parametrize(
    "wrong", [{"secret": OTHERS}, {"info": b"vm 2"}, {"count": 2}, {"count": 4}], ids=lambda wrong: next(iter(wrong))
)
def test_they_open_for_nobody_else_and_nothing_else(wrong: dict[str, object]) -> None:
    wrapped = wrap_keys(keys(), OURS.public, b"vm 1")

    with pytest.raises(LaunchError) as refused:
        opened(wrapped, **wrong)  # type: ignore[arg-type]
    assert refused.value.reason == "keys_unopened"


def test_no_byte_of_the_box_can_be_changed() -> None:
    wrapped = wrap_keys(keys(), OURS.public, b"vm 1")

    for place in range(0, len(wrapped), 37):
        altered = wrapped[:place] + bytes([wrapped[place] ^ 1]) + wrapped[place + 1 :]
        with pytest.raises(LaunchError, match="keys_unopened"):
            opened(altered)
    for cut in (b"", wrapped[:-1], wrapped + b"\x00"):
        with pytest.raises(LaunchError, match="keys_unopened"):
            opened(cut)


@pytest.mark.parametrize("length", [31, 95, 97])
def test_a_box_of_another_size_holds_no_keys(length: int) -> None:
    wrapped = HPKE.encrypt(bytes(length), OURS.public.hpke_key(), b"vm 1")

    for count in (length // 32, 3):
        with pytest.raises(LaunchError) as refused:
            opened(wrapped, count=count)
        assert refused.value.reason == "keys_unopened"


def test_a_wiped_key_opens_nothing_any_more() -> None:
    key = keys()[0]
    key.wipe()
    key.wipe()

    assert key.is_wiped
    with pytest.raises(TypeError):
        wrap_keys([key], OURS.public, b"vm 1")


def test_a_key_is_wiped_at_once_unless_c_still_works_with_it_in_another_thread() -> None:
    """libsodium gives each key pages of its own, and takes them away, wiped, when the key is freed."""
    key, used = ImageKey.generate(), ImageKey.generate()
    place, place_of_used = address(key), address(used)
    in_c = used.handle  # as the argument of a call that has not returned

    key.wipe()
    used.wipe()

    assert not is_mapped(place)
    assert is_mapped(place_of_used)
    del in_c
    assert not is_mapped(place_of_used)


def address(key: ImageKey) -> int:
    return int(ffi.cast("uintptr_t", key.handle))


def is_mapped(place: int) -> bool:
    ranges = (line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines())
    return any(int(start, 16) <= place < int(end, 16) for start, end in ranges)
