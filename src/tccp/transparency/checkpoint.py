"""Checkpoints: what the tree was, in a note that the log signs and witnesses cosign. C2SP tlog-checkpoint."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tccp.errors import ConfigError, LogError
from tccp.merkle import HASH_BYTES
from tccp.transparency.note import Note, NoteKey, SignatureType, from_base64, open_note, to_base64
from tccp.transparency.tile import SIZE_MAX

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True)
class Checkpoint:
    """The head of a tree: of which log, how many entries, which root. Alone it is only a claim."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The text that is signed."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, to_base64(self.root), *self.extensions))


@dataclass(frozen=True)
class VerifiedCheckpoint:
    """A checkpoint that the log signed, the whole note, and which witnesses saw it when (seconds since 1970).

    Only `verify_checkpoint` makes one.
    """

    checkpoint: Checkpoint
    note: Note
    witnessed_s: dict[NoteKey, int]


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a note.

    Raises:
        LogError: ``checkpoint_malformed``.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise LogError("checkpoint_malformed", "not three lines or more, or an empty one")
    origin, size, root, *extensions = lines
    try:
        digest = from_base64(root)
    except ValueError:
        digest = b""
    if len(digest) != HASH_BYTES or not _DECIMAL.fullmatch(size) or int(size) > SIZE_MAX:
        raise LogError("checkpoint_malformed", "no size, or no root")
    return Checkpoint(origin, int(size), digest, tuple(extensions))


def verify_checkpoint(
    data: bytes, *, origin: str, log_key: NoteKey, witnesses: Sequence[NoteKey] = (), witnesses_required: int = 0
) -> VerifiedCheckpoint:
    """Check that the log signed this checkpoint, and enough witnesses.

    Args:
        data: The whole note.
        origin: The log that we mean.
        witnesses: Whose cosignatures count.
        witnesses_required: How many of them must have signed.

    Raises:
        LogError: as `open_note`; ``unsigned`` by the log itself; ``checkpoint_malformed``; ``origin``: it is of another
            log; ``witnesses``: too few.
        ConfigError: As `check_witness_keys`.
    """
    check_witness_keys(log_key, witnesses)
    opened = open_note(data, [log_key, *witnesses])
    if log_key not in opened.signers:
        raise LogError("unsigned", "by the log")
    checkpoint = parse_checkpoint(opened.note.text)
    if checkpoint.origin != origin:
        raise LogError("origin", f"{checkpoint.origin!r} for {origin!r}")
    witnessed_s = {key: at_s for key, at_s in opened.signers.items() if at_s is not None}
    if len(witnessed_s) < witnesses_required:
        raise LogError("witnesses", f"{len(witnessed_s)} of {witnesses_required}")
    return VerifiedCheckpoint(checkpoint, opened.note, witnessed_s)


def check_witness_keys(log_key: NoteKey, witnesses: Sequence[NoteKey]) -> None:
    """Refuse keys by which nobody could tell who has signed.

    Raises:
        ConfigError: ``note_key``: one is no key of a witness; ``ambiguous_keys``: one stands twice, or is the log's.
    """
    for key in witnesses:
        if key.type is not SignatureType.COSIGNATURE:
            raise ConfigError("note_key", f"{key.name}: a witness's key is one for cosignatures")
    if len({key.public_key for key in (log_key, *witnesses)}) != 1 + len(witnesses):
        raise ConfigError("ambiguous_keys", "one key cannot count twice")
