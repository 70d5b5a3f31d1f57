"""Compiling a policy for IMA: from digests, paths and keys to the file that `ImaPolicy` looks up in.

A policy is compiled once, and its file is mapped by all who judge by it. The format is in docs/POLICIES.md; equal rules
give equal bytes, whatever order they came in, so that a policy can name the file by its hash.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tccp.errors import ConfigError
from tccp.model import PcrBank

MAGIC = b"tccpima1"
KEY_BYTES = 32
BUFFER_PREFIX = b"buffer:"
RECORDS_PER_BUCKET = 4
BUCKET_BITS_MAX = 24
# Digests are hashes, so a bucket that is fuller than this was filled on purpose, to make looking up slow.
BUCKET_RECORDS_MAX = 64
PATTERN_BYTES_MAX = 1024
RULES_MAX = 4096
KEYS_MAX = 64
_EXCLUDE, _SIGNED, _KEY, _BUFFER, _VIOLATIONS = 1, 2, 3, 4, 5
# As ``tccp_ima_judge`` counts them, in rules and in boot aggregates.
BANK_NUMBERS = {PcrBank.SHA1: 1, PcrBank.SHA256: 2, PcrBank.SHA384: 3, PcrBank.SHA512: 4}
_LISTED_BANKS = (PcrBank.SHA256, PcrBank.SHA384, PcrBank.SHA512)


@dataclass(frozen=True, slots=True)
class ListedDigest:
    """A digest of a file that may be measured.

    Args:
        digest: SHA-256, SHA-384 or SHA-512, told apart by length.
        path: The one path it may have; None for any. For a buffer ``buffer:`` and its name.
    """

    digest: bytes
    path: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImaRules:
    """What may be measured. In patterns ``*`` stands for any run of characters, ``/`` too, and ``?`` for any one.

    Args:
        digests: Files, and buffers, that are known.
        excludes: Patterns of paths that are not judged.
        signed: Patterns of paths of which a signature by one of *keys* is enough.
        keys: DER SubjectPublicKeyInfo.
        buffers: Patterns of names of buffers that may hold anything.
        allow_violations: Files that were written while they were measured do not matter.
    """

    digests: Iterable[ListedDigest] = ()
    excludes: Iterable[str] = ()
    signed: Iterable[str] = ()
    keys: Iterable[bytes] = ()
    buffers: Iterable[str] = ()
    allow_violations: bool = False


def compile_rules(rules: ImaRules) -> bytes:
    """The compiled file.

    Raises:
        ConfigError: ``bad_policy``: a rule that cannot be.
    """
    records = sorted({_record(listed) for listed in rules.digests})
    bits = min(max(len(records) // RECORDS_PER_BUCKET, 1).bit_length(), BUCKET_BITS_MAX)
    table = _rules(rules)
    header = MAGIC + struct.pack("<IIQ", bits, len(table), len(records))
    return b"".join((header, table, bytes(-len(table) % 8), _index(records, bits), *records))


def path_tag(path: bytes | None) -> bytes:
    """By what a record knows its path: zeros for any."""
    return bytes(8) if path is None else hashlib.sha256(path).digest()[:8]


def _record(listed: ListedDigest) -> bytes:
    bank = next((bank for bank in _LISTED_BANKS if bank.digest_bytes == len(listed.digest)), None)
    if bank is None:
        raise _bad(f"{listed.digest.hex()} is not a SHA-256, SHA-384 or SHA-512 digest")
    return listed.digest[:KEY_BYTES] + struct.pack("<I", BANK_NUMBERS[bank]) + path_tag(listed.path)


def _index(records: list[bytes], bits: int) -> bytes:
    counts = Counter(int.from_bytes(record[:4], "big") >> (32 - bits) for record in records)
    if counts and max(counts.values()) > BUCKET_RECORDS_MAX + len(records) // (1 << bits):
        raise _bad("digests that all begin alike are not hashes")
    starts, total = [], 0
    for bucket in range(1 << bits):
        starts.append(total)
        total += counts[bucket]
    return struct.pack(f"<{len(starts) + 1}I", *starts, total)


def _rules(rules: ImaRules) -> bytes:
    patterns = [(_EXCLUDE, rules.excludes), (_SIGNED, rules.signed), (_BUFFER, rules.buffers)]
    made = [_rule(kind, _pattern(text)) for kind, texts in patterns for text in sorted(set(texts))]
    keys = sorted(set(rules.keys))
    if len(keys) > KEYS_MAX:
        raise _bad(f"{len(keys)} keys, {KEYS_MAX} are allowed")
    made += [_rule(_KEY, key) for key in keys]
    if rules.allow_violations:
        made.append(_rule(_VIOLATIONS, b""))
    if len(made) > RULES_MAX:
        raise _bad(f"{len(made)} rules, {RULES_MAX} are allowed")
    return b"".join(made)


def _pattern(text: str) -> bytes:
    pattern = text.encode("utf-8", "surrogateescape")
    if not pattern or len(pattern) > PATTERN_BYTES_MAX:
        raise _bad(f"a pattern has 1 to {PATTERN_BYTES_MAX} bytes")
    return pattern


def _rule(kind: int, text: bytes) -> bytes:
    return struct.pack("<II", kind, len(text)) + text


def _bad(detail: str) -> ConfigError:
    return ConfigError("bad_policy", detail)
