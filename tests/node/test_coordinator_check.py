"""Impostors of a coordinator: each is found out by the node before it sends its evidence, or takes a lease."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from nacl.signing import SigningKey

from tccp.coordinator.custody.key_set import KeySet
from tccp.errors import EvidenceError, ProtocolError
from tccp.model import PcrBank, PcrValues
from tccp.node.identity import make_node_identity
from tccp.node.registration import HeldLease, NodeTpm, connect, door_context, register
from tccp.protocol.messages import CoordinatorEvidence
from tccp.protocol.statements import decode_coordinator, encode_statement
from tccp.tpm import open_tpm
from tccp.transport.trust import CoordinatorTrust
from tests.support.coordinator_keys import make_keys
from tests.support.live_coordinator import HOST, ZERO, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm, SoftTpmPool

EVIL = b"\xab" * 32
CHECK = "tccp.node.coordinator_check"
QUOTE_CHECK = "tccp.transport.coordinator_evidence.verify_quote"
Believed = tuple[LiveCoordinator, CoordinatorTrust]


def any_quote(attest: bytes, signature: bytes, pcrs: PcrValues, **_: object) -> SimpleNamespace:
    """A check of quotes that finds nothing."""
    return SimpleNamespace(pcrs=pcrs)


@pytest.fixture
async def true_keys(coordinator_tpm: SoftTpm, tmp_path: Path) -> KeySet:
    """The keys of the true coordinator, whose state is in ``true``: what a thief could find in its memory."""
    keys, _authority = await make_keys(tmp_path / "true" / "state", coordinator_tpm.tcti)
    return keys


@pytest.fixture
async def trust(true_keys: KeySet, coordinator_tpm: SoftTpm, tmp_path: Path) -> CoordinatorTrust:
    """Its trust file."""
    async with live_coordinator(tmp_path / "true", coordinator_tpm) as coordinator:
        return coordinator.trust


@asynccontextmanager
async def impostor(folder: Path, tpm: SoftTpm, host: NodeTpm) -> AsyncIterator[LiveCoordinator]:
    """A coordinator that would admit our host, on the state in *folder*."""
    folder.mkdir(exist_ok=True)
    async with live_coordinator(folder, tpm) as coordinator:
        await coordinator.add_policy({0: ZERO})
        await coordinator.enrol("alpha", host)
        yield coordinator


async def meet(coordinator: LiveCoordinator, trust: CoordinatorTrust, host: NodeTpm) -> HeldLease:
    """Register as the node daemon does, believing in *trust*; the lease holds unless this raises."""
    identity, lease = make_node_identity("alpha"), HeldLease()
    connection = await connect(HOST, coordinator.port, identity, door_context(identity, trust))
    try:
        await register(connection, host, identity, trust, lease)
    except EvidenceError:
        assert not lease.holds
        raise
    finally:
        connection.close()
    return lease


async def is_found_out(coordinator: LiveCoordinator, trust: CoordinatorTrust, host: NodeTpm) -> str:
    """The reason for which the node turns away; it has not sent its evidence, so there is no lease."""
    with pytest.raises(EvidenceError) as caught:
        await meet(coordinator, trust, host)
    assert await coordinator.leases() == {}
    return caught.value.reason


# ---- other keys ----


async def test_a_coordinator_of_another_authority_is_refused_before_a_word_is_said(
    trust: CoordinatorTrust, other_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> None:
    async with impostor(tmp_path / "impostor", other_tpm, host) as coordinator:
        with pytest.raises(ProtocolError, match="tls_handshake"):
            await meet(coordinator, trust, host)
        assert await coordinator.leases() == {}


async def with_keys(folder: Path, tpm: SoftTpm, keys: KeySet) -> Path:
    """*folder* with a state of which these are the keys, for another TPM."""
    await make_keys(folder / "state", tpm.tcti, keys=keys)
    return folder


async def test_the_authority_alone_does_not_make_a_coordinator(
    trust: CoordinatorTrust, true_keys: KeySet, other_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> None:
    keys = msgspec.structs.replace(true_keys, identity_seed=bytes(SigningKey.generate()))
    folder = await with_keys(tmp_path / "impostor", other_tpm, keys)

    async with impostor(folder, other_tpm, host) as coordinator:
        assert await is_found_out(coordinator, trust, host) == "coordinator_signature"


@pytest.fixture
async def stolen(true_keys: KeySet, other_tpm: SoftTpm, tmp_path: Path) -> Path:
    """A folder with the true keys, for another TPM."""
    return await with_keys(tmp_path / "impostor", other_tpm, true_keys)


async def test_stolen_keys_do_not_make_a_coordinator_without_its_tpm(
    trust: CoordinatorTrust, stolen: Path, other_tpm: SoftTpm, host: NodeTpm
) -> None:
    async with impostor(stolen, other_tpm, host) as coordinator:
        assert await is_found_out(coordinator, trust, host) == "bad_signature"


async def test_without_the_quote_stolen_keys_would_be_believed(
    trust: CoordinatorTrust, stolen: Path, other_tpm: SoftTpm, host: NodeTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QUOTE_CHECK, any_quote)

    async with impostor(stolen, other_tpm, host) as coordinator:
        assert (await meet(coordinator, trust, host)).holds


# ---- the true coordinator, tampered with ----


@asynccontextmanager
async def tampered(tmp_path: Path, soft_tpms: SoftTpmPool, host: NodeTpm) -> AsyncIterator[Believed]:
    """The true coordinator after its host has booted something else, and the trust file from before.

    Its own authority has let it use its keys in that state; nodes were told nothing.
    """
    with soft_tpms.lend() as tpm:
        state = tmp_path / "tampered" / "state"
        keys, _authority = await make_keys(state, tpm.tcti)
        async with live_coordinator(tmp_path / "tampered", tpm) as before:
            trust = before.trust
        async with open_tpm(tpm.tcti) as attacker:
            await attacker.extend_pcr(4, PcrBank.SHA256, EVIL)
        shutil.rmtree(state / "keys")
        await make_keys(state, tpm.tcti, keys=keys)
        async with impostor(tmp_path / "tampered", tpm, host) as coordinator:
            yield coordinator, trust


async def test_a_coordinator_that_booted_something_else_is_found_out(
    soft_tpms: SoftTpmPool, host: NodeTpm, tmp_path: Path
) -> None:
    async with tampered(tmp_path, soft_tpms, host) as (coordinator, trust):
        assert await is_found_out(coordinator, trust, host) == "coordinator_platform"


async def test_without_its_pcrs_it_would_be_believed(
    soft_tpms: SoftTpmPool, host: NodeTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{CHECK}._judge_pcrs", lambda *_: None)

    async with tampered(tmp_path, soft_tpms, host) as (coordinator, trust):
        assert (await meet(coordinator, trust, host)).holds


# ---- evidence of the true coordinator that was made for something else ----

Make = Callable[[bytes], Awaitable[CoordinatorEvidence]]
Forge = Callable[[bytes, Make], Awaitable[CoordinatorEvidence]]


@pytest.fixture
async def true_coordinator(
    trust: CoordinatorTrust, coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> AsyncIterator[LiveCoordinator]:
    async with impostor(tmp_path / "true", coordinator_tpm, host) as coordinator:
        yield coordinator


def says_instead(coordinator: LiveCoordinator, forge: Forge) -> None:
    """Have somebody between the two change the coordinator's evidence; he has its TLS key, else he could not."""
    evidence_for = coordinator.services.evidence.evidence_for
    coordinator.services.evidence.evidence_for = lambda leaf: forge(leaf, evidence_for)  # type: ignore[method-assign]


async def for_another_leaf(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """Evidence for another node's nonce, or for another connection: replayed, or relayed."""
    return await make(bytes(reversed(leaf)))


async def with_another_path(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """The leaf was no part of the tree."""
    return msgspec.structs.replace(await make(EVIL), leaf_count=2, path=(EVIL,))


async def with_an_impossible_path(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """No tree of that size has such a path."""
    return msgspec.structs.replace(await make(leaf), leaf_index=1, leaf_count=1)


async def with_good_values(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """Other PCR values than were quoted."""
    evidence = await make(leaf)
    return msgspec.structs.replace(evidence, pcrs=(EVIL,) * len(evidence.pcrs))


async def with_fewer_pcrs(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """Fewer values than indices."""
    evidence = await make(leaf)
    return msgspec.structs.replace(evidence, pcrs=evidence.pcrs[:1])


async def of_an_unknown_bank(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """A bank that there is not."""
    return msgspec.structs.replace(await make(leaf), bank=0x7FFF)


async def of_the_sha1_bank(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """A bank that proves nothing any more."""
    evidence = await make(leaf)
    return msgspec.structs.replace(evidence, bank=int(PcrBank.SHA1), pcrs=(bytes(20),) * len(evidence.pcrs))


async def of_a_pcr_that_can_be_reset(leaf: bytes, make: Make) -> CoordinatorEvidence:
    """A PCR that any software can give any value."""
    return msgspec.structs.replace(await make(leaf), pcr_indexes=(23,), pcrs=(ZERO,))


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (of_the_sha1_bank, "coordinator_pcrs"),
        (of_a_pcr_that_can_be_reset, "coordinator_pcrs"),
        (for_another_leaf, "nonce_mismatch"),
        (with_another_path, "nonce_mismatch"),
        (with_an_impossible_path, "coordinator_path"),
        (with_good_values, "pcr_digest_mismatch"),
        (with_fewer_pcrs, "coordinator_pcrs"),
        (of_an_unknown_bank, "coordinator_pcrs"),
    ],
)
async def test_evidence_that_was_made_for_something_else_is_found_out(
    forge: Forge,
    reason: str,
    true_coordinator: LiveCoordinator,
    trust: CoordinatorTrust,
    host: NodeTpm,
) -> None:
    says_instead(true_coordinator, forge)

    assert await is_found_out(true_coordinator, trust, host) == reason


@pytest.mark.parametrize("forge", [for_another_leaf, with_another_path])
async def test_without_the_quote_it_would_be_believed(
    forge: Forge,
    true_coordinator: LiveCoordinator,
    trust: CoordinatorTrust,
    host: NodeTpm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(QUOTE_CHECK, any_quote)
    says_instead(true_coordinator, forge)

    assert (await meet(true_coordinator, trust, host)).holds


@pytest.mark.parametrize("key", ["tls_spki", "ca_spki"])
async def test_a_statement_of_other_keys_does_not_vouch_for_these(
    key: str, trust: CoordinatorTrust, true_coordinator: LiveCoordinator, host: NodeTpm
) -> None:
    identity = true_coordinator.services.identity
    other = encode_statement(msgspec.structs.replace(decode_coordinator(identity.statement), **{key: EVIL}))
    signature = identity.keys.signing_key.sign(other).signature
    true_coordinator.services.evidence._identity = replace(identity, statement=other, statement_signature=signature)

    assert await is_found_out(true_coordinator, trust, host) == "coordinator_keys"


async def test_the_true_coordinator_is_believed(
    true_coordinator: LiveCoordinator, trust: CoordinatorTrust, host: NodeTpm
) -> None:
    lease = await meet(true_coordinator, trust, host)

    assert (await true_coordinator.leases())["alpha"].lease_id == lease.lease_id
