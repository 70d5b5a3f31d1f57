"""Quotes of many nodes verified together: one call of the C core for all that have arrived, off the event loop.

The C core verifies eight signatures at once where the CPU can; a batch is whatever waits when the one before is
done, so a quiet coordinator answers at once and a busy one answers more cheaply.
"""

import trio

from tccp.attestation.quote import QuoteClaim, VerifiedQuote, verify_quotes
from tccp.coordinator.batching import Waiting, next_batch

BATCH_MAX = 256
WAITING_MAX = 65_536


class QuoteVerifier:
    """Verifies quotes in batches; `run` must be running."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Waiting[QuoteClaim, VerifiedQuote]](WAITING_MAX)

    async def verify(self, claim: QuoteClaim) -> VerifiedQuote:
        """The verified quote in *claim*.

        Raises:
            QuoteError: It does not hold.
        """
        waiting: Waiting[QuoteClaim, VerifiedQuote] = Waiting(claim)
        await self._send.send(waiting)
        return await waiting.outcome()

    async def run(self) -> None:
        """Verify what arrives, until cancelled."""
        while True:
            batch = await next_batch(self._receive, BATCH_MAX)
            verdicts = await trio.to_thread.run_sync(verify_quotes, [waiting.request for waiting in batch])
            for waiting, verdict in zip(batch, verdicts, strict=True):
                waiting.settle(verdict)
