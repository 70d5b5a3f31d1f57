"""A coordinator that shows another history than before is found out, though each signature and quote of it holds.

Its operators have everything: its keys, its TPM, its database. What they cannot have is the tenant's memory.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tccp.errors import LogError
from tests.support.live_coordinator import HOST, LiveCoordinator
from tests.support.soft_tpm import SoftTpm
from tests.support.tenants import Tenant, coordinator_with_log, grow, policy_for, rewrite_log

Rewrite = Callable[[LiveCoordinator], None]
NUMBERS = list(range(20))


def rolled_back(coordinator: LiveCoordinator) -> None:
    """The database of yesterday."""
    rewrite_log(coordinator, NUMBERS[:10])


def rolled_back_and_gone_on(coordinator: LiveCoordinator) -> None:
    """The database of yesterday, and other things since."""
    rewrite_log(coordinator, [*NUMBERS[:10], *range(100, 130)])


def forked(coordinator: LiveCoordinator) -> None:
    """Another history of the same length."""
    rewrite_log(coordinator, [*NUMBERS[:19], 99])


def one_deleted(coordinator: LiveCoordinator) -> None:
    """Something did not happen after all."""
    rewrite_log(coordinator, [*NUMBERS[:7], *NUMBERS[8:], 21, 22])


def two_exchanged(coordinator: LiveCoordinator) -> None:
    """It happened in another order."""
    rewrite_log(coordinator, [*NUMBERS[:7], 8, 7, *NUMBERS[9:], 21])


def one_inserted(coordinator: LiveCoordinator) -> None:
    """Something happened after all."""
    rewrite_log(coordinator, [*NUMBERS[:7], 77, *NUMBERS[7:]])


REWRITES = [
    (rolled_back, "rollback"),
    (rolled_back_and_gone_on, "inconsistent"),
    (forked, "fork"),
    (one_deleted, "inconsistent"),
    (two_exchanged, "inconsistent"),
    (one_inserted, "inconsistent"),
]


@pytest.mark.parametrize(("rewrite", "reason"), REWRITES, ids=lambda value: getattr(value, "__name__", value))
async def test_another_history_is_found(
    rewrite: Rewrite, reason: str, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm, entries=1) as coordinator:
        rewrite_log(coordinator, NUMBERS)
        pinned = (await tenant.add(coordinator.tenants_port)).pinned
        rewrite(coordinator)

        with pytest.raises(LogError) as caught:
            await tenant.check()
        assert caught.value.reason == reason
        assert tenant.store.load() == pinned

        with pytest.raises(LogError) as caught:
            await tenant.add(coordinator.tenants_port)
        assert caught.value.reason == reason


@pytest.mark.parametrize("rewrite", [rewrite for rewrite, _ in REWRITES], ids=lambda value: value.__name__)
async def test_without_a_memory_it_is_believed(
    rewrite: Rewrite, coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm, entries=1) as coordinator:
        rewrite_log(coordinator, NUMBERS)
        await tenant.add(coordinator.tenants_port)
        rewrite(coordinator)
        monkeypatch.setattr("tccp.tenant.trust.verify_advance", lambda *_: None)

        await tenant.check()


@pytest.mark.parametrize(("since", "reason"), [(5, "rollback"), (0, "inconsistent")])
async def test_a_coordinator_whose_whole_state_was_put_back_from_an_old_copy_is_found(
    since: int, reason: str, coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    """Database and log agree, so it starts; it goes on with another history, and every signature in it is good."""
    tenant, state = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path)), tmp_path / "state"
    async with coordinator_with_log(tmp_path, coordinator_tpm, entries=4):
        pass
    shutil.copytree(state, tmp_path / "yesterday")
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        await grow(coordinator, since)
        before = (await tenant.add(coordinator.tenants_port)).pinned.head.size
    shutil.rmtree(state)
    shutil.move(tmp_path / "yesterday", state)

    async with coordinator_with_log(tmp_path, coordinator_tpm) as restored:
        await grow(restored, 0 if since else 1)
        at = tenant.store.load()
        tenant.store.save(msgspec.structs.replace(at, address=f"{HOST}:{restored.tenants_port}"))
        with pytest.raises(LogError) as caught:
            await tenant.check()

    assert caught.value.reason == reason
    assert tenant.store.load().head.size == before


async def test_a_log_that_was_begun_anew_is_found(coordinator_tpm: SoftTpm, tmp_path: Path) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        await tenant.add(coordinator.tenants_port)
        rewrite_log(coordinator, [])

        with pytest.raises(LogError, match="rollback"):
            await tenant.check()


async def test_the_head_that_was_seen_is_on_the_disk_before_it_is_told(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a crash at the right moment makes a tenant forget what she acted upon."""
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        await tenant.add(coordinator.tenants_port)
        await grow(coordinator, 4)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr("os.fsync", full)
            with pytest.raises(Exception, match="No space left"):
                await tenant.check()

        assert tenant.store.load().head.size == 3
        assert (await tenant.check()).pinned.head.size == 7


async def test_a_tile_that_was_altered_leads_to_no_proof(coordinator_tpm: SoftTpm, tmp_path: Path) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm, entries=5) as coordinator:
        await tenant.add(coordinator.tenants_port)
        await grow(coordinator, 3)
        tile = coordinator.services.log.files.directory / "tile" / "0" / "000.p" / "8"
        tile.write_bytes(bytes(32) + tile.read_bytes()[32:])

        with pytest.raises(LogError, match="inconsistent"):
            await tenant.check()

        shutil.rmtree(tile.parent)
        with pytest.raises(Exception, match="unavailable"):
            await tenant.check()
