"""A witness's memory: of each log the newest checkpoint that it cosigned, on the disk before its cosignature goes out.

    STATE/logs/<SHA-256 of the origin>         the signed note; a newer one is renamed over it
    STATE/evidence/<SHA-256 of the content>    two checkpoints of one size that one log signed: proof against it

A memory that was put back from an older copy has forgotten what it cosigned since; nothing here can tell.
"""

import hashlib
from pathlib import Path

from tccp.durable import replace_file, sync_folder
from tccp.errors import ConfigError, HostError, LogError
from tccp.transparency.checkpoint import Checkpoint, parse_checkpoint
from tccp.transparency.note import NOTE_BYTES_MAX, parse_note

EVIDENCE_MAX = 64


class WitnessMemory:
    """The files of one witness. Reading and writing block.

    Args:
        directory: Exists; `create_memory` makes it.
    """

    def __init__(self, directory: Path) -> None:
        self._logs, self._evidence = directory / "logs", directory / "evidence"
        if not self._logs.is_dir():
            hint = "make the witness once: `tccp witness init --config FILE`"
            raise ConfigError("not_initialised", f"{self._logs} does not exist", hint=hint)

    def latest(self, origin: str) -> Checkpoint | None:
        """The newest checkpoint of a log that was cosigned; None: there never was one.

        Raises:
            HostError: ``memory_damaged``, or it cannot be read. Then nothing may be cosigned.
        """
        path = self._path(origin)
        try:
            with path.open("rb") as file:
                note = file.read(NOTE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise HostError("memory_unreadable", f"{path}: {problem.strerror}") from None
        try:
            checkpoint = parse_checkpoint(parse_note(note).text)
        except LogError as problem:
            raise HostError("memory_damaged", f"{path}: {problem}") from None
        if checkpoint.origin != origin:
            raise HostError("memory_damaged", f"{path}: it is of {checkpoint.origin!r}")
        return checkpoint

    def remember(self, origin: str, note: bytes) -> None:
        """Keep *note* as the newest of its log; durable when this returns.

        Raises:
            HostError: ``memory_unwritable``; what was kept before still is.
        """
        _replace(self._path(origin), note)

    def keep_evidence(self, origin: str, note: bytes) -> Path | None:
        """Keep *note* beside the newest of its log, which has the same size and another root; where, or None: too many.

        Raises:
            HostError: ``memory_unreadable``, ``memory_unwritable``.
        """
        try:
            both = self._path(origin).read_bytes() + b"\n" + note
            path = self._evidence / hashlib.sha256(both).hexdigest()
            if not path.exists() and len(list(self._evidence.iterdir())) >= EVIDENCE_MAX:
                return None
        except OSError as problem:
            raise HostError("memory_unreadable", f"{problem.filename}: {problem.strerror}") from None
        _replace(path, both)
        return path

    def _path(self, origin: str) -> Path:
        return self._logs / hashlib.sha256(origin.encode()).hexdigest()


def create_memory(directory: Path) -> None:
    """Make the folders of an empty memory.

    Raises:
        ConfigError: ``already_initialised``.
        HostError: They cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("logs", "evidence"):
            (directory / name).mkdir(mode=0o700)
        sync_folder(directory)
    except FileExistsError as problem:
        raise ConfigError("already_initialised", f"{problem.filename} exists") from None
    except OSError as problem:
        raise HostError("memory_unwritable", f"{problem.filename}: {problem.strerror}") from None


def _replace(path: Path, content: bytes) -> None:
    try:
        replace_file(path, content, mode=0o600)
    except HostError as problem:
        raise HostError("memory_unwritable", problem.detail) from None
