"""A tenant pins a coordinator that proved itself, and finds out when it is another one, or another history."""

from pathlib import Path

import pytest

from tccp.errors import ConfigError
from tccp.tenant.trust import split_address
from tests.support.soft_tpm import SoftTpm
from tests.support.tenants import Tenant, coordinator_with_log, grow, policy_for


async def test_a_coordinator_that_proves_itself_is_pinned(coordinator_tpm: SoftTpm, tmp_path: Path) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        look = await tenant.add(coordinator.tenants_port)

        keys = coordinator.services.identity.keys
        pinned = tenant.store.load()
        assert pinned == look.pinned
        assert pinned.coordinator_id == keys.coordinator_id
        assert pinned.ak == coordinator.services.ak_spki.hex()
        assert pinned.release_key_raw == keys.release_key.public.raw
        assert pinned.head.size == 3

        await grow(coordinator, 300)
        again = await tenant.check()
        assert (again.before.size if again.before else None, again.pinned.head.size) == (3, 303)
        assert tenant.store.load("tc").head.size == 303


async def test_a_new_policy_takes_the_place_of_the_old_for_the_same_coordinator(
    coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        first = (await tenant.add(coordinator.tenants_port)).pinned
        await grow(coordinator, 2)
        tenant.policy = policy_for(coordinator_tpm, tmp_path, extra='software = ["0.1.0"]')
        look = await tenant.add(coordinator.tenants_port)

        assert look.before == first.head
        assert look.pinned.demands.software == {"0.1.0"}
        assert (look.pinned.identity, look.pinned.added_s) == (first.identity, first.added_s)

        other = f'identity = "{"ab" * 32}"'
        tenant.policy = policy_for(coordinator_tpm, tmp_path, extra=other)
        with pytest.raises(ConfigError, match="name_taken"):
            await tenant.add(coordinator.tenants_port)


@pytest.mark.parametrize(
    "address", ["a", ":1", "a:", "a:0", "a:65536", "a:-1", "a:\u0661", f"a:{'9' * 4_400}"], ids=repr
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="bad_address"):
        split_address(address)


def test_an_address_of_either_kind_is_one() -> None:
    assert [split_address(address) for address in ("a.example:65535", "[::1]:1")] == [("a.example", 65_535), ("::1", 1)]
