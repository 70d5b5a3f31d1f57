"""What was done to the keys while the daemon was not there: written down beside them, logged at its next start.

One line of JSON for each event. The daemon appends them to its store, then removes the file; when it ends in between,
the events stand at the end of the log already, and their ids tell.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tccp.coordinator.custody.files import alone_with, append_line, unwritable
from tccp.errors import ConfigError
from tccp.store import EventDraft, EventKind, Store

NAME = "journal"
JOURNAL_BYTES_MAX = 1 << 20
ID_BYTES = 16
FACT_CHARACTERS_MAX = 1024

Facts = Mapping[str, str | int]


# Together no more than the body of an event holds.
_FactName = Annotated[str, Meta(max_length=64)]
_Fact = Annotated[str, Meta(max_length=FACT_CHARACTERS_MAX)] | Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
    kind: Literal["keys_sealed", "keys_restored", "keys_backed_up", "approval_installed", "approvals_ended"]
    done_ms: Annotated[int, Meta(ge=0, lt=1 << 48)]
    facts: Annotated[dict[_FactName, _Fact], Meta(max_length=16)]


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """Something that was done to the keys, when by the host's clock, and how it goes into the log."""

    kind: EventKind
    body: bytes


def write_down(folder: Path, kind: EventKind, done_ms: int, facts: Facts) -> None:
    """Remember an event of the keys in *folder* until the daemon starts.

    Raises:
        HostError: ``state_unwritable``.
    """
    assert all(len(str(fact)) <= FACT_CHARACTERS_MAX for fact in facts.values())
    line = {"id": secrets.token_hex(ID_BYTES), "kind": kind.value, "done_ms": done_ms, "facts": facts}
    append_line(folder / NAME, json.dumps(line).encode("ascii"))


async def log_what_was_done(folder: Path, store: Store, at_ms: int) -> None:
    """Append the events of the journal in *folder* to the log, each once, and empty the journal.

    Raises:
        ConfigError: ``journal_damaged``.
        HostError: ``state_unwritable``; the store failed.
    """
    path = folder / NAME
    try:
        # Who appends waits: what was not read would be removed with the rest.
        with alone_with(path) as file:
            content = file.read(JOURNAL_BYTES_MAX + 1)
            if len(content) > JOURNAL_BYTES_MAX:
                raise ConfigError("journal_damaged", f"{path}: more than {JOURNAL_BYTES_MAX} bytes")
            await _log(parse_journal(content), store, at_ms)
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as problem:
        raise unwritable(problem) from None


async def _log(events: list[KeyEvent], store: Store, at_ms: int) -> None:
    last = await store.last_seq()
    logged = {event.body for event in await store.events(max(0, last - len(events)), len(events))}
    for event in events:
        if event.body not in logged:
            await store.append_event(EventDraft(at_ms, event.kind, None, event.body))


def parse_journal(content: bytes) -> list[KeyEvent]:
    """The events in a journal, in order. A last line that was cut off by a crash is none.

    Raises:
        ConfigError: ``journal_damaged``.
    """
    try:
        whole = content[: content.rfind(b"\n") + 1]
        lines = [msgspec.json.decode(line, type=_Line) for line in whole.splitlines()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        hint = "Look at the file, keep a copy, and take it away: its events will be missing in the log."
        raise ConfigError("journal_damaged", str(problem), hint=hint) from None
    return [_event_of(line) for line in lines]


def _event_of(line: _Line) -> KeyEvent:
    body = {"journal_id": line.id, "done_ms": line.done_ms, **line.facts}
    return KeyEvent(EventKind(line.kind), msgspec.msgpack.encode(body))
