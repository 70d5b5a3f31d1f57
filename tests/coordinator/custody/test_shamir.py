"""Shares of a secret: enough of them give it back, fewer say nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.coordinator.custody.shamir import combine, inverse, multiply, split, value_at


def test_the_field_is_the_one_of_aes() -> None:
    """FIPS 197, 4.2 and 4.2.1."""
    assert multiply(0x57, 0x83) == 0xC1
    assert [multiply(0x57, x) for x in (0x02, 0x04, 0x08, 0x10, 0x13)] == [0xAE, 0x47, 0x8E, 0x07, 0xFE]


def test_every_byte_but_zero_has_an_inverse() -> None:
    assert all(multiply(a, inverse(a)) == 1 for a in range(1, 256))
    assert inverse(0) == 0


def test_shares_that_another_implementation_made_combine_here() -> None:
    """Made with shamir-mnemonic 0.3.0 (SLIP-39): a parabola through the secret at 0 and two points, at 3, 100, 255."""
    shares = {
        3: "cadfccf1ee23202512677419160b080d1aef1c013e3330756277442926dbd8dd",
        100: "94e5482cd1cf3b13a5ecb40f5e7989541dbe2007b9c7336c991d06b5e41110cd",
        255: "2b5020e77dc7e0cc60ba826eeb12ed8914d5c23b9f3116d644777136b3f09ffb",
    }

    assert combine({x: bytes.fromhex(share) for x, share in shares.items()}) == bytes(range(32))


@given(secret=st.binary(min_size=1, max_size=64), threshold=st.integers(1, 6), more=st.integers(0, 4), data=st.data())
def test_any_threshold_of_shares_give_the_secret_back(
    secret: bytes, threshold: int, more: int, data: st.DataObject
) -> None:
    shares = split(secret, threshold, threshold + more)
    chosen = data.draw(st.permutations(sorted(shares)))[: data.draw(st.integers(threshold, len(shares)))]

    assert combine({x: shares[x] for x in chosen}) == secret


def test_one_share_of_two_is_as_likely_under_every_secret() -> None:
    """All there is: each of the 256 polynomials for each secret."""
    for secret in range(256):
        at_three = {value_at(3, [bytes([secret]), bytes([slope])]) for slope in range(256)}
        assert len(at_three) == 256


def test_two_shares_of_three_are_as_likely_under_every_secret() -> None:
    by_7, by_7_squared = ([multiply(a, x) for a in range(256)] for x in (7, multiply(7, 7)))
    for secret in range(0, 256, 51):
        seen = {
            (secret ^ a ^ b, secret ^ by_7[a] ^ by_7_squared[b]) for a, b in itertools.product(range(256), repeat=2)
        }
        assert len(seen) == 65_536


def test_as_many_shares_as_the_threshold_fix_the_secret() -> None:
    """The control: with one share more, only one secret is left."""
    for secret in (0x00, 0x5A):
        for a, b in itertools.product((1, 77, 200), repeat=2):
            three = {x: bytes([_value(x, secret, a, b)]) for x in (1, 7, 9)}
            assert combine(three) == bytes([secret])


def test_fewer_shares_combine_to_something_else() -> None:
    shares = split(bytes(range(32)), 3, 5)

    assert combine({1: shares[1], 2: shares[2]}) != bytes(range(32))


@pytest.mark.parametrize(("threshold", "count"), [(0, 1), (3, 2), (2, 256)])
def test_numbers_that_cannot_be_are_refused(threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match="shares"):
        split(b"secret", threshold, count)


def test_shares_of_different_secrets_are_refused() -> None:
    with pytest.raises(ValueError, match="different"):
        combine({1: b"a", 2: b"bc"})
    with pytest.raises(ValueError, match="different"):
        combine({0: b"a", 2: b"b"})


def _value(x: int, secret: int, a: int, b: int) -> int:
    """Over integers and by squares, not by Horner's rule as the code does."""
    return secret ^ multiply(a, x) ^ multiply(b, multiply(x, x))
