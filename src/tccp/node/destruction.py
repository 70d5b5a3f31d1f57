"""What this boot signs when nothing is left of a VM here: for ever, with a file for its tenant; or in memory."""

from tccp.node.identity import NodeIdentity
from tccp.protocol.destruction import DESTRUCTION_DOMAIN, Destruction, DestructionReceipt, sign_destruction
from tccp.protocol.encoding import encode
from tccp.protocol.messages import MoveWiped, VmDestroyed, VmDestroyRecorded
from tccp.protocol.moving import WIPED_DOMAIN, Wiped, sign_wiped


def destroyed_here(identity: NodeIdentity, vm_id: bytes, epoch: int, *, at_ms: int) -> VmDestroyed:
    """The signed statement, as it goes to the coordinator."""
    said = Destruction(DESTRUCTION_DOMAIN, vm_id, epoch, identity.name, identity.boot_id, at_ms)
    statement, signature = sign_destruction(said, identity.signing_key)
    return VmDestroyed(vm_id, epoch, statement, signature)


def destruction_receipt(said: VmDestroyed, identity: NodeIdentity, answer: VmDestroyRecorded) -> bytes:
    """The file for the tenant."""
    return encode(DestructionReceipt(said.statement, said.signature, identity.statement, answer.receipt))


def wiped_here(identity: NodeIdentity, vm_id: bytes, epoch: int, move_id: bytes) -> MoveWiped:
    """The signed word of a move's source, as it goes to the coordinator."""
    said = Wiped(WIPED_DOMAIN, vm_id, epoch, move_id, identity.name, identity.boot_id)
    return MoveWiped(vm_id, epoch, move_id, *sign_wiped(said, identity.signing_key))
