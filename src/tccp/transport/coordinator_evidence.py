"""What a coordinator shows of itself, checked by whoever is about to trust it: a node, or a tenant.

Proved is that the identity signed the statement of the keys; that a quote by the AK covers the statement, our nonce
and this very connection; and which PCR values the coordinator's TPM had then. Whether those are values that we
trust, and whether identity and AK are those that we mean, the caller knows.
"""

from dataclasses import dataclass, field

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tccp.attestation.quote import AkKey, VerifiedQuote, verify_quote
from tccp.errors import QuoteError
from tccp.merkle import root_from_path
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection, PcrValues, spki_sha256
from tccp.protocol import binding
from tccp.protocol.messages import CoordinatorEvidence
from tccp.protocol.statements import CoordinatorStatement, decode_coordinator

_VERIFIED = object()


@dataclass(frozen=True, slots=True)
class VerifiedCoordinator:
    """A coordinator that proved itself on this connection. Only `verify_coordinator` makes one."""

    statement: CoordinatorStatement
    quote: VerifiedQuote
    _token: object = field(repr=False)

    def __post_init__(self) -> None:
        """Nobody else says that a coordinator was verified."""
        if self._token is not _VERIFIED:
            raise TypeError("a VerifiedCoordinator is made by verify_coordinator only")


def verify_coordinator(
    evidence: CoordinatorEvidence,
    *,
    identity_key: bytes,
    ak: AkKey,
    bank: PcrBank,
    leaf: bytes,
    coordinator_spki: bytes,
) -> VerifiedCoordinator:
    """Check everything but whether the platform is one to trust.

    Args:
        identity_key: The Ed25519 key that must have signed the statement, and that it must name.
        ak: The attestation key that must have made the quote.
        bank: The PCR bank that must have been quoted.
        leaf: `tccp.protocol.binding.coordinator_leaf` or `tenant_leaf`, as this side computes it.
        coordinator_spki: SHA-256 of the TLS key at the other end of this connection, which the statement must name.

    Raises:
        QuoteError: Something does not hold: ``coordinator_signature``, ``coordinator_path``, ``coordinator_pcrs``,
            ``coordinator_keys``, or a reason of `verify_quote`.
        ProtocolError: The statement, which was signed, is none.
    """
    try:
        VerifyKey(identity_key).verify(evidence.statement, evidence.statement_signature)
    except BadSignatureError:
        raise QuoteError("coordinator_signature", "the statement is not signed by the pinned identity") from None
    root = root_from_path(leaf, evidence.leaf_index, evidence.leaf_count, evidence.path)
    if root is None:
        raise QuoteError("coordinator_path", "the Merkle path fits no tree of that size")
    quote = verify_quote(
        evidence.attest,
        evidence.signature,
        _claimed_pcrs(evidence, bank),
        ak=ak,
        qualifying_data=binding.coordinator(root, evidence.statement),
    )
    statement = decode_coordinator(evidence.statement)
    if statement.identity_key != identity_key or spki_sha256(statement.tls_spki) != coordinator_spki:
        raise QuoteError("coordinator_keys", "the statement speaks of other keys than this connection's")
    return VerifiedCoordinator(statement, quote, _VERIFIED)


def _claimed_pcrs(evidence: CoordinatorEvidence, bank: PcrBank) -> PcrValues:
    try:
        selection = PcrSelection(PcrBank(evidence.bank), evidence.pcr_indexes)
        claimed = PcrValues(selection, dict(zip(evidence.pcr_indexes, evidence.pcrs, strict=True)))
    except ValueError as problem:
        raise QuoteError("coordinator_pcrs", str(problem)) from None
    if selection.bank != bank or not RESETTABLE_PCRS.isdisjoint(selection.indexes):
        raise QuoteError("coordinator_pcrs", f"{selection} proves nothing; {bank.hash_name} is what we trust")
    return claimed
