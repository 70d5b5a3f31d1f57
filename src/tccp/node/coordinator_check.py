"""The node checks the coordinator before it sends its own evidence: is it the one we were told to trust, now?"""

from tccp.attestation.quote import AkKey
from tccp.errors import LogError, PolicyError, QuoteError
from tccp.model import PcrValues
from tccp.protocol import binding
from tccp.protocol.binding import Channel
from tccp.protocol.messages import CoordinatorEvidence
from tccp.protocol.statements import CoordinatorStatement, coordinator_id, log_origin
from tccp.transparency.note import NoteKey
from tccp.transparency.receipt import VerifiedReceipt, verify_receipt
from tccp.transport.certificates import spki_of_pem
from tccp.transport.coordinator_evidence import verify_coordinator
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
    verified = verify_coordinator(
        evidence,
        identity_key=trust.identity_key,
        ak=AkKey.from_spki(trust.ak_spki),
        bank=trust.pcrs.selection.bank,
        leaf=binding.coordinator_leaf(node_nonce, channel),
        coordinator_spki=channel.coordinator_spki,
    )
    _judge_pcrs(verified.quote.pcrs, trust.pcrs)
    if verified.statement.ca_spki != spki_of_pem(trust.ca_certificate):
        raise QuoteError("coordinator_keys", "the statement speaks of another authority than the trust file")
    return verified.statement


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


def _judge_pcrs(claimed: PcrValues, trusted: PcrValues) -> None:
    for index in trusted.selection.indexes:
        if claimed.values.get(index) != trusted.values[index]:
            found = claimed.values.get(index, b"").hex() or "not quoted"
            detail = f"PCR {index} of the coordinator is {found}, the trust file says {trusted.values[index].hex()}"
            hint = "if the coordinator was updated on purpose, get its new trust file from its operator"
            raise PolicyError("coordinator_platform", detail, hint=hint)
