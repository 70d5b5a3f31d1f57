"""A secret in shares: any *threshold* of them give it back, fewer say nothing at all about it (Shamir, 1979).

Each byte of the secret is the value at 0 of a polynomial over GF(256) whose other coefficients are random; share x is
its value at x. The field is the one of AES (FIPS 197, 4.2), multiplied without tables, so that no memory access
depends on a secret.
"""

import secrets
from collections.abc import Mapping

SHARES_MAX = 255
_REDUCTION = 0x1B


def split(secret: bytes, threshold: int, count: int) -> dict[int, bytes]:
    """*count* shares of *secret*, by their numbers 1 to *count*; any *threshold* of them give it back."""
    if not 1 <= threshold <= count <= SHARES_MAX:
        raise ValueError(f"{threshold} of {count} shares: from 1 of 1 to 255 of 255 is possible")
    coefficients = [secret, *(secrets.token_bytes(len(secret)) for _ in range(threshold - 1))]
    return {x: value_at(x, coefficients) for x in range(1, count + 1)}


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from as many shares as their threshold was; from fewer, or altered ones, bytes without meaning."""
    size = len(next(iter(shares.values())))
    if any(len(share) != size for share in shares.values()) or not all(1 <= x <= SHARES_MAX for x in shares):
        raise ValueError("shares of different secrets")
    secret = bytes(size)
    for x, share in shares.items():
        # Lagrange: the polynomial that is 1 at x and 0 at the others, at 0. Minus is plus in this field.
        weight = 1
        for other in shares:
            if other != x:
                weight = multiply(weight, multiply(other, inverse(x ^ other)))
        secret = bytes(total ^ multiply(weight, byte) for total, byte in zip(secret, share, strict=True))
    return secret


def value_at(x: int, coefficients: list[bytes]) -> bytes:
    """The polynomials' values at *x*, one for each byte; the secret's coefficient comes first (Horner)."""
    value = bytes(len(coefficients[0]))
    for coefficient in reversed(coefficients):
        value = bytes(multiply(x, total) ^ byte for total, byte in zip(value, coefficient, strict=True))
    return value


def multiply(a: int, b: int) -> int:
    """The product of two bytes in GF(256)."""
    product = 0
    for _ in range(8):
        product ^= a & -(b & 1)
        a = (a << 1 & 0xFF) ^ (_REDUCTION & -(a >> 7))
        b >>= 1
    return product


def inverse(a: int) -> int:
    """The byte whose product with *a* is 1: a to the power of 254."""
    power, result = a, 1
    for _ in range(7):
        power = multiply(power, power)
        result = multiply(result, power)
    return result
