"""Every message between node and coordinator: the schema, and nothing else.

In the order in which they are said; `tccp.protocol.session` says when each is legal. The numbers are those of the
registration exchange; docs/PROTOCOL.md draws it.
"""

from tccp.protocol import fields as f
from tccp.protocol.encoding import Message

PROTOCOL_VERSION = 1
FIRMWARE_LOG: f.HostLog = "firmware"  # the whole of it
IMA_LIST: f.HostLog = "ima"
HOST_LOG_PART_BYTES = 768 * 1024


class Hello(Message, frozen=True, tag="hello"):
    """1. Node -> coordinator. Who I claim to be, and prove to me first who you are."""

    version: int
    node_nonce: f.Nonce32
    ek_certificate: f.CertificateOrNone  # DER; empty when the EK was enrolled by its public key
    ek_chain: f.CertificateChain  # intermediates that the TPM carries
    ek_public: f.TpmPublic  # TPMT_PUBLIC
    ak_public: f.TpmPublic  # TPMT_PUBLIC


class CoordinatorEvidence(Message, frozen=True, tag="coordinator_evidence"):
    """A quote of the coordinator's own TPM that covers the node's nonce, among others' (a Merkle tree of them)."""

    statement: f.Statement  # CoordinatorStatement, signed bytes
    statement_signature: f.Ed25519Signature
    attest: f.Attest
    signature: f.TpmSignature
    bank: f.BankId
    pcr_indexes: f.PcrIndexes
    pcrs: f.PcrDigests
    leaf_index: int
    leaf_count: int
    path: f.MerklePath


class Challenge(Message, frozen=True, tag="challenge"):
    """2. Coordinator -> node. My evidence; activate this credential and quote these PCRs over this nonce."""

    coordinator: CoordinatorEvidence
    id_object: f.TpmBlob  # content of TPM2B_ID_OBJECT
    encrypted_secret: f.TpmBlob  # content of TPM2B_ENCRYPTED_SECRET
    nonce: f.Nonce32
    bank: f.BankId
    pcr_indexes: f.PcrIndexes


class Evidence(Message, frozen=True, tag="evidence"):
    """3. Node -> coordinator. The credential, the keys of this boot, and the quote that binds them."""

    credential: f.Digest32
    identity: f.Statement  # IdentityStatement, signed through the quote
    attest: f.Attest
    signature: f.TpmSignature
    pcrs: f.PcrDigests
    event_log: f.FirmwareLog


class HostLogRequest(Message, frozen=True, tag="host_log_request"):
    """Coordinator -> node, before it says what it makes of a quote: that log, from *offset* on, as it is now."""

    log: f.HostLog
    offset: f.HostLogOffset


class HostLogPart(Message, frozen=True, tag="host_log_part"):
    """Node -> coordinator. What there is, as much as a message holds; empty where the log ends, or there is none."""

    content: f.HostLogContent


class Admitted(Message, frozen=True, tag="admitted"):
    """4. Coordinator -> node. The lease: until it ends you are inside the perimeter."""

    lease_id: f.Id16
    lease_s: f.Seconds
    certificate: f.Certificate  # X.509 for the node's TLS key
    receipt: f.LogReceipt  # that the coordinator's log has the admission (`tccp.transparency.receipt`)


class RenewalChallenge(Message, frozen=True, tag="renewal_challenge"):
    """Coordinator -> node, before the lease ends or whenever it wants to know: quote again."""

    lease_id: f.Id16
    nonce: f.Nonce32
    bank: f.BankId
    pcr_indexes: f.PcrIndexes


class RenewalEvidence(Message, frozen=True, tag="renewal_evidence"):
    """Node -> coordinator. A fresh quote of the same boot."""

    attest: f.Attest
    signature: f.TpmSignature
    pcrs: f.PcrDigests


class Renewed(Message, frozen=True, tag="renewed"):
    """Coordinator -> node. The lease holds again for this long, counted from the quote."""

    lease_id: f.Id16
    lease_s: f.Seconds
    certificate: f.Certificate


class Refused(Message, frozen=True, tag="refused"):
    """Coordinator -> node, instead of any answer. The reason is coarse; the operator's log has the details."""

    reason: f.Reason


class Revoked(Message, frozen=True, tag="revoked"):
    """Coordinator -> node, at any time after admission: you are out, now."""

    reason: f.Reason


class KeyRequest(Message, frozen=True, tag="key_request"):
    """Node -> coordinator, at any time after admission: the keys of the VM that this ticket is for."""

    ticket: f.TicketBytes  # Ticket, signed bytes
    signature: f.Ed25519Signature
    nonce: f.Nonce32  # the same when the node asks again because the answer was lost


class ResumeRequest(Message, frozen=True, tag="resume_request"):
    """Node -> coordinator: the keys of the VM that this ticket has started, to go on from its suspended state."""

    ticket: f.TicketBytes
    signature: f.Ed25519Signature
    nonce: f.Nonce32
    state_root: f.Digest32


class KeyRelease(Message, frozen=True, tag="key_release"):
    """Coordinator -> node. You own this VM in this epoch; *wrapped_keys* opens with the key of your boot only."""

    nonce: f.Nonce32
    vm_id: f.Id16
    epoch: f.Epoch
    wrapped_keys: f.WrappedKeys
    disk_root: f.DigestOrNone  # that the VM's disk must have; empty when it has none yet
    generation: f.Generation  # of the suspended state to go on from; 0 for a start
    state_root: f.DigestOrNone  # of that state; empty for a start
    marks: f.Marks  # that the histories of its disks must have come by; empty when there are none
    receipt: f.LogReceipt  # of the release, or resumption


class KeyRefused(Message, frozen=True, tag="key_refused"):
    """Coordinator -> node, instead of the keys. The node's lease is not touched."""

    nonce: f.Nonce32
    reason: f.Reason


class VmEnded(Message, frozen=True, tag="vm_ended"):
    """Node -> coordinator, said again until it is recorded: the VM has ended here, and its keys are wiped."""

    vm_id: f.Id16
    epoch: f.Epoch
    disk_root: f.DigestOrNone  # of its disk as it was left; empty when it has none, or nobody can say
    marks: f.Marks  # the last moments that are known of its disks
    reason: f.Reason


class VmEndRecorded(Message, frozen=True, tag="vm_end_recorded"):
    """Coordinator -> node: no need to say it again."""

    vm_id: f.Id16
    epoch: f.Epoch


class VmMarked(Message, frozen=True, tag="vm_marked"):
    """Node -> coordinator, now and then while the VM runs: so far have its disks come, whatever happens next."""

    vm_id: f.Id16
    epoch: f.Epoch
    marks: f.Marks


class VmMarksRecorded(Message, frozen=True, tag="vm_marks_recorded"):
    """Coordinator -> node: these are on record, and will be demanded if the VM does not end in good order."""

    vm_id: f.Id16
    epoch: f.Epoch
    marks: f.Marks


class VmSuspended(Message, frozen=True, tag="vm_suspended"):
    """Node -> coordinator, said again until it is answered: the VM stands in a file, and nowhere else.

    *generation* is the epoch; or, when a VM was to be resumed and has never run, that of the state as it was.
    """

    vm_id: f.Id16
    epoch: f.Epoch
    generation: f.Epoch
    state_root: f.Digest32
    disk_root: f.DigestOrNone
    marks: f.Marks


class VmSuspendRecorded(Message, frozen=True, tag="vm_suspend_recorded"):
    """Coordinator -> node: from now on the VM can be resumed, once."""

    vm_id: f.Id16
    epoch: f.Epoch


class VmDestroyed(Message, frozen=True, tag="vm_destroyed"):
    """Node -> coordinator, said again until it is answered: nothing is left of the VM here."""

    vm_id: f.Id16
    epoch: f.Epoch
    statement: f.Statement  # tccp.protocol.destruction:Destruction, signed bytes
    signature: f.Ed25519Signature  # by the signing key of the node's boot


class VmDestroyRecorded(Message, frozen=True, tag="vm_destroy_recorded"):
    """Coordinator -> node: nobody gets the VM's keys again."""

    vm_id: f.Id16
    epoch: f.Epoch
    receipt: f.LogReceipt


class VmReportRefused(Message, frozen=True, tag="vm_report_refused"):
    """Coordinator -> node: what you said with the message *report* is not recorded, and will not be."""

    report: f.Reason  # "vm_suspended", "vm_destroyed", "move_arrived" ...
    vm_id: f.Id16
    epoch: f.Epoch
    reason: f.Reason
    move_id: f.NonceOrNone  # that it named; empty where it named none


class MoveRequest(Message, frozen=True, tag="move_request"):
    """Node -> coordinator: I can take over the VM that this ticket has started, and wait for its node at *address*."""

    ticket: f.TicketBytes
    signature: f.Ed25519Signature
    nonce: f.Nonce32  # names the move from then on
    address: f.HostAndPort


class MovePrepared(Message, frozen=True, tag="move_prepared"):
    """Coordinator -> destination. What you need to take it over; it is not yours before `move_go`."""

    nonce: f.Nonce32
    vm_id: f.Id16
    epoch: f.Epoch  # that the VM will have
    wrapped_keys: f.WrappedKeys
    source_spki_sha256: f.Digest32  # of the TLS key that the source will show
    marks: f.Marks  # that are on record; its vTPM comes along, its disks will be new ones
    receipt: f.LogReceipt  # of the event `move`


class MoveOrder(Message, frozen=True, tag="move_order"):
    """Coordinator -> source. Send it there; until you have wiped it, it is yours, and you may go on alone."""

    vm_id: f.Id16
    epoch: f.Epoch
    move_id: f.Nonce32
    node: f.Name
    address: f.HostAndPort
    spki_sha256: f.Digest32  # of the TLS key that the destination will show


class MoveArrived(Message, frozen=True, tag="move_arrived"):
    """Destination -> coordinator, said again until it is answered: all of it is here, and stands still."""

    vm_id: f.Id16
    epoch: f.Epoch  # that it will have
    move_id: f.Nonce32
    marks: f.Marks  # of its disks there; on record before it may run


class MoveWiped(Message, frozen=True, tag="move_wiped"):
    """Source -> coordinator, said again until it is answered: the destination has it, and nothing is left here."""

    vm_id: f.Id16
    epoch: f.Epoch
    move_id: f.Nonce32
    statement: f.Statement  # tccp.protocol.moving:Wiped, signed bytes
    signature: f.Ed25519Signature


class MoveStayed(Message, frozen=True, tag="move_stayed"):
    """Source -> coordinator, said again until it is answered: I go on alone, and wipe nothing."""

    vm_id: f.Id16
    epoch: f.Epoch
    move_id: f.Nonce32
    reason: f.Reason


class MoveGo(Message, frozen=True, tag="move_go"):
    """Coordinator -> destination: the source has wiped it. It is yours in this epoch: let it run."""

    vm_id: f.Id16
    epoch: f.Epoch
    move_id: f.Nonce32
    receipt: f.LogReceipt  # of the event `moved`


class VmReportRecorded(Message, frozen=True, tag="vm_report_recorded"):
    """Coordinator -> source: what you said with the message *report* is on record."""

    report: f.Reason  # "move_wiped", "move_stayed"
    vm_id: f.Id16
    epoch: f.Epoch
    move_id: f.Nonce32


AnyMessage = (
    Hello
    | Challenge
    | Evidence
    | HostLogRequest
    | HostLogPart
    | Admitted
    | RenewalChallenge
    | RenewalEvidence
    | Renewed
    | Refused
    | Revoked
    | KeyRequest
    | ResumeRequest
    | KeyRelease
    | KeyRefused
    | VmEnded
    | VmEndRecorded
    | VmMarked
    | VmMarksRecorded
    | VmSuspended
    | VmSuspendRecorded
    | VmDestroyed
    | VmDestroyRecorded
    | VmReportRefused
    | MoveRequest
    | MovePrepared
    | MoveOrder
    | MoveArrived
    | MoveWiped
    | MoveStayed
    | MoveGo
    | VmReportRecorded
)

# What concerns VMs, beside the lease.
NodeRequest = KeyRequest | ResumeRequest | MoveRequest
MoveReport = MoveArrived | MoveWiped | MoveStayed
NodeReport = VmEnded | VmMarked | VmSuspended | VmDestroyed | MoveReport
VmAnswer = (
    KeyRelease
    | KeyRefused
    | VmEndRecorded
    | VmMarksRecorded
    | VmSuspendRecorded
    | VmDestroyRecorded
    | VmReportRefused
    | VmReportRecorded
    | MovePrepared
    | MoveGo
)
