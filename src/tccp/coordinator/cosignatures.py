"""The cosignatures of witnesses that have been brought to us, and the notes that carry them.

Anybody may bring one: it is over a checkpoint that our log's key signed, by a witness of the configuration, or it is
nothing. They are kept in memory only; after a restart they are collected again.
"""

from tccp.errors import LogError
from tccp.protocol.tenant_messages import WITNESSED_MAX
from tccp.transparency.checkpoint import VerifiedCheckpoint, check_witness_keys, verify_checkpoint
from tccp.transparency.note import Note, NoteKey, NoteSignature, parse_note

_NOTE_KEPT_BYTES_MAX = 16_384


class Cosignatures:
    """What witnesses cosigned lately.

    Args:
        log_key: Of our checkpoints.
        witnesses: Whose cosignatures are collected.

    Raises:
        ConfigError: As `check_witness_keys`.
    """

    def __init__(self, log_key: NoteKey, witnesses: tuple[NoteKey, ...]) -> None:
        check_witness_keys(log_key, witnesses)
        self._log_key, self._witnesses = log_key, witnesses
        self._heads: dict[str, VerifiedCheckpoint] = {}  # by the text that was signed

    def add(self, data: bytes) -> None:
        """Take a note with cosignatures on one of our checkpoints; a later one of a witness replaces its earlier.

        Raises:
            LogError: as `verify_checkpoint`; ``unsigned`` by any witness of ours.
        """
        brought = self._verify(data)
        if not brought.witnessed_s:
            raise LogError("unsigned", "by none of the configured witnesses")
        text = brought.note.text
        known = self._heads.get(text)
        merged = self._verify(_merge(self._log_key, known, brought).encode())
        self._heads[text] = merged
        newest = sorted(self._heads.values(), key=lambda head: head.checkpoint.size, reverse=True)
        self._heads = {head.note.text: head for head in _undominated(newest)}

    def notes(self) -> tuple[bytes, ...]:
        """For each set of witnesses the newest checkpoint that they cosigned."""
        return tuple(head.note.encode() for head in self._heads.values())

    def with_cosignatures(self, note: bytes) -> bytes:
        """*note*, a checkpoint of ours, with the cosignatures that have come in for it."""
        known = self._heads.get(parse_note(note).text)
        return known.note.encode() if known is not None else note

    def seen(self) -> dict[str, tuple[int, int]]:
        """Witness -> the size of the newest checkpoint that it cosigned, and when, in seconds since 1970; 0: none."""
        found = {key.name: (0, 0) for key in self._witnesses}
        for head in reversed(self._heads.values()):
            found |= {key.name: (head.checkpoint.size, at_s) for key, at_s in head.witnessed_s.items()}
        return found

    def _verify(self, data: bytes) -> VerifiedCheckpoint:
        if len(data) > _NOTE_KEPT_BYTES_MAX:
            raise LogError("note_malformed", f"{len(data)} bytes")
        key = self._log_key
        return verify_checkpoint(data, origin=key.name, log_key=key, witnesses=self._witnesses)


def _merge(log_key: NoteKey, known: VerifiedCheckpoint | None, brought: VerifiedCheckpoint) -> Note:
    """One note with our signature and the newest of each witness; strangers' lines are left out."""
    chosen: dict[NoteKey, tuple[int, NoteSignature]] = {}
    for head in (known, brought):
        if head is None:
            continue
        lines = {(line.name, line.key_id): line for line in head.note.signatures}
        for key, at_s in head.witnessed_s.items():
            if key not in chosen or chosen[key][0] < at_s:
                chosen[key] = (at_s, lines[key.name, key.key_id])
    own = next(line for line in brought.note.signatures if (line.name, line.key_id) == (log_key.name, log_key.key_id))
    return Note(brought.note.text, (own, *(line for _, line in chosen.values())))


def _undominated(newest_first: list[VerifiedCheckpoint]) -> list[VerifiedCheckpoint]:
    """Those that some set of witnesses needs: no newer one has all of their cosignatures."""
    kept: list[VerifiedCheckpoint] = []
    for head in newest_first:
        signers = set(head.witnessed_s)
        if len(kept) < WITNESSED_MAX and not any(signers <= set(other.witnessed_s) for other in kept):
            kept.append(head)
    return kept
