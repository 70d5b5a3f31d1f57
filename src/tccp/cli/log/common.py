"""What the commands of ``tccp log`` share: which log, by whose key, and its verified head."""

import argparse
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tccp.cli.arguments import Parser
from tccp.cli.exit_codes import UsageError
from tccp.cli.trust.common import add_store, store_of

if TYPE_CHECKING:
    from tccp.tenant.log_source import LogSource
    from tccp.tenant.trust_store import PinnedCoordinator
    from tccp.transparency.checkpoint import VerifiedCheckpoint
    from tccp.transparency.entry import LogEntry
    from tccp.transparency.note import NoteKey


class OpenLog:
    """A log that is being read, and its newest head, which its key signed."""

    def __init__(
        self, source: "LogSource", key: "NoteKey", head: "VerifiedCheckpoint", pinned: "PinnedCoordinator | None"
    ) -> None:
        self.source, self.key, self.head, self.pinned = source, key, head, pinned


def add_log(parser: Parser) -> None:
    """The options that say which log is meant."""
    parser.add_argument("--name", metavar="NAME", help="the pinned coordinator (default: the only one)")
    parser.add_argument(
        "--log", metavar="URL|DIR", help="where it is (default: where the coordinator said it is served)"
    )
    parser.add_argument("--key", metavar="KEY", help="name+id+key of the log, where no coordinator is pinned")
    add_store(parser)


@contextmanager
def open_log(args: argparse.Namespace) -> Iterator[OpenLog]:
    """The log that the command line names; its head is verified.

    Raises:
        LogError: The head is not signed by the key of the log, or of another log; ``no_checkpoint``.
        ConfigError: No coordinator is pinned, or it serves its log nowhere.
        HostError: It cannot be read.
    """
    from tccp.errors import LogError
    from tccp.tenant.log_source import open_source

    pinned, key = _key(args)
    with open_source(_place(args, pinned)) as source:
        note = source.read_checkpoint()
        if note is None:
            raise LogError("no_checkpoint", "there is no checkpoint, so there is no log")
        yield OpenLog(source, key, verify_head(note, key, pinned), pinned)


def compare_with_seen(log: OpenLog) -> None:
    """Check that the head of the log continues the one that was seen when its coordinator was looked at last.

    An older one is let pass, for a copy may be older: `tccp log audit` does not.

    Raises:
        LogError: ``fork``, ``inconsistent``: the coordinator has signed two histories.
    """
    from tccp.tenant.trust import continue_log

    head = log.head.checkpoint
    if log.pinned is not None and log.pinned.head.size <= head.size:
        continue_log(log.source.read_tile, log.pinned.head, log.head)


def verify_head(note: bytes, key: "NoteKey", pinned: "PinnedCoordinator | None") -> "VerifiedCheckpoint":
    """A checkpoint of this log; who witnessed it is noted, and not demanded."""
    from tccp.transparency.checkpoint import verify_checkpoint

    witnesses = pinned.demands.witnesses if pinned else ()
    return verify_checkpoint(note, origin=key.name, log_key=key, witnesses=witnesses)


def _key(args: argparse.Namespace) -> "tuple[PinnedCoordinator | None, NoteKey]":
    from tccp.transparency.note import parse_note_key

    if args.key:
        return None, parse_note_key(args.key)
    pinned = store_of(args).load(args.name)
    return pinned, pinned.note_key


def _place(args: argparse.Namespace, pinned: "PinnedCoordinator | None") -> str:
    if args.log:
        return str(args.log)
    if pinned is None:
        raise UsageError("usage", "--key needs --log", hint="Say where the log is: --log URL or --log DIR.")
    if not pinned.log_url:
        hint = "Ask its operator where the log is served, or for a copy, and give --log."
        raise UsageError("usage", f"{pinned.name} has not said where its log is served", hint=hint)
    return pinned.log_url


def entry_document(index: int, entry: "LogEntry") -> dict[str, Any]:
    """An entry for programs."""
    return {
        "index": index,
        "kind": entry.kind,
        "at_ms": entry.at_ms,
        "public": entry.public_values(),
        "commitment": entry.commitment,
    }


def values(found: "dict[str, Any]") -> str:
    """What an entry says to everybody, in one line."""
    return " ".join(f"{name}={short(value)}" for name, value in found.items()) or "-"


def short(value: object) -> str:
    """A value for people."""
    return value.hex() if isinstance(value, bytes) else str(value)


def root_text(root: bytes) -> str:
    """A root as checkpoints have it."""
    return base64.b64encode(root).decode("ascii")
