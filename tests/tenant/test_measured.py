"""A tenant's policy may say what a coordinator must have booted, as a measured-boot policy, instead of PCR values."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tccp.errors import ConfigError, EvidenceError
from tccp.tenant import policy as tenant_policy
from tccp.tenant.policy import parse_tenant_policy
from tests.support.boots import recorded
from tests.support.live_coordinator import LiveCoordinator, live_coordinator, open_host
from tests.support.measured_host import boot_policy, measure_boot
from tests.support.soft_tpm import SoftTpmPool
from tests.support.tenants import Tenant, policy_for

QUOTED = (0, 2, 4, 5, 7, 8, 9, 12)
TOP = re.compile(r"^(kind|name|version|bank|description) = .*$", re.MULTILINE)


def nested(boot: str) -> str:
    """The sections of the policy of a recorded boot, as they stand in a tenant's."""
    return re.sub(r"^(\[+)", r"\1measured_boot.", TOP.sub("", boot_policy(boot).decode()), flags=re.MULTILINE)


@asynccontextmanager
async def booted(
    soft_tpms: SoftTpmPool, folder: Path, *, pcrs: tuple[int, ...] = QUOTED, log: str = "direct"
) -> AsyncIterator[tuple[LiveCoordinator, Tenant]]:
    """A coordinator whose machine has booted as recorded, and a tenant; *log* is the boot whose log it shows."""
    with soft_tpms.lend() as tpm:
        async with open_host(tpm) as host:
            await measure_boot(host.tpm, "direct")
        (folder / "event_log").write_bytes(recorded(log)[0])
        async with live_coordinator(folder, tpm) as coordinator:
            services = coordinator.services
            config = msgspec.structs.replace(services.config.tpm, event_log=str(folder / "event_log"), pcrs=pcrs)
            services.config = msgspec.structs.replace(services.config, tpm=config)
            services.evidence._selection = config.selection
            yield coordinator, Tenant(folder, policy_for(tpm, folder, pcrs=nested("direct")))


async def test_a_coordinator_that_booted_what_the_policy_knows_is_trusted_without_pcr_values(
    soft_tpms: SoftTpmPool, tmp_path: Path
) -> None:
    async with booted(soft_tpms, tmp_path) as (coordinator, tenant):
        await tenant.add(coordinator.tenants_port)
        await tenant.check()


async def test_one_that_booted_something_else_is_not(soft_tpms: SoftTpmPool, tmp_path: Path) -> None:
    async with booted(soft_tpms, tmp_path) as (coordinator, tenant):
        strict = parse_tenant_policy(tenant.policy.body.replace(nested("direct").encode(), nested("grub").encode()))
        with pytest.raises(EvidenceError, match="_not_in_policy"):
            await Tenant(tmp_path / "other", strict).add(coordinator.tenants_port)


async def test_the_log_of_another_boot_does_not_help(soft_tpms: SoftTpmPool, tmp_path: Path) -> None:
    async with booted(soft_tpms, tmp_path, log="grub") as (coordinator, tenant):
        with pytest.raises(EvidenceError, match="event_log_mismatch"):
            await tenant.add(coordinator.tenants_port)


async def test_if_nobody_judged_the_log_any_boot_would_do(
    soft_tpms: SoftTpmPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with booted(soft_tpms, tmp_path) as (coordinator, tenant):
        strict = parse_tenant_policy(tenant.policy.body.replace(nested("direct").encode(), nested("grub").encode()))
        monkeypatch.setattr(tenant_policy, "judge_boot", lambda *_: None)
        await Tenant(tmp_path / "other", strict).add(coordinator.tenants_port)


async def test_a_coordinator_that_does_not_quote_what_is_judged_is_told_so(
    soft_tpms: SoftTpmPool, tmp_path: Path
) -> None:
    async with booted(soft_tpms, tmp_path, pcrs=(0, 2, 4, 7)) as (coordinator, tenant):
        with pytest.raises(EvidenceError, match="pcr_not_quoted"):
            await tenant.add(coordinator.tenants_port)


@pytest.mark.parametrize(
    "said",
    [
        "measured_boot = 7",
        "[measured_boot]",
        '[measured_boot]\nname = "mine"',
        '[measured_boot.cpu]\nmode = "enforce"',
        f'{nested("direct")}\n[measured_boot.ima]\nsha256 = "{"ab" * 32}"',
    ],
)
def test_what_is_no_measured_boot_is_refused(said: str) -> None:
    with pytest.raises(ConfigError, match="bad_policy"):
        parse_tenant_policy(f'ek = "{"ab" * 32}"\n{said}\n'.encode())


def test_pcr_values_may_be_demanded_beside() -> None:
    body = f'ek = "{"ab" * 32}"\n[pcrs]\n0 = "{"cd" * 32}"\n{nested("direct")}'
    policy = parse_tenant_policy(body.encode())

    assert policy.selection.indexes == (0,)
    assert policy.measured_boot is not None
