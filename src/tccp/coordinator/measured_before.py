"""How far the measurements of each node were accepted, kept over its sessions and over restarts of the coordinator.

A cache (`tccp.attestation.ima_memory`): it is written late, many nodes in one transaction, and what a crash loses is
sent again by the host.
"""

import itertools
from collections.abc import Iterator

import structlog
import trio

from tccp.attestation.ima import AcceptedMeasurements, ImaProgress
from tccp.attestation.ima_memory import keep_progress, recall_progress
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import HostError
from tccp.model import NodeName
from tccp.store import ConflictError, Store

WRITE_S = 5.0
STOP_S = 2.0  # for what is not written yet when the coordinator stops
BATCH = 1_000

log = structlog.get_logger()


class MeasuredBefore:
    """What is known of all nodes; `run` must be running for it to last.

    Args:
        key: 32 bytes that whoever can write into the database does not have.
    """

    def __init__(self, store: Store, key: bytes) -> None:
        self._store, self._key = store, key
        self._unwritten: dict[NodeName, bytes] = {}

    def note(self, node: NodeName, quote: VerifiedQuote, accepted: AcceptedMeasurements) -> None:
        """*quote* has proved that *accepted* is what *node* measured."""
        self._unwritten[node] = keep_progress(quote, accepted, self._key)

    async def recall(self, node: NodeName, quote: VerifiedQuote, policy_sha256: bytes) -> ImaProgress | None:
        """How far the same IMA policy has accepted what the boot behind *quote* measured, if that is known."""
        content = self._unwritten.get(node)
        if content is None:
            try:
                content = await self._store.measured(node)
            except HostError as problem:
                log.warning("measurements_not_recalled", node=str(node), reason=problem.reason)
        return None if content is None else recall_progress(content, quote, policy_sha256, self._key)

    async def run(self) -> None:
        """Write what is new, until cancelled, and once more then."""
        try:
            while True:
                await trio.sleep(WRITE_S)
                await self._write()
        finally:
            with trio.move_on_after(STOP_S, shield=True):
                await self._write()

    async def _write(self) -> None:
        for batch in _batches(self._unwritten):
            try:
                await self._store.keep_measured(batch)
            except (HostError, ConflictError) as problem:
                log.warning("measurements_not_kept", nodes=len(batch), reason=problem.reason)
                return
            for node, content in batch:
                if self._unwritten.get(node) == content:  # else it has gone on meanwhile
                    del self._unwritten[node]


def _batches(unwritten: dict[NodeName, bytes]) -> Iterator[list[tuple[NodeName, bytes]]]:
    entries = iter(list(unwritten.items()))
    while batch := list(itertools.islice(entries, BATCH)):
        yield batch
