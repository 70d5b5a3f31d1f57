"""With witnesses no two tenants can be shown two histories: whoever shows them gets no cosignature for one."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from nacl.signing import SigningKey

from tccp.errors import LogError, RefusedError
from tccp.tenant.log_source import HttpSource
from tccp.transparency.checkpoint import verify_checkpoint
from tccp.transparency.note import Note, NoteKey, NoteSigner, SignatureType, parse_note
from tccp.transport.public_log import PublicLog, open_public_log
from tccp.witness.feeder import Feeder, feeders_of
from tccp.witness.keys import create_witness
from tests.support.live_coordinator import HOST, LiveCoordinator
from tests.support.soft_tpm import SoftTpm
from tests.support.tenants import (
    Tenant,
    coordinator_with_log,
    grow,
    log_key_of,
    policy_for,
    rewrite_log,
    served_heads,
)
from tests.support.witnesses import LiveWitness, live_witness

NUMBERS = list(range(20))


@pytest.fixture
def witness_key(tmp_path: Path) -> NoteKey:
    return create_witness(tmp_path / "state-of-witness" / "state", "witness.example/w1").key


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path, witness_key: NoteKey) -> AsyncIterator[LiveCoordinator]:
    """One that collects cosignatures of one witness; nobody feeds it yet."""
    extra = f'[[witness]]\nurl = "http://{HOST}:9/"\nkey = "{witness_key}"\n'
    async with coordinator_with_log(tmp_path, coordinator_tpm, entries=5, extra=extra) as running:
        yield running


@pytest.fixture
async def witness(coordinator: LiveCoordinator, tmp_path: Path) -> AsyncIterator[LiveWitness]:
    async with live_witness(tmp_path / "state-of-witness", [log_key_of(coordinator)]) as running:
        yield running


def who_wants_it(tpm: SoftTpm, folder: Path, key: NoteKey, *, required: int = 1, age_s: int = 3600) -> Tenant:
    folder.mkdir(exist_ok=True)
    extra = f"witnesses_required = {required}\nwitness_age_s = {age_s}\n"
    pcrs = f'[pcrs]\n0 = ["{"00" * 32}"]\n[[witness]]\nkey = "{key}"\n'
    return Tenant(folder, policy_for(tpm, folder, extra=extra, pcrs=pcrs))


async def reason_of(tenant: Tenant, coordinator: LiveCoordinator) -> str:
    with pytest.raises(LogError) as caught:
        await tenant.add(coordinator.tenants_port)
    assert tenant.store.names() == []
    return caught.value.reason


async def test_a_head_that_nobody_witnessed_is_not_enough(
    coordinator: LiveCoordinator, witness: LiveWitness, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    tenant = who_wants_it(coordinator_tpm, tmp_path / "a", witness.key)
    assert await reason_of(tenant, coordinator) == "witnesses"

    await witness.cosign(coordinator.tenants_port)
    look = await tenant.add(coordinator.tenants_port)

    assert list(look.verified.witnessed.witnessed_s) == [witness.key]
    assert look.verified.witnessed.checkpoint == look.verified.newest.checkpoint
    # In what it serves to everybody, too.
    key = log_key_of(coordinator)
    heads = await served_heads(coordinator)
    source = HttpSource(f"https://{HOST}:{coordinator.log_port}/")
    fetched = await trio.to_thread.run_sync(source.read_checkpoint)
    source.close()
    for note in (heads.newest, fetched or b""):
        seen = verify_checkpoint(note, origin=key.name, log_key=key, witnesses=[witness.key], witnesses_required=1)
        assert seen.checkpoint.size == 5


async def test_a_log_that_goes_on_faster_than_its_witness_is_believed_up_to_there(
    coordinator: LiveCoordinator, witness: LiveWitness, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    await witness.cosign(coordinator.tenants_port)
    await grow(coordinator, 4)

    look = await who_wants_it(coordinator_tpm, tmp_path / "a", witness.key).add(coordinator.tenants_port)

    assert (look.verified.witnessed.checkpoint.size, look.pinned.head.size) == (5, 9)
    await witness.cosign(coordinator.tenants_port)


async def test_two_tenants_cannot_be_shown_two_histories(
    coordinator: LiveCoordinator, witness: LiveWitness, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    rewrite_log(coordinator, NUMBERS)
    await witness.cosign(coordinator.tenants_port)
    first = await who_wants_it(coordinator_tpm, tmp_path / "a", witness.key).add(coordinator.tenants_port)
    assert first.pinned.head.size == 20

    for other, reason in [
        ([*NUMBERS[:10], *range(100, 140)], "inconsistent"),
        ([*NUMBERS[:19], 99], "fork"),
        (NUMBERS[:10], "rollback"),
        ([], "rollback"),
    ]:
        rewrite_log(coordinator, other)
        with pytest.raises(LogError):
            await witness.cosign(coordinator.tenants_port)
        second = who_wants_it(coordinator_tpm, tmp_path / "b", witness.key)
        # With the cosigned head of the first history, which contradicts what it shows ...
        assert await reason_of(second, coordinator) == reason
        # ... and without any, for there is none of the second.
        coordinator.services.cosignatures._heads.clear()
        assert await reason_of(second, coordinator) == "witnesses"
        rewrite_log(coordinator, NUMBERS)
        await witness.cosign(coordinator.tenants_port)


async def test_without_a_witness_two_histories_are_believed(
    coordinator: LiveCoordinator, witness_key: NoteKey, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    rewrite_log(coordinator, NUMBERS)
    first = await who_wants_it(coordinator_tpm, tmp_path / "a", witness_key, required=0).add(coordinator.tenants_port)
    rewrite_log(coordinator, [*NUMBERS[:19], 99])
    second = await who_wants_it(coordinator_tpm, tmp_path / "b", witness_key, required=0).add(coordinator.tenants_port)

    assert first.pinned.head.size == second.pinned.head.size
    assert first.pinned.head.root != second.pinned.head.root


async def test_an_old_cosignature_does_not_vouch_for_what_came_since(
    coordinator: LiveCoordinator, witness: LiveWitness, coordinator_tpm: SoftTpm, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Otherwise two histories could both go on from the last head that was witnessed before they parted."""
    monkeypatch.setattr("tccp.witness.answers.time.time", lambda: 1_700_000_000.0)
    await witness.cosign(coordinator.tenants_port)

    tenant = who_wants_it(coordinator_tpm, tmp_path / "a", witness.key)
    assert await reason_of(tenant, coordinator) == "witnesses"
    patient = who_wants_it(coordinator_tpm, tmp_path / "b", witness.key, age_s=(1 << 31) - 1)
    await patient.add(coordinator.tenants_port)


async def test_a_cosignature_from_the_future_does_not_vouch_for_ever(
    coordinator: LiveCoordinator, witness: LiveWitness, coordinator_tpm: SoftTpm, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A witness whose clock was wrong once: what it said then could be shown for years."""
    tomorrow_s = time.time() + 86_400
    monkeypatch.setattr("tccp.witness.answers.time.time", lambda: tomorrow_s)
    await witness.cosign(coordinator.tenants_port)
    monkeypatch.undo()
    tenant = who_wants_it(coordinator_tpm, tmp_path / "a", witness.key)
    assert await reason_of(tenant, coordinator) == "witnesses"

    monkeypatch.setattr("tccp.tenant.verification.CLOCK_SKEW_S", 1 << 40)
    await tenant.add(coordinator.tenants_port)


# ---- what is brought to the coordinator


async def bring(coordinator: LiveCoordinator, note: bytes) -> bytes:
    public = await open_public_log(HOST, coordinator.tenants_port)
    try:
        await public.head()
        return await public.add_cosignature(note)
    finally:
        public.close()


async def test_a_forged_cosignature_counts_for_nobody(
    coordinator: LiveCoordinator, witness: LiveWitness, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    forger = NoteSigner(witness.key.name, SigningKey.generate(), SignatureType.COSIGNATURE)
    note = parse_note((await served_heads(coordinator)).newest)
    line = forger.sign(note.text, 1_800_000_000)
    renamed = type(line)(line.name, witness.key.key_id, line.signature)

    for forged in (line, renamed):
        with pytest.raises(RefusedError, match="no_cosignature"):
            await bring(coordinator, Note(note.text, (*note.signatures, forged)).encode())
    assert coordinator.services.cosignatures.notes() == ()

    # A coordinator that shows it all the same is found out.
    coordinator.services.cosignatures.notes = lambda: (  # type: ignore[method-assign]
        Note(note.text, (*note.signatures, renamed)).encode(),
    )
    assert await reason_of(who_wants_it(coordinator_tpm, tmp_path / "a", witness.key), coordinator) == "signature"


async def test_a_cosignature_of_a_head_that_was_never_ours_is_refused(
    coordinator: LiveCoordinator, witness_key: NoteKey
) -> None:
    key = log_key_of(coordinator)
    impostor = NoteSigner(key.name, SigningKey.generate())
    text = parse_note((await served_heads(coordinator)).newest).text

    with pytest.raises(RefusedError, match="no_cosignature"):
        await bring(coordinator, Note(text, (impostor.sign(text),)).encode())


async def test_a_later_cosignature_takes_the_place_of_an_earlier(
    coordinator: LiveCoordinator, witness: LiveWitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for at_s in (1_700_000_000, 1_700_000_100):
        monkeypatch.setattr("tccp.witness.answers.time.time", lambda at_s=at_s: float(at_s))
        await witness.cosign(coordinator.tenants_port)
        sizes.append(coordinator.services.cosignatures.seen())
    await grow(coordinator, 2)
    await witness.cosign(coordinator.tenants_port)

    name = witness.key.name
    assert sizes == [{name: (5, 1_700_000_000)}, {name: (5, 1_700_000_100)}]
    assert coordinator.services.cosignatures.seen() == {name: (7, 1_700_000_100)}
    assert len(coordinator.services.cosignatures.notes()) == 1


# ---- the feeder


async def test_a_dead_witness_keeps_nobody_waiting(
    coordinator: LiveCoordinator, witness: LiveWitness, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    """One feeder for each; the coordinator knows none of them."""
    config = coordinator.services.config.witness
    (dead,) = feeders_of(config, (HOST, coordinator.tenants_port))
    alive = Feeder(dead.coordinator, urlsplit(witness.url), witness.key)
    tenant = who_wants_it(coordinator_tpm, tmp_path / "a", witness.key)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dead.run)
        nursery.start_soon(alive.run)
        await until_cosigned(coordinator)
        await tenant.add(coordinator.tenants_port)
        nursery.cancel_scope.cancel()


async def until_cosigned(coordinator: LiveCoordinator) -> None:
    """Until a cosignature has been brought, by looking at what is served."""
    public: PublicLog = await open_public_log(HOST, coordinator.tenants_port)
    try:
        with trio.fail_after(60):
            while len(parse_note(await public.head()).signatures) < 2:
                await trio.lowlevel.checkpoint()
    finally:
        public.close()
