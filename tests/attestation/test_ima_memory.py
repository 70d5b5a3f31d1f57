"""What is kept of a host's measurements counts for the same TPM, boot and policy, if we wrote it, and for nothing else.

With a coordinator around it: `tests/coordinator/test_measured_before.py`.
"""

from typing import Any

import pytest

from tccp.attestation.ima import ImaProgress, prove_measurements
from tccp.attestation.ima_memory import MAC_BYTES, keep_progress, recall_progress
from tccp.attestation.ima_rules import ImaRules, ListedDigest
from tccp.attestation.quote import AkKey, VerifiedQuote, verify_quote
from tccp.model import PcrValues
from tests.attestation.test_quote import FORGER, NONCE, PCRS, good_attest
from tests.support.forger import Forger
from tests.support.ima_lists import AGGREGATE, compiled, ng, quoted, sha256, written

KEY = bytes(range(32))
LIST = [AGGREGATE, ng(b"good", b"/usr/bin/good")]
POLICY = compiled(ImaRules([ListedDigest(sha256(b"good"))]))
ACCEPTED = POLICY.judge(prove_measurements(written(LIST), ImaProgress.start(), quoted(LIST)))


def quote_of(forger: Forger = FORGER, pcrs: PcrValues = PCRS, **changes: Any) -> VerifiedQuote:
    attest = good_attest(pcrs=pcrs).but(**changes).encode()
    ak = AkKey.from_tpm_public(forger.tpm_public())
    return verify_quote(attest, forger.sign(attest), pcrs, ak=ak, qualifying_data=NONCE)


def with_value(index: int) -> PcrValues:
    return PcrValues(PCRS.selection, dict(PCRS.values) | {index: b"\xee" * 32})


def kept(key: bytes = KEY) -> bytes:
    return keep_progress(quote_of(), ACCEPTED, key)


def recalled(quote: VerifiedQuote, content: bytes | None = None, policy: bytes = POLICY.sha256) -> ImaProgress | None:
    return recall_progress(kept() if content is None else content, quote, policy, KEY)


def test_the_next_quote_of_the_same_boot_goes_on_where_the_last_one_ended() -> None:
    for quote in (quote_of(), quote_of(pcrs=with_value(10)), quote_of(clock_ms=1)):
        assert recalled(quote) == ACCEPTED.progress


@pytest.mark.parametrize(
    "quote",
    [
        quote_of(reset_count=8),
        quote_of(restart_count=3),
        quote_of(pcrs=with_value(4)),
        quote_of(Forger("p384", "ecdsa", "sha256")),
    ],
    ids=["rebooted", "resumed", "booted something else", "another TPM"],
)
def test_another_boot_begins_at_the_beginning(quote: VerifiedQuote) -> None:
    assert recalled(quote) is None


def test_another_policy_begins_at_the_beginning() -> None:
    assert recalled(quote_of(), policy=bytes(32)) is None


def test_no_bit_of_what_is_kept_can_be_changed() -> None:
    whole = kept()
    for position in range(len(whole)):
        altered = bytearray(whole)
        altered[position] ^= 1
        assert recalled(quote_of(), bytes(altered)) is None
    for content in (b"", whole[:MAC_BYTES], whole[:-1], whole + b"\0"):
        assert recalled(quote_of(), content) is None


def test_what_another_coordinator_has_written_counts_for_nothing() -> None:
    assert recalled(quote_of(), kept(bytes(32))) is None
