"""A tenant has a node prove itself before anything secret goes there; and who tries to make her believe in another."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from nacl.signing import SigningKey

from tccp.errors import LaunchError, RefusedError
from tccp.image.keys import read_tenant_secret, write_tenant_keys
from tccp.model import PcrBank
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol import vm_control as v
from tccp.protocol.messages import RenewalChallenge, Renewed
from tccp.protocol.probe import sign_probe, verify_probe_signature
from tccp.tenant.probe import VerifiedProbe, probe_node, verify_probe
from tests.cli.running import Ended, tccp
from tests.support.live_coordinator import ZERO, HonestNode, LiveCoordinator, live_coordinator, open_host
from tests.support.live_node import LiveNode, live_node
from tests.support.soft_tpm import SoftTpm, SoftTpmPool
from tests.support.tenants import Tenant, policy_for

KEY_FILE, _ = write_tenant_keys()
KEY: SigningKey = read_tenant_secret(KEY_FILE)
ALL_STATES = {0: ZERO, 4: ZERO}


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    """Running, with a policy, and one tenant."""
    async with live_coordinator(tmp_path, coordinator_tpm) as running:
        await running.add_policy(ALL_STATES)
        await running.ask(v.AddTenant(name="acme", key=bytes(KEY.verify_key)), v.TenantInfo)
        yield running


@pytest.fixture
async def host(soft_tpms: SoftTpmPool) -> AsyncIterator[NodeTpm]:
    """A host whose PCRs may be extended."""
    with soft_tpms.lend() as lent:
        async with open_host(lent) as opened:
            yield opened


@pytest.fixture
async def node(coordinator: LiveCoordinator, host: NodeTpm, tmp_path: Path) -> AsyncIterator[LiveNode]:
    """Admitted as alpha."""
    await coordinator.enrol("alpha", host)
    async with live_node(coordinator, "alpha", host, tmp_path) as running:
        yield running


@pytest.fixture
async def tenant(coordinator: LiveCoordinator, coordinator_tpm: SoftTpm, tmp_path: Path) -> Tenant:
    """Who has pinned the coordinator."""
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    await tenant.add(coordinator.tenants_port)
    return tenant


async def probe(tenant: Tenant, name: str = "alpha", key: SigningKey = KEY) -> tuple[VerifiedProbe, bytes]:
    return await trio.to_thread.run_sync(partial(probe_node, tenant.store, "tc", name, key))


async def refusal(tenant: Tenant, name: str = "alpha", key: SigningKey = KEY) -> str:
    with pytest.raises(RefusedError) as refused:
        await probe(tenant, name, key)
    return refused.value.reason


async def test_a_node_quotes_anew_for_a_tenant_and_the_log_says_so(
    tenant: Tenant, node: LiveNode, coordinator: LiveCoordinator
) -> None:
    before = coordinator.services.clock.now_ms()
    renewals = coordinator.services.sessions.counters.renewals

    found, _ = await probe(tenant)

    lease = (await coordinator.leases())["alpha"]
    assert (found.node, found.policy, found.boot_id) == ("alpha", ("tvmm", 1), lease.boot_id)
    assert found.evidence_ms >= before
    assert coordinator.services.sessions.counters.renewals == renewals + 1
    event = (await coordinator.log())[found.receipt.index]
    assert (event.kind, str(event.node)) == ("probe", "alpha")
    assert tenant.store.load("tc").head.size == found.receipt.checkpoint.checkpoint.size


async def test_a_node_that_was_tampered_with_since_its_last_quote_is_found_out(
    tenant: Tenant, node: LiveNode, host: NodeTpm, coordinator: LiveCoordinator
) -> None:
    assert (await probe(tenant))[0].node == "alpha"
    await host.tpm.extend_pcr(4, PcrBank.SHA256, b"\1" * 32)

    assert await refusal(tenant) == "no_fresh_evidence"
    assert "alpha" not in await coordinator.leases()
    assert await refusal(tenant) == "node_not_admitted"


async def test_who_is_no_tenant_makes_no_node_quote(
    tenant: Tenant, node: LiveNode, coordinator: LiveCoordinator
) -> None:
    renewals = coordinator.services.sessions.counters.renewals

    assert await refusal(tenant, key=SigningKey.generate()) == "tenant_unknown"

    assert coordinator.services.sessions.counters.renewals == renewals
    assert [event.kind for event in await coordinator.log()].count("probe") == 0


async def test_one_tenant_does_not_take_the_places_of_the_others(
    tenant: Tenant, host: NodeTpm, coordinator: LiveCoordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Tenant(tmp_path / "elsewhere", tenant.policy)  # one asks once at a time from one machine
    await elsewhere.add(coordinator.tenants_port)
    monkeypatch.setattr("tccp.coordinator.probes.PROBES_OF_ONE_MAX", 1)
    other = SigningKey.generate()
    await coordinator.ask(v.AddTenant(name="other", key=bytes(other.verify_key)), v.TenantInfo)
    await coordinator.enrol("alpha", host)
    slow = HonestNode(coordinator, "alpha", host)
    await slow.register()

    async with trio.open_nursery() as answering:
        async with trio.open_nursery() as probing:
            probing.start_soon(probe, tenant)
            challenge = await slow.receive(RenewalChallenge)  # so the first one is at it
            assert await refusal(elsewhere) == "overloaded"
            probing.start_soon(probe, elsewhere, "alpha", other)
            answering.start_soon(_answer, slow, challenge)
        answering.cancel_scope.cancel()
    assert [event.kind for event in await coordinator.log()].count("probe") == 2


async def _answer(node: HonestNode, challenge: RenewalChallenge) -> None:
    """This one, and one more if the tenant who came later wants something younger."""
    while True:
        await node.connection.send(await node.answer_renewal(challenge))
        await node.receive(Renewed)
        challenge = await node.receive(RenewalChallenge)


async def test_nodes_that_are_unknown_away_and_revoked_look_alike(
    tenant: Tenant, node: LiveNode, coordinator: LiveCoordinator
) -> None:
    await coordinator.ask(c.RevokeNode(name="alpha", reason="sold"), c.NodeInfo)

    assert [await refusal(tenant, name) for name in ("alpha", "nobody", "NO NAME")] == ["node_not_admitted"] * 3


async def test_an_answer_to_another_question_is_none(tenant: Tenant, node: LiveNode) -> None:
    """What a coordinator that lies could show again: an older answer, one about another node, one to another tenant."""
    found, receipt = await probe(tenant)
    known = tenant.store.load("tc")
    nonce = (found.receipt.details or {})["nonce"]
    assert isinstance(nonce, bytes)
    honest = {"node": "alpha", "nonce": nonce, "tenant_key": bytes(KEY.verify_key)}
    assert verify_probe(receipt, known, **honest).boot_id == found.boot_id  # type: ignore[arg-type]

    for other in ({"node": "beta"}, {"nonce": bytes(32)}, {"tenant_key": bytes(32)}):
        with pytest.raises(LaunchError, match="probe_mismatch"):
            verify_probe(receipt, known, **{**honest, **other})  # type: ignore[arg-type]


def test_a_question_counts_at_one_coordinator_on_one_connection() -> None:
    asked = {"coordinator_id": b"c" * 32, "coordinator_spki": b"s" * 32}
    question = sign_probe("alpha", nonce=b"n" * 32, key=KEY, **asked)
    verify_probe_signature(question, **asked)

    for other in ({"coordinator_id": b"d" * 32}, {"coordinator_spki": b"t" * 32}):
        with pytest.raises(LaunchError, match="probe_signature"):
            verify_probe_signature(question, **{**asked, **other})
    for field, value in (("node", "beta"), ("nonce", b"m" * 32), ("tenant_key", bytes(32))):
        fields = {name: getattr(question, name) for name in question.__struct_fields__} | {field: value}
        with pytest.raises(LaunchError, match="probe_signature"):
            verify_probe_signature(type(question)(**fields), **asked)


async def test_the_command_says_what_is_proved_and_keeps_the_receipt(
    tenant: Tenant, node: LiveNode, coordinator: LiveCoordinator, tmp_path: Path
) -> None:
    secret, receipt = tmp_path / "acme.key", tmp_path / "alpha.receipt"
    secret.write_bytes(KEY_FILE)
    secret.chmod(0o600)
    store = ("--store", tenant.store.folder)

    async def run(*words: str | Path) -> Ended:
        return await trio.to_thread.run_sync(partial(tccp, *words))

    probed = await run("probe", "alpha", "--sign", secret, "--receipt", receipt, *store)
    verified = await run("receipt", "verify", receipt, *store)
    refused = await run("probe", "beta", "--sign", secret, "--json", *store)
    probes = [event.kind for event in await coordinator.log()].count("probe")
    again = await run("probe", "alpha", "--sign", secret, "--receipt", receipt, "--json", *store)

    assert (probed.code, verified.code, refused.code, again.code) == (0, 0, 1, 4)
    assert again.document["error"] == "file_exists"
    assert [event.kind for event in await coordinator.log()].count("probe") == probes, "nobody was asked"
    assert "its evidence holds by tvmm version 1" in probed.out
    assert "a node quoted because a tenant asked" in verified.out
    assert refused.document["error"] == "node_not_admitted"
