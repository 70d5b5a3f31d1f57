"""What the log says of each event: a function of the event alone, so that an entry can be made again.

Everybody reads the kind, the time, and of a few kinds what `PUBLIC` names. Whom it concerns reads the details: the
node and the event's body. Of what `HASHED` names they read a salted hash as well: it is nobody's business without being
shown, and can be shown to match.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from tccp.store import EventKind, EventRecord
from tccp.transparency.entry import log_salt, make_entry
from tccp.transparency.packed import Value, pack_map

PUBLIC: dict[str, tuple[str, ...]] = {
    EventKind.START: ("coordinator_id", "software", "statement_sha256", "evidence_sha256", "log_key"),
    EventKind.POLICY: ("policy", "version", "sha256"),
    EventKind.SHADOW: ("policy", "version", "sha256", "what"),
    EventKind.KEYS_SEALED: ("done_ms", "log_key", "authority", "generation", "bank", "pcrs"),
    EventKind.KEYS_RESTORED: ("done_ms", "log_key", "authority", "generation", "bank", "pcrs"),
    EventKind.KEYS_BACKED_UP: ("done_ms", "threshold", "count", "officers_sha256"),
    EventKind.APPROVAL_INSTALLED: ("done_ms", "approval_sha256", "generation", "approved_policy"),
    EventKind.APPROVALS_ENDED: ("done_ms", "generation", "ended"),
}
# The TPM by which a node could be followed through receipts; what a node sent that did not hold.
HASHED = ("ek_id", "detail")
_DECODER = msgspec.msgpack.Decoder(dict[str, Any])
_FIELD_DOMAIN = b"tccp/v1/log-field\0"


@dataclass(frozen=True, slots=True)
class EventEntry:
    """An event's entry, its details, and the salt that opens the one to the other."""

    entry: bytes
    details: bytes
    salt: bytes


def entry_of(event: EventRecord, salt_key: bytes) -> EventEntry:
    """The log's entry of *event*."""
    salt = log_salt(salt_key, event.seq)
    try:
        body: dict[str, Value] = _DECODER.decode(event.body) if event.body else {}
        details = _details(event, body, salt)
    except (msgspec.MsgspecError, ValueError):  # not of `event_body`; every event has its entry all the same
        body = {"body_sha256": hashlib.sha256(event.body).digest()}
        details = _details(event, body, salt)
    public = {name: body[name] for name in PUBLIC.get(event.kind, ()) if name in body}
    return EventEntry(make_entry(event.kind, event.at_ms, public, details, salt).encode(), details, salt)


def entries_of(events: Iterable[EventRecord], salt_key: bytes) -> list[bytes]:
    """The entries of *events*, in their order."""
    return [entry_of(event, salt_key).entry for event in events]


def hash_field(name: str, value: Value, salt: bytes) -> bytes:
    """What the details say instead of a value that they do not say."""
    data = value if isinstance(value, bytes) else str(value).encode()
    return hashlib.sha256(_FIELD_DOMAIN + salt + name.encode() + b"\0" + data).digest()


def _details(event: EventRecord, body: dict[str, Value], salt: bytes) -> bytes:
    details = dict(body)
    for name in HASHED:
        if name in details:
            details[f"{name}_hash"] = hash_field(name, details.pop(name), salt)
    if event.node is not None:
        details["node"] = str(event.node)
    return pack_map(details)
