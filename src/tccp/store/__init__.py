"""The coordinator's durable state: nodes, policies, leases and the log, acknowledged once they are on the disk."""

from tccp.store.errors import ConflictError, FencedError
from tccp.store.interface import Store
from tccp.store.records import (
    EndReason,
    EventDraft,
    EventKind,
    EventRecord,
    LeaseRecord,
    NodeRecord,
    PolicyRecord,
    StoreCounts,
)
from tccp.store.renewal import Renewal
from tccp.store.sqlite import open_store

__all__ = [
    "ConflictError",
    "EndReason",
    "EventDraft",
    "EventKind",
    "EventRecord",
    "FencedError",
    "LeaseRecord",
    "NodeRecord",
    "PolicyRecord",
    "Renewal",
    "Store",
    "StoreCounts",
    "open_store",
]
