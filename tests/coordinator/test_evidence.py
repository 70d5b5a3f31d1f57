"""The coordinator's own quotes when its TPM fails: who waits is told, and without a TPM the daemon ends."""

import pytest
import trio
from trio.testing import memory_stream_pair

from tccp.coordinator.evidence import OwnEvidence
from tccp.errors import TpmError
from tccp.model import PcrBank, PcrSelection
from tccp.tpm import Ak, Tpm
from tccp.tpm.channel import Channel
from tccp.tpm.tcti import StreamConnection
from tests.support.live_coordinator import LiveCoordinator
from tests.tpm.fake_tpm import answering, response, serve

AK = Ak(0x80000000, b"", b"")
PCRS = PcrSelection(PcrBank.SHA256, (0, 4))
REFUSED = response(code=0x101)
NONSENSE = response(tag=0x1234)


async def asked(evidence: OwnEvidence, reason: str) -> None:
    with pytest.raises(TpmError, match=reason):
        await evidence.evidence_for(bytes(32))


async def test_a_refusal_of_the_tpm_is_told_and_nonsense_ends_the_daemon(coordinator: LiveCoordinator) -> None:
    ours, theirs = memory_stream_pair()
    tpm = Tpm(Channel(StreamConnection(ours), timeout_s=30))
    evidence = OwnEvidence(tpm, AK, PCRS, coordinator.services.identity)

    async def ask() -> None:
        await asked(evidence, "tpm_rc_")
        await asked(evidence, "tpm_malformed_response")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, answering(REFUSED, NONSENSE))
        nursery.start_soon(ask)
        with pytest.raises(TpmError, match="tpm_malformed_response"):
            await evidence.run()
        nursery.cancel_scope.cancel()
