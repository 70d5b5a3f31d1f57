"""The nouns of tccp: values that cannot be wrong once they are made.

Bytes that came from a peer become one of these after their length was checked, and what is equal prints equal.
"""

import enum
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NONCE_BYTES = 32
PCR_COUNT = 24
# PCR 16 (debug) and PCR 23 (application) can be reset by software at any time: they prove nothing.
RESETTABLE_PCRS = frozenset({16, 23})
EXIT_BOOT_SERVICES_PCR = 5  # the last that firmware measures, if it does at all
IMA_PCR = 10
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
# It becomes part of a name in certificates; with an empty label in it, TLS would take none of them.
NODE_NAME = re.compile(rf"(?=.{{1,63}}\Z){_LABEL}(?:\.{_LABEL})*")


class PcrBank(enum.IntEnum):
    """A PCR bank, by its TPM_ALG_ID (TCG Algorithm Registry, table 3)."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D

    @property
    def hash_name(self) -> str:
        """The name that hashlib knows: ``"sha256"``."""
        return self.name.lower()

    @property
    def digest_bytes(self) -> int:
        """How long a PCR value of this bank is."""
        return _DIGEST_BYTES[self]

    @classmethod
    def from_name(cls, name: str) -> "PcrBank":
        """The bank that a person calls *name* (``sha256``).

        Raises:
            ValueError: There is no such bank.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            known = ", ".join(bank.hash_name for bank in cls)
            raise ValueError(f"{name!r} is not a PCR bank; one of {known}") from None


_DIGEST_BYTES = {PcrBank.SHA1: 20, PcrBank.SHA256: 32, PcrBank.SHA384: 48, PcrBank.SHA512: 64}


@functools.lru_cache(maxsize=64)
def _mask(indexes: tuple[int, ...]) -> int:
    """Policies name few selections, and every quote asks for the mask of one."""
    return sum(1 << index for index in indexes)


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """One PCR bank and the indices asked for in it, at least one, each once, ascending."""

    bank: PcrBank
    indexes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what no TPM could quote."""
        if not self.indexes or list(self.indexes) != sorted(set(self.indexes)):
            raise ValueError("PCR indices must be one or more, ascending, each once")
        if self.indexes[0] < 0 or self.indexes[-1] >= PCR_COUNT:
            raise ValueError(f"PCR indices lie between 0 and {PCR_COUNT - 1}")

    @classmethod
    def of(cls, bank: PcrBank, indexes: Iterable[int]) -> "PcrSelection":
        """The selection of *indexes* in any order."""
        return cls(bank, tuple(sorted(set(indexes))))

    @property
    def mask(self) -> int:
        """Bit i is set when PCR i is selected."""
        return _mask(self.indexes)


@dataclass(frozen=True, slots=True)
class PcrValues:
    """Claimed or proved values of the PCRs of one selection, index -> digest."""

    selection: PcrSelection
    values: Mapping[int, bytes]

    def __post_init__(self) -> None:
        """Every selected PCR has a value of the bank's size, and no other has one."""
        if set(self.values) != set(self.selection.indexes):
            raise ValueError("the PCR values are not those of the selection")
        size = self.selection.bank.digest_bytes
        if any(len(value) != size for value in self.values.values()):
            raise ValueError("a PCR value has another length than its bank's digest")

    @property
    def concatenated(self) -> bytes:
        """The values in ascending order of index: what a quote's PCR digest is taken over."""
        return b"".join(map(self.values.__getitem__, self.selection.indexes))


@dataclass(frozen=True, slots=True)
class Nonce:
    """32 random bytes, good for one answer.

    Made by `tccp.transport.connection.fresh_nonce`; this module has no randomness.
    """

    value: bytes

    def __post_init__(self) -> None:
        """Refuse anything but 32 bytes."""
        if len(self.value) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(self.value)}")


@dataclass(frozen=True, slots=True, order=True)
class NodeName:
    """The name under which the operator enrolled a node: a host name in lower case, 63 characters at most."""

    value: str

    def __post_init__(self) -> None:
        """Refuse anything that is not a host name."""
        if not NODE_NAME.fullmatch(self.value):
            raise ValueError(f"{self.value!r} is not a node name: a-z, 0-9, '-' and '.', 1 to 63 characters")

    def __str__(self) -> str:
        """The bare name."""
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class SecretBytes:
    """Bytes that must not be printed: keys. Not comparable with ``==`` by accident of timing."""

    value: bytes = field(repr=False)

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        """Refuse: use ``hmac.compare_digest``."""
        raise TypeError("secrets are compared with hmac.compare_digest")


def spki_sha256(spki: bytes) -> bytes:
    """The SHA-256 by which a public key (DER SubjectPublicKeyInfo) is pinned, 32 bytes."""
    return hashlib.sha256(spki).digest()
