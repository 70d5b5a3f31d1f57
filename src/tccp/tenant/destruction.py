"""Verifying a destruction, offline: has the node that had a VM signed that it wiped it, and does the log know?

The log's entry names the VM, the epoch, the statement and the identity of the boot that signed it; the coordinator had
that boot's quote.
"""

import hashlib
from dataclasses import dataclass

from tccp.errors import LaunchError
from tccp.protocol.destruction import Destruction, read_destruction_receipt, verify_destruction_statement
from tccp.tenant.pinned_log import PinnedLog
from tccp.transparency.packed import Value
from tccp.transparency.receipt import VerifiedReceipt

DESTROY = "destroy"


@dataclass(frozen=True, slots=True)
class VerifiedDestruction:
    """What a destruction receipt proves. Only `verify_destruction` makes one."""

    destruction: Destruction
    entry: VerifiedReceipt
    node: str


def verify_destruction(content: bytes, *, vm_id: bytes, trust: PinnedLog) -> VerifiedDestruction:
    """Check a destruction receipt with nothing but the VM's id and what was pinned.

    Raises:
        LaunchError: ``destruction_entry``: the log's entry is of something else; as `verify_destruction_statement`.
        LogError: The log's receipt does not hold; as `PinnedLog.verify`.
    """
    receipt = read_destruction_receipt(content)
    signed = verify_destruction_statement(receipt.statement, receipt.signature, identity=receipt.identity)
    destruction = signed.destruction
    if destruction.vm_id != vm_id:
        raise LaunchError("destruction_of_another", f"of {destruction.vm_id.hex()}, ours is {vm_id.hex()}")
    entry = trust.verify(receipt.log_receipt)
    expected: dict[str, Value] = {
        "vm_id": vm_id,
        "epoch": destruction.epoch,
        "node": destruction.node,
        "statement_sha256": signed.sha256,
        "identity_sha256": hashlib.sha256(receipt.identity).digest(),
    }
    if entry.kind != DESTROY or entry.details is None:
        raise LaunchError("destruction_entry", f"the log's receipt is of {entry.kind!r}, or tells no details")
    for name, value in expected.items():
        if entry.details.get(name) != value:
            raise LaunchError("destruction_entry", f"{name}: the log says another than the statement")
    return VerifiedDestruction(destruction, entry, destruction.node)
