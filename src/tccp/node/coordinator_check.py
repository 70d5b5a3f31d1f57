"""The node checks the coordinator before it sends its own evidence: is it the one we were told to trust, now?"""

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tccp.attestation.quote import AkKey, verify_quote
from tccp.errors import LogError, PolicyError, QuoteError
from tccp.merkle import root_from_path
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection, PcrValues, spki_sha256
from tccp.protocol import binding
from tccp.protocol.binding import Channel
from tccp.protocol.messages import CoordinatorEvidence
from tccp.protocol.statements import CoordinatorStatement, coordinator_id, decode_coordinator, log_origin
from tccp.transparency.note import NoteKey
from tccp.transparency.receipt import VerifiedReceipt, verify_receipt
from tccp.transport.certificates import spki_of_pem
from tccp.transport.trust import CoordinatorTrust


def check_coordinator(
    evidence: CoordinatorEvidence, *, trust: CoordinatorTrust, node_nonce: bytes, channel: Channel
) -> CoordinatorStatement:
    """The coordinator's statement of its keys, once everything about it is proved.

    Proved are: the statement is signed by the pinned identity; the TLS key at the other end of *channel* is the one
    that it names; a TPM quote by the pinned AK covers the statement, our nonce and this channel; the PCR values are
    those of the trust file.

    Raises:
        QuoteError: The signature, the Merkle path or the quote does not hold.
        PolicyError: The platform of the coordinator is another than the trust file names.
    """
    try:
        VerifyKey(trust.identity_key).verify(evidence.statement, evidence.statement_signature)
    except BadSignatureError:
        raise QuoteError("coordinator_signature", "the statement is not signed by the pinned identity") from None
    leaf = binding.coordinator_leaf(node_nonce, channel)
    root = root_from_path(leaf, evidence.leaf_index, evidence.leaf_count, evidence.path)
    if root is None:
        raise QuoteError("coordinator_path", "the Merkle path fits no tree of that size")
    claimed = _claimed_pcrs(evidence, trust.pcrs.selection.bank)
    verify_quote(
        evidence.attest,
        evidence.signature,
        claimed,
        ak=AkKey.from_spki(trust.ak_spki),
        qualifying_data=binding.coordinator(root, evidence.statement),
    )
    _judge_pcrs(claimed, trust.pcrs)
    statement = decode_coordinator(evidence.statement)
    same = (
        statement.identity_key == trust.identity_key
        and statement.ca_spki == spki_of_pem(trust.ca_certificate)
        and spki_sha256(statement.tls_spki) == channel.coordinator_spki
    )
    if not same:
        raise QuoteError("coordinator_keys", "the statement speaks of other keys than this connection's")
    return statement


def check_admission(receipt: bytes, statement: CoordinatorStatement, *, node: str, lease_id: bytes) -> VerifiedReceipt:
    """The entry of our admission in the coordinator's log: what it told us, it has told everybody who reads the log.

    Args:
        statement: From `check_coordinator`.

    Raises:
        LogError: as `verify_receipt`; ``another_entry``: it is of something else.
    """
    origin = log_origin(coordinator_id(statement.identity_key))
    verified = verify_receipt(receipt, origin=origin, log_key=NoteKey(origin, statement.log_key))
    told = verified.details or {}
    if (verified.kind, told.get("node"), told.get("lease_id")) != ("admit", node, lease_id):
        raise LogError("another_entry", f"entry {verified.index} is not our admission")
    return verified


def _claimed_pcrs(evidence: CoordinatorEvidence, bank: PcrBank) -> PcrValues:
    try:
        selection = PcrSelection(PcrBank(evidence.bank), evidence.pcr_indexes)
        claimed = PcrValues(selection, dict(zip(evidence.pcr_indexes, evidence.pcrs, strict=True)))
    except ValueError as problem:
        raise QuoteError("coordinator_pcrs", str(problem)) from None
    if selection.bank != bank or not RESETTABLE_PCRS.isdisjoint(selection.indexes):
        raise QuoteError("coordinator_pcrs", f"{selection} proves nothing; {bank.hash_name} is what we trust")
    return claimed


def _judge_pcrs(claimed: PcrValues, trusted: PcrValues) -> None:
    for index in trusted.selection.indexes:
        if claimed.values.get(index) != trusted.values[index]:
            found = claimed.values.get(index, b"").hex() or "not quoted"
            detail = f"PCR {index} of the coordinator is {found}, the trust file says {trusted.values[index].hex()}"
            hint = "if the coordinator was updated on purpose, get its new trust file from its operator"
            raise PolicyError("coordinator_platform", detail, hint=hint)
