"""Measurement lists of IMA, made entry by entry, and their replay by hand with hashlib."""

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tccp.attestation.ima import ImaPolicy
from tccp.attestation.ima_rules import ImaRules, compile_rules
from tccp.model import PcrBank, PcrSelection, PcrValues

VECTORS = Path(__file__).parents[1] / "vectors" / "ima"
SHA256, SHA1 = PcrBank.SHA256, PcrBank.SHA1
ZEROS = bytes(20)


class Entry(NamedTuple):
    """One entry as the kernel writes it, and what its fields hash over."""

    template: bytes
    data: bytes
    is_violation: bool = False
    pcr: int = 10

    @property
    def binary(self) -> bytes:
        column = ZEROS if self.is_violation else hashlib.sha1(self.hashed, usedforsecurity=False).digest()
        length = b"" if self.template == b"ima" else struct.pack("<I", len(self.data))
        return struct.pack("<I", self.pcr) + column + field(self.template) + length + self.data

    @property
    def hashed(self) -> bytes:
        return self.data[:20] + self.data[24:].ljust(256, b"\0") if self.template == b"ima" else self.data


def field(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


def digest_field(digest: bytes, name: bytes = b"sha256") -> bytes:
    return field(name + b":\0" + digest) if digest else field(b"")


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def plain(content: bytes, path: bytes) -> Entry:
    return Entry(b"ima", hashlib.sha1(content, usedforsecurity=False).digest() + field(path))


def ng(content: bytes, path: bytes, *, is_violation: bool = False, name: str = "sha256", pcr: int = 10) -> Entry:
    digest = hashlib.new(name, content).digest()
    digest = bytes(len(digest)) if is_violation else digest
    return Entry(b"ima-ng", digest_field(digest, name.encode()) + field(path + b"\0"), is_violation, pcr)


def signed(content: bytes, path: bytes, signature: bytes) -> Entry:
    return Entry(b"ima-sig", digest_field(sha256(content)) + field(path + b"\0") + field(signature))


def buffer(content: bytes, name: bytes) -> Entry:
    return Entry(b"ima-buf", digest_field(sha256(content)) + field(name + b"\0") + field(content))


def modsig(content: bytes, path: bytes, appended: bytes, *, whole: bytes = b"whole file") -> Entry:
    digest = digest_field(sha256(content)) if appended else field(b"")
    return Entry(
        b"ima-modsig", digest_field(sha256(whole)) + field(path + b"\0") + field(b"") + digest + field(appended)
    )


AGGREGATE = ng(b"the boot", b"boot_aggregate")


def written(entries: Iterable[Entry]) -> bytes:
    return b"".join(entry.binary for entry in entries)


def replay_by_hand(entries: Iterable[Entry], bank: PcrBank = SHA256) -> bytes:
    """What PCR 10 of a TPM holds after the kernel has measured *entries*."""
    value = bytes(bank.digest_bytes)
    for entry in entries:
        if entry.pcr != 10:
            continue
        measured = hashlib.new(bank.hash_name, entry.hashed).digest()
        extended = b"\xff" * bank.digest_bytes if entry.is_violation else measured
        value = hashlib.new(bank.hash_name, value + extended).digest()
    return value


def quoted(entries: Iterable[Entry], bank: PcrBank = SHA256) -> PcrValues:
    return PcrValues(PcrSelection.of(bank, [10]), {10: replay_by_hand(entries, bank)})


def compiled(rules: ImaRules) -> ImaPolicy:
    file = compile_rules(rules)
    return ImaPolicy(file, sha256(file))
