"""Points of NIST's curves by the school-book, for signatures that no library makes (SEC 1, 2.2.1)."""

from dataclasses import dataclass
from typing import Self

Point = tuple[int, int]


@dataclass(frozen=True)
class Curve:
    """y^2 = x^3 - 3 x + b over a prime field; the point at infinity is no `Point`."""

    kind: str
    prime: int
    b: int
    order: int
    generator: Point

    @classmethod
    def named(cls, kind: str) -> Self:
        if kind == "p256":
            return cls(
                kind,
                2**256 - 2**224 + 2**192 + 2**96 - 1,
                0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
                0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
                (
                    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
                    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
                ),
            )
        return cls(
            kind,
            2**384 - 2**128 - 2**96 + 2**32 - 1,
            0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
            0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
            (
                0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
                0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
            ),
        )

    def add(self, p: Point, q: Point) -> Point:
        if p == q:
            slope = (3 * p[0] * p[0] - 3) * pow(2 * p[1], -1, self.prime)
        else:
            slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, self.prime)
        x = (slope * slope - p[0] - q[0]) % self.prime
        return x, (slope * (p[0] - x) - p[1]) % self.prime

    def multiply(self, scalar: int, point: Point) -> Point:
        total: Point | None = None
        for bit in range(scalar.bit_length()):
            if scalar >> bit & 1:
                total = point if total is None else self.add(total, point)
            point = self.add(point, point)
        assert total
        return total

    def lift(self, x: int) -> Point | None:
        """A point with this x; None when there is none. Both primes are 3 modulo 4."""
        square = (x**3 - 3 * x + self.b) % self.prime
        y = pow(square, (self.prime + 1) // 4, self.prime)
        return (x, y) if y * y % self.prime == square else None
