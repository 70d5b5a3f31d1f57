"""Entries of the coordinator's log: what everybody may read, and a commitment to what only some may.

    ["tccp/v1/log-entry", kind, at_ms, public, commitment]
                                         |         '- SHA-256("tccp/v1/log-details" 00 || salt || details)
                                         '- a map: the name of a policy and its digest, the keys of a start ...

The details (which node, which lease, the event's body) and the salt go to those whom they concern, in a receipt. The
salt is a secret of the coordinator's hashed with the place of the event, so that an entry can be made again after a
crash, bit by bit the same, while nobody can find out by trying what it is about, or whether two are about one thing.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tccp.errors import LogError
from tccp.transparency.packed import Value, pack_list, pack_map, unpack_list, unpack_map
from tccp.transparency.tile import ENTRY_BYTES_MAX

ENTRY_DOMAIN = "tccp/v1/log-entry"
SALT_BYTES = 32
PUBLIC_BYTES_MAX = 4_096
DETAILS_BYTES_MAX = 72_000  # the longest body of an event, and what stands beside it
TIME_MS_MAX = (1 << 63) - 1

_DETAILS_DOMAIN = b"tccp/v1/log-details\0"
_SALT_DOMAIN = b"tccp/v1/log-salt\0"
_KIND = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)


@dataclass(frozen=True)
class LogEntry:
    """An entry as it stands in the log.

    Attributes:
        kind: What happened, in one word: ``admit``.
        at_ms: When, by the coordinator's clock; Unix milliseconds.
        public: The map of what everybody may read, packed.
        commitment: SHA-256 over the salted details, 32 bytes.
    """

    kind: str
    at_ms: int
    public: bytes
    commitment: bytes

    def encode(self) -> bytes:
        """The bytes that are the leaf of the tree."""
        return pack_list(ENTRY_DOMAIN, self.kind, self.at_ms, self.public, self.commitment)

    def public_values(self) -> dict[str, Value]:
        """What everybody may read, unpacked. `decode_entry` has looked at it before."""
        return unpack_map(self.public, bytes_max=PUBLIC_BYTES_MAX, reason="entry_malformed")


def make_entry(kind: str, at_ms: int, public: Mapping[str, Value], details: bytes, salt: bytes) -> LogEntry:
    """The entry of something that happened; the same for the same arguments.

    Args:
        details: As `tccp.transparency.packed.pack_map` made it.
        salt: From `log_salt`.

    Raises:
        ValueError: No entry can say that: a bug of ours.
    """
    if not _KIND.fullmatch(kind) or not 0 <= at_ms <= TIME_MS_MAX:
        raise ValueError("no kind, or no time")
    packed = pack_map(public)
    if len(packed) > PUBLIC_BYTES_MAX or len(details) > DETAILS_BYTES_MAX:
        raise ValueError(f"{len(packed)} bytes for everybody, {len(details)} for some")
    return LogEntry(kind, at_ms, packed, commit(details, salt))


def decode_entry(data: bytes) -> LogEntry:
    """Read an entry; that it is in a log is for a proof to say.

    Raises:
        LogError: ``entry_malformed``.
    """
    match unpack_list(data, bytes_max=ENTRY_BYTES_MAX, reason="entry_malformed"):
        case [str(domain), str(kind), int(at_ms), bytes(public), bytes(commitment)]:
            pass
        case _:
            raise LogError("entry_malformed", "not the fields of an entry")
    if domain != ENTRY_DOMAIN:
        raise LogError("entry_malformed", f"of the domain {domain!r}")
    if not _KIND.fullmatch(kind) or isinstance(at_ms, bool) or not 0 <= at_ms <= TIME_MS_MAX:
        raise LogError("entry_malformed", "no kind, or no time")
    if len(commitment) != hashlib.sha256().digest_size:
        raise LogError("entry_malformed", "no commitment")
    unpack_map(public, bytes_max=PUBLIC_BYTES_MAX, reason="entry_malformed")
    return LogEntry(kind, at_ms, public, commitment)


def commit(details: bytes, salt: bytes) -> bytes:
    """The commitment to *details*, which hides them from all who have not the salt."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return hashlib.sha256(_DETAILS_DOMAIN + salt + details).digest()


def open_commitment(entry: LogEntry, details: bytes, salt: bytes) -> dict[str, Value]:
    """The details of *entry*, if these are they.

    Raises:
        LogError: ``commitment``: they are of another entry; ``details_malformed``.
    """
    if len(salt) != SALT_BYTES or len(details) > DETAILS_BYTES_MAX:
        raise LogError("details_malformed", f"{len(details)} bytes, and a salt of {len(salt)}")
    if not hmac.compare_digest(commit(details, salt), entry.commitment):
        raise LogError("commitment", "these are not the details of the entry")
    return unpack_details(details)


def unpack_details(details: bytes) -> dict[str, Value]:
    """The map in *details*.

    Raises:
        LogError: ``details_malformed``.
    """
    return unpack_map(details, bytes_max=DETAILS_BYTES_MAX, reason="details_malformed")


def log_salt(salt_key: bytes, seq: int) -> bytes:
    """The salt of the entry of event *seq*.

    Args:
        salt_key: 32 bytes that only the coordinator has.
    """
    return hmac.digest(salt_key, _SALT_DOMAIN + seq.to_bytes(8, "big"), "sha256")
