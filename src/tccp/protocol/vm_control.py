"""What is said of tenants and VMs on control sockets; `tccp.protocol.control` has the rest."""

from typing import Annotated

from msgspec import Meta

from tccp.protocol import fields as f
from tccp.protocol.encoding import Message

Path = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^/[^\0]*\Z")]
TenantName = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z")]
Images = Annotated[tuple[Path, ...], Meta(min_length=1, max_length=16)]  # as a ticket names


# ---- requests to a coordinator


class AddTenant(Message, frozen=True, tag="add_tenant"):
    """Let the tickets of a tenant count. Answered by `TenantInfo`."""

    name: TenantName
    key: f.Ed25519Key


class RemoveTenant(Message, frozen=True, tag="remove_tenant"):
    """Let them count no more; what runs goes on. Answered by `TenantInfo`."""

    name: TenantName


class ListTenants(Message, frozen=True, tag="list_tenants"):
    """Answered by `Tenants`."""


class ListOwnedVms(Message, frozen=True, tag="list_owned_vms"):
    """Answered by `OwnedVms`."""


# ---- requests to a node


class LaunchVm(Message, frozen=True, tag="launch_vm"):
    """Start the VM of a ticket. Answered by a `VmInfo` at each step, the last one when it runs or has failed.

    *images* are files on the node, in any order: the ticket names each by its root.
    """

    ticket: f.TicketFile
    images: Images


class ListVms(Message, frozen=True, tag="list_vms"):
    """Answered by `Vms`."""


class ShowVm(Message, frozen=True, tag="show_vm"):
    """Answered by `VmInfo`."""

    vm_id: f.Id16


class StopVm(Message, frozen=True, tag="stop_vm"):
    """End a VM: *force* pulls the plug, else its guest is asked to shut down. Answered by a `VmInfo` at each step."""

    vm_id: f.Id16
    force: bool


class SuspendVm(Message, frozen=True, tag="suspend_vm"):
    """Write a VM to a file and end it. Answered by a `VmInfo` at each step, until it can be resumed or goes on."""

    vm_id: f.Id16


class SnapshotVm(Message, frozen=True, tag="snapshot_vm"):
    """Keep the state of a VM, which goes on. Answered by a `VmInfo` at each step, until it runs or has failed."""

    vm_id: f.Id16


class ResumeVm(Message, frozen=True, tag="resume_vm"):
    """Have a VM go on from a suspended state, under the ticket that has started it. Answered as `LaunchVm`."""

    ticket: f.TicketFile
    state: Path
    images: Images


class ReceiveVm(Message, frozen=True, tag="receive_vm"):
    """Take over the running VM that a ticket has started, from its node. Answered as `LaunchVm`."""

    ticket: f.TicketFile
    images: Images


class CancelVm(Message, frozen=True, tag="cancel_vm"):
    """Give up a move, at either end, or a start. Answered by a `VmInfo` at each step, until that is settled."""

    vm_id: f.Id16


class DestroyVm(Message, frozen=True, tag="destroy_vm"):
    """End a VM and wipe all that there is of it here. Answered by a `VmInfo` at each step, until it is recorded."""

    vm_id: f.Id16


class GetDestructionReceipt(Message, frozen=True, tag="get_destruction_receipt"):
    """Answered by `DestructionReceiptFile`."""

    vm_id: f.Id16


class WatchVms(Message, frozen=True, tag="watch_vms"):
    """Answered by the `VmInfo` of each VM, and then of each that changes, until the peer leaves."""


class GetLaunchReceipt(Message, frozen=True, tag="get_launch_receipt"):
    """Answered by `LaunchReceiptFile`."""

    vm_id: f.Id16


# ---- answers


class TenantInfo(Message, frozen=True, tag="tenant_info"):
    """One tenant."""

    name: str
    key: f.Ed25519Key
    added_ms: f.UnixMilliseconds


class Tenants(Message, frozen=True, tag="tenants"):
    """In order of name."""

    tenants: tuple[TenantInfo, ...]


class OwnedVm(Message, frozen=True, tag="owned_vm"):
    """A VM in the coordinator's record."""

    vm_id: f.Id16
    tenant: str  # name; hexadecimal key when the tenant was removed
    state: str  # "running", "suspended", "ended", "lost", "destroyed"
    epoch: f.Count
    node: str
    released_ms: f.UnixMilliseconds
    ended_ms: f.UnixMilliseconds  # 0 while it runs
    end_reason: str
    log_index: f.Count  # of the release, or resumption


class OwnedVms(Message, frozen=True, tag="owned_vms"):
    """In order of id."""

    vms: tuple[OwnedVm, ...]


class VmTransfer(Message, frozen=True, tag="vm_transfer"):
    """How far a VM is on its way from node to node, or what that took.

    Bytes left are the guest's, bytes sent those on the wire.
    """

    disk_bytes: f.Count
    disk_left_bytes: f.Count
    memory_bytes: f.Count  # 0 before it is its turn
    memory_left_bytes: f.Count
    sent_bytes: f.Count
    bytes_per_s: f.Count
    rounds: f.Count  # how often its memory was gone through
    state_sent_bytes: f.Count  # memory, devices, vTPM; this and the following are 0 before all is sent
    disk_sent_bytes: f.Count
    total_ms: f.Count  # from when it was asked for, or ordered, at this node
    still_ms: f.Count  # for so long the guest stood still; known where it runs now


class VmInfo(Message, frozen=True, tag="vm_info"):
    """One VM on a node: of this run of its daemon, or one of which an earlier run has left something."""

    vm_id: f.Id16
    state: str  # as `tccp.node.vms` draws it
    tenant_key: f.Ed25519Key
    ticket_sha256: f.Digest32
    epoch: f.Count  # 0 before its keys were released
    vcpus: f.Count
    memory_mib: f.Count
    launched_ms: f.UnixMilliseconds
    started_ms: f.UnixMilliseconds  # 0 before it runs
    ended_ms: f.UnixMilliseconds  # 0 before it has ended
    reason: str  # why it ended or failed
    detail: f.Text
    hint: f.Text
    console: str  # path of a Unix socket; empty when there is none
    has_receipt: bool
    saved: str  # path of its suspended state; empty when there is none
    transfer: VmTransfer | None  # when it moves, or has moved


class Vms(Message, frozen=True, tag="vms"):
    """The newest first."""

    vms: tuple[VmInfo, ...]


class LaunchReceiptFile(Message, frozen=True, tag="launch_receipt_file"):
    """What the tenant gets: `tccp vm verify` reads it."""

    body: Annotated[bytes, Meta(max_length=1 << 20)]


class DestructionReceiptFile(Message, frozen=True, tag="destruction_receipt_file"):
    """What the tenant gets: `tccp vm verify-destruction` reads it."""

    body: Annotated[bytes, Meta(max_length=1 << 20)]
