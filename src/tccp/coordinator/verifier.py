"""Quotes of many nodes verified together: one call of the C core for all that have arrived, off the event loop.

The C core verifies eight signatures at once where the CPU can; a batch is whatever waits when the one before is
done, so a quiet coordinator answers at once and a busy one answers more cheaply.
"""

from collections.abc import Sequence

import trio

from tccp.attestation.quote import QuoteClaim, VerifiedQuote, verify_quotes
from tccp.bugs import contained
from tccp.coordinator.admission import claimed_pcrs
from tccp.coordinator.batching import Waiting, next_batch
from tccp.coordinator.sessions import NodeSession, OpenChallenge
from tccp.errors import HostError, TccpError
from tccp.protocol import binding
from tccp.protocol.messages import RenewalEvidence

BATCH_MAX = 256
WAITING_MAX = 65_536


def renewal_claim(session: NodeSession, challenge: OpenChallenge, evidence: RenewalEvidence) -> QuoteClaim:
    """What *session*'s node claims to have quoted in answer to *challenge*.

    Raises:
        QuoteError: It has not as many PCR values as were asked for.
    """
    record = session.lease.record
    return QuoteClaim(
        evidence.attest,
        evidence.signature,
        claimed_pcrs(challenge.selection, evidence.pcrs),
        ak=session.lease.ak,
        qualifying_data=binding.renewal(challenge.nonce, session.channel, record.lease_id, record.identity),
    )


class QuoteVerifier:
    """Verifies quotes in batches; `run` must be running."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Waiting[QuoteClaim, VerifiedQuote]](WAITING_MAX)

    async def verify(self, claim: QuoteClaim) -> VerifiedQuote:
        """The verified quote in *claim*.

        Raises:
            QuoteError: It does not hold.
            HostError: ``bug``.
        """
        waiting: Waiting[QuoteClaim, VerifiedQuote] = Waiting(claim)
        await self._send.send(waiting)
        return await waiting.outcome()

    async def run(self) -> None:
        """Verify what arrives, until cancelled."""
        while True:
            batch = await next_batch(self._receive, BATCH_MAX)
            verdicts: Sequence[VerifiedQuote | TccpError] = [HostError("bug", "in the verifier") for _ in batch]
            with contained("verifier_bug"):
                verdicts = await trio.to_thread.run_sync(verify_quotes, [waiting.request for waiting in batch])
            for waiting, verdict in zip(batch, verdicts, strict=True):
                waiting.settle(verdict)
