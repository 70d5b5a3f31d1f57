"""Quotes of many nodes verified together: one call of the C core for all that have arrived, off the event loop.

The C core verifies eight signatures at once where the CPU can; a batch is whatever waits when the one before is
done, so a quiet coordinator answers at once and a busy one answers more cheaply.
"""

import trio

from tccp.attestation.quote import QuoteClaim, VerifiedQuote, verify_quotes
from tccp.errors import QuoteError

BATCH_MAX = 256


class _Waiting:
    """One claim, and where its verdict goes."""

    def __init__(self, claim: QuoteClaim) -> None:
        self.claim = claim
        self.done = trio.Event()
        self.verdict: VerifiedQuote | QuoteError | None = None


class QuoteVerifier:
    """Verifies quotes in batches; `run` must be running."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[_Waiting](1 << 17)

    async def verify(self, claim: QuoteClaim) -> VerifiedQuote:
        """The verified quote in *claim*.

        Raises:
            QuoteError: It does not hold.
        """
        waiting = _Waiting(claim)
        await self._send.send(waiting)
        await waiting.done.wait()
        assert waiting.verdict is not None
        if isinstance(waiting.verdict, QuoteError):
            raise waiting.verdict
        return waiting.verdict

    async def run(self) -> None:
        """Verify what arrives, until cancelled."""
        async for first in self._receive:
            batch = [first]
            while len(batch) < BATCH_MAX:
                try:
                    batch.append(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            verdicts = await trio.to_thread.run_sync(verify_quotes, [waiting.claim for waiting in batch])
            for waiting, verdict in zip(batch, verdicts, strict=True):
                waiting.verdict = verdict
                waiting.done.set()
