"""Wiping leaves nothing in the memory of the very object that held a secret."""

import secrets

import pytest

from tccp.core.memory import wipe


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("size", [2, 32, 5000])
def test_what_was_wiped_is_zeros_for_everybody_who_holds_it(kind: type[bytes] | type[bytearray], size: int) -> None:
    secret = kind(secrets.token_bytes(size))
    held = memoryview(secret)

    wipe(secret)

    assert bytes(held) == bytes(size)


def test_a_slice_is_a_copy_and_stays() -> None:
    """The control, and the limit of it: what was copied before is out of reach."""
    secret = secrets.token_bytes(32)
    copy = secret[:31]

    wipe(secret)

    assert copy != bytes(31)


def test_nothing_is_wiped_to_nothing() -> None:
    wipe(b"")


def test_one_byte_which_python_shares_is_never_wiped() -> None:
    with pytest.raises(AssertionError):
        wipe(b"x")
