"""The coordinator's durable state: nodes, policies, leases, VMs and the log, acknowledged once they are on the disk."""

from tccp.store.errors import ConflictError, FencedError
from tccp.store.interface import Store
from tccp.store.launches import (
    KeyClaim,
    MoveArrival,
    MoveRecord,
    MoveWord,
    TenantRecord,
    VmDestruction,
    VmEnd,
    VmMarks,
    VmRecord,
    VmState,
    VmSuspension,
)
from tccp.store.launching import attribute_fields
from tccp.store.moving import DESTINATION_LOST
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
    "DESTINATION_LOST",
    "ConflictError",
    "EndReason",
    "EventDraft",
    "EventKind",
    "EventRecord",
    "FencedError",
    "KeyClaim",
    "LeaseRecord",
    "MoveArrival",
    "MoveRecord",
    "MoveWord",
    "NodeRecord",
    "PolicyRecord",
    "Renewal",
    "Store",
    "StoreCounts",
    "TenantRecord",
    "VmDestruction",
    "VmEnd",
    "VmMarks",
    "VmRecord",
    "VmState",
    "VmSuspension",
    "attribute_fields",
    "open_store",
]
