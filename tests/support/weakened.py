"""Coordinators with one defence left out, to show that an attack works without it. For tests alone.

Each function takes the defence out of a running coordinator, for the time of one test.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tccp.attestation.policy import PcrPolicy, TrustedPlatform
from tccp.attestation.quote import QuoteClaim, VerifiedQuote, inspect_quote, verify_quotes
from tccp.errors import QuoteError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.protocol.statements import decode_identity
from tests.support.live_coordinator import LiveCoordinator

Weaken = Callable[[LiveCoordinator, pytest.MonkeyPatch], None]
REGISTRATION = "tccp.coordinator.registration"


def _believe(monkeypatch: pytest.MonkeyPatch, adapt: Callable[[QuoteClaim], QuoteClaim]) -> None:
    """Have other claims verified than were made, and those that were made believed."""

    def verify_some(claims: Sequence[QuoteClaim]) -> list[VerifiedQuote | QuoteError]:
        verdicts = verify_quotes([adapt(claim) for claim in claims])
        for claim, verdict in zip(claims, verdicts, strict=True):
            if isinstance(verdict, VerifiedQuote):
                object.__setattr__(verdict, "pcrs", claim.pcrs)
        return verdicts

    for user in ("verifier", "renewals"):
        monkeypatch.setattr(f"tccp.coordinator.{user}.verify_quotes", verify_some)


def takes_any_nonce(_: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the quote answers is not looked at."""

    def adapt(claim: QuoteClaim) -> QuoteClaim:
        return replace(claim, qualifying_data=inspect_quote(claim.attest, claim.signature, ak=claim.ak).extra_data)

    _believe(monkeypatch, adapt)


def takes_any_selection(_: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which PCRs were quoted is not looked at: the claimed values, one after another, may be those of others."""

    def adapt(claim: QuoteClaim) -> QuoteClaim:
        ((bank, indexes),) = inspect_quote(claim.attest, claim.signature, ak=claim.ak).selections
        quoted = PcrSelection(PcrBank(bank), indexes)
        values = [value.ljust(quoted.bank.digest_bytes, b"\0") for value in claim.pcrs.values.values()]
        return replace(claim, pcrs=PcrValues(quoted, dict(zip(indexes, values, strict=True))))

    _believe(monkeypatch, adapt)


def takes_any_values(true: PcrValues) -> Weaken:
    """The claimed PCR values are not held against the digest that was signed, which is that of *true*."""

    def weaken(_: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
        _believe(monkeypatch, lambda claim: replace(claim, pcrs=true))

    return weaken


def trusts_any_platform(_: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy allows whatever value it meets."""
    judge = PcrPolicy.judge

    def allow(policy: PcrPolicy, quote: VerifiedQuote) -> TrustedPlatform:
        allowed = {index: frozenset({value}) for index, value in quote.pcrs.values.items()}
        return judge(replace(policy, allowed=allowed), quote)

    monkeypatch.setattr(PcrPolicy, "judge", allow)


def takes_any_identity(_: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity statement may name any node and any TLS key."""
    monkeypatch.setattr(f"{REGISTRATION}.check_identity", lambda statement, **_: decode_identity(statement))


def takes_any_nonce_and_identity(coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both: what a quote is bound to protects twice."""
    takes_any_nonce(coordinator, monkeypatch)
    takes_any_identity(coordinator, monkeypatch)


def leaves_out(name: str, *, module: str = REGISTRATION) -> Weaken:
    """A check of *module* that returns nothing is not done."""

    def weaken(_: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(f"{module}.{name}", _nothing)

    return weaken


def _nothing(*_: Any, **__: Any) -> None:
    """Look away."""
