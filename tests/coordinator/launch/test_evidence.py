"""Keys are released after fresh evidence only."""

import pytest

from tccp.model import PcrBank
from tccp.protocol.messages import RenewalChallenge
from tccp.protocol.ticket import PolicyDemand
from tccp.store import Renewal
from tccp.transport.connection import RefusalError
from tests.coordinator.launch.support import accept_evidence_of, kinds, nothing_was_released
from tests.support.launching import AskingNode, SealedFile, Tenant
from tests.support.live_coordinator import ZERO, LiveCoordinator, open_host
from tests.support.soft_tpm import SoftTpmPool

EVIL = b"\xee" * 32


async def age_evidence(coordinator: LiveCoordinator, name: str) -> None:
    """Have the record say that the node's last evidence is of ten minutes ago."""
    lease = (await coordinator.leases())[name]
    aged = Renewal(
        lease.lease_id,
        lease.renewed_ms - 600_000,
        lease.expires_ms,
        lease.reset_count,
        lease.restart_count,
        lease.clock_ms,
        lease.policy,
        lease.policy_version,
    )
    assert await coordinator.store.renew_all([aged]) == [None]


async def test_a_node_quotes_anew_for_each_release(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    for number in (1, 2):
        await alpha.keys(tenant.ticket([disk])[0])
        assert alpha.challenges == number


async def test_a_node_with_old_evidence_quotes_before_it_gets_keys(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    accept_evidence_of(coordinator, 60)
    await alpha.keys(tenant.ticket([disk])[0])
    assert alpha.challenges == 0
    await age_evidence(coordinator, "alpha")

    await alpha.keys(tenant.ticket([disk])[0])

    assert alpha.challenges == 1


async def test_a_node_that_was_tampered_with_since_its_last_evidence_gets_none(
    soft_tpms: SoftTpmPool, coordinator: LiveCoordinator, tenant: Tenant, disk: SealedFile
) -> None:
    with soft_tpms.lend() as tpm:
        async with open_host(tpm) as host:
            await coordinator.enrol("gamma", host)
            gamma = AskingNode(coordinator, "gamma", host)
            await gamma.register()
            await host.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)
            accept_evidence_of(coordinator, 60)
            await gamma.keys(tenant.ticket([disk])[0])  # the control: within such a bound nobody looks
            accept_evidence_of(coordinator, 0)

            with pytest.raises(RefusalError, match="pcr_not_in_policy"):
                await gamma.ask(gamma.request(tenant.ticket([disk])[0]))

    assert (await kinds(coordinator)).count("release") == 1


async def test_a_quote_of_before_that_comes_in_afterwards_is_not_fresh(
    soft_tpms: SoftTpmPool, coordinator: LiveCoordinator, tenant: Tenant, disk: SealedFile
) -> None:
    """The node was asked and quoted, is tampered with, asks for keys, and only then hands its answer in."""
    with soft_tpms.lend() as tpm:
        async with open_host(tpm) as host:
            await coordinator.enrol("gamma", host)
            gamma = AskingNode(coordinator, "gamma", host)
            await gamma.register()
            await coordinator.add_policy({0: ZERO, 4: ZERO}, version=2)  # has it asked at once
            answer = await gamma.answer_renewal(await gamma.receive(RenewalChallenge))
            await host.tpm.extend_pcr(4, PcrBank.SHA256, EVIL)

            request = gamma.request(tenant.ticket([disk])[0])
            await gamma.connection.send(request)
            await gamma.connection.send(answer)
            with pytest.raises(RefusalError, match="pcr_not_in_policy"):
                await gamma.answer_until_told(request.nonce)

    assert await nothing_was_released(coordinator)


async def test_evidence_that_an_older_policy_judged_is_asked_for_again(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, _ = tenant.ticket([disk], policy=PolicyDemand("tvmm", 2, {}))
    assert await alpha.reason(signed) == "policy_not_demanded"

    await coordinator.add_policy({0: ZERO}, version=2)

    assert len(await alpha.keys(signed)) == 2
