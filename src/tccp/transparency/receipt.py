"""Receipts: one entry, what it is about, and why it is in the log. Verified offline, with the log's key alone.

    ["tccp/v1/receipt", entry, index, details, salt, path, checkpoint]

    entry ------------ leaf ---- path ----> root <---- checkpoint <---- the log's signature, and witnesses'
      '- commitment <- details, salt

A receipt may do without details and salt: then it proves what everybody may read, and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tccp.errors import LogError
from tccp.merkle import HASH_BYTES
from tccp.transparency.checkpoint import VerifiedCheckpoint, verify_checkpoint
from tccp.transparency.entry import DETAILS_BYTES_MAX, SALT_BYTES, LogEntry, decode_entry, open_commitment
from tccp.transparency.note import NOTE_BYTES_MAX, NoteKey
from tccp.transparency.packed import Value, pack_list, unpack_list
from tccp.transparency.proof import PROOF_HASHES_MAX, verify_inclusion
from tccp.transparency.tile import ENTRY_BYTES_MAX, SIZE_MAX

RECEIPT_DOMAIN = "tccp/v1/receipt"
RECEIPT_BYTES_MAX = ENTRY_BYTES_MAX + DETAILS_BYTES_MAX + NOTE_BYTES_MAX + PROOF_HASHES_MAX * (HASH_BYTES + 2) + 256


@dataclass(frozen=True)
class Receipt:
    """A receipt as it came in; nobody has verified it.

    Attributes:
        entry: The leaf, as bytes.
        index: Its place in the log, from 0.
        details: What the entry commits to, packed; empty when it is not told.
        salt: 32 bytes, or empty with *details*.
        path: From the leaf to the root, the lowest hash first.
        checkpoint: The signed note.
    """

    entry: bytes
    index: int
    details: bytes
    salt: bytes
    path: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True)
class VerifiedReceipt:
    """What a receipt proves. Only `verify_receipt` makes one.

    Attributes:
        details: What the entry commits to, or None: the receipt does not tell.
        index: The entry's place in the log, from 0.
        checkpoint: Whose tree the entry is in, who signed it, and which witnesses saw it when.
    """

    kind: str
    at_ms: int
    public: dict[str, Value]
    details: dict[str, Value] | None
    index: int
    checkpoint: VerifiedCheckpoint


def encode_receipt(receipt: Receipt) -> bytes:
    """The bytes that are handed out."""
    return pack_list(
        RECEIPT_DOMAIN, receipt.entry, receipt.index, receipt.details, receipt.salt, list(receipt.path),
        receipt.checkpoint,
    )  # fmt: skip


def decode_receipt(data: bytes) -> Receipt:
    """Take a receipt apart; nothing is verified.

    Raises:
        LogError: ``receipt_malformed``.
    """
    match unpack_list(data, bytes_max=RECEIPT_BYTES_MAX, reason="receipt_malformed"):
        case [str(domain), bytes(entry), int(index), bytes(details), bytes(salt), list(path), bytes(checkpoint)]:
            pass
        case _:
            raise LogError("receipt_malformed", "not the fields of a receipt")
    if domain != RECEIPT_DOMAIN:
        raise LogError("receipt_malformed", f"of the domain {domain!r}")
    hashes = tuple(digest for digest in path if isinstance(digest, bytes) and len(digest) == HASH_BYTES)
    if len(hashes) != len(path) or len(path) > PROOF_HASHES_MAX:
        raise LogError("receipt_malformed", "no path")
    if isinstance(index, bool) or not 0 <= index < SIZE_MAX or len(salt) not in {0, SALT_BYTES}:
        raise LogError("receipt_malformed", "no place in a log, or no salt")
    if details and not salt:
        raise LogError("receipt_malformed", "details without their salt")
    return Receipt(entry, index, details, salt, hashes, checkpoint)


def verify_receipt(
    data: bytes, *, origin: str, log_key: NoteKey, witnesses: Sequence[NoteKey] = (), witnesses_required: int = 0
) -> VerifiedReceipt:
    """Check that an entry is in the log, and that the details are the entry's.

    Args:
        data: The whole receipt.
        origin: The log that we mean.
        log_key: Its key, from trust that was pinned before.
        witnesses: Whose cosignatures count.
        witnesses_required: How many of them must have cosigned the receipt's checkpoint.

    Raises:
        LogError: ``receipt_malformed``, ``entry_malformed``, ``details_malformed``; ``commitment``: the details are not
            the entry's; as `verify_checkpoint` and `verify_inclusion`.
        ConfigError: as `verify_checkpoint`.
    """
    receipt = decode_receipt(data)
    seen = verify_checkpoint(
        receipt.checkpoint, origin=origin, log_key=log_key, witnesses=witnesses, witnesses_required=witnesses_required
    )
    head = seen.checkpoint
    verify_inclusion(receipt.entry, receipt.index, size=head.size, root=head.root, path=receipt.path)
    entry = decode_entry(receipt.entry)
    return VerifiedReceipt(
        entry.kind, entry.at_ms, entry.public_values(), _details(entry, receipt), receipt.index, seen
    )


def _details(entry: LogEntry, receipt: Receipt) -> dict[str, Value] | None:
    return open_commitment(entry, receipt.details, receipt.salt) if receipt.salt else None
