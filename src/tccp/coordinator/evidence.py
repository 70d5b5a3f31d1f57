"""The coordinator's own evidence: one quote of its TPM answers every node that waits for one.

A TPM makes from two to a thousand quotes a second, and all nodes come back at once when a coordinator restarts.
So the nonces of all who wait are leaves of a Merkle tree, the quote covers its root, and each node gets the path
from its own nonce: a quote that it can verify as if it were made for it alone.
"""

import trio

from tccp.coordinator.batching import Waiting, next_batch
from tccp.coordinator.identity import CoordinatorIdentity
from tccp.errors import HostError
from tccp.merkle import merkle_tree
from tccp.model import PcrSelection, PcrValues
from tccp.protocol import binding
from tccp.protocol.messages import CoordinatorEvidence
from tccp.tpm import Ak, Quote, Tpm

LEAVES_MAX = 1024
WAITING_MAX = 65_536


class OwnEvidence:
    """Quotes of the coordinator's TPM; `run` must be running."""

    def __init__(self, tpm: Tpm, ak: Ak, selection: PcrSelection, identity: CoordinatorIdentity) -> None:
        self.tpm = tpm
        self._ak, self._selection, self._identity = ak, selection, identity
        self._send, self._receive = trio.open_memory_channel[Waiting[bytes, CoordinatorEvidence]](WAITING_MAX)

    async def evidence_for(self, leaf: bytes) -> CoordinatorEvidence:
        """Evidence that covers *leaf* (`tccp.protocol.binding.coordinator_leaf`).

        Raises:
            HostError: Our TPM failed, or more nodes wait than we can hold.
        """
        waiting: Waiting[bytes, CoordinatorEvidence] = Waiting(leaf)
        try:
            self._send.send_nowait(waiting)
        except trio.WouldBlock:
            raise HostError("overloaded", "too many nodes wait for the coordinator's quote") from None
        return await waiting.outcome()

    async def run(self) -> None:
        """Answer who waits, until cancelled.

        Raises:
            TpmError: The TPM is lost; without it no node can know this coordinator any more.
        """
        while True:
            batch = await next_batch(self._receive, LEAVES_MAX)
            root, paths = merkle_tree([waiting.request for waiting in batch])
            qualifying_data = binding.coordinator(root, self._identity.statement)
            try:
                quote, pcrs = await self.tpm.quote_with_pcrs(self._ak, qualifying_data, self._selection)
            except HostError as problem:
                for waiting in batch:
                    waiting.settle(problem)
                if self.tpm.closed:
                    raise  # the daemon ends, and its restart opens a new connection
            else:
                for index, waiting in enumerate(batch):
                    waiting.settle(self._evidence(quote, pcrs, index, paths))

    def _evidence(self, quote: Quote, pcrs: PcrValues, index: int, paths: list[list[bytes]]) -> CoordinatorEvidence:
        return CoordinatorEvidence(
            statement=self._identity.statement,
            statement_signature=self._identity.statement_signature,
            attest=quote.attest,
            signature=quote.signature,
            bank=int(pcrs.selection.bank),
            pcr_indexes=pcrs.selection.indexes,
            pcrs=tuple(pcrs.values[pcr] for pcr in pcrs.selection.indexes),
            leaf_index=index,
            leaf_count=len(paths),
            path=tuple(paths[index]),
        )
