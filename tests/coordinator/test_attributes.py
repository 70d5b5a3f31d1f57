"""A tenant asks for attributes of nodes, attested or not; keys go nowhere else, whoever asserts what."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from tccp.attestation import attributes
from tccp.errors import RefusedError, TccpError
from tccp.model import NodeName
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import RenewalChallenge, Renewed
from tccp.protocol.ticket import PolicyDemand, SignedTicket
from tccp.store import ConflictError
from tests.coordinator.launch.support import accept_evidence_of
from tests.support.launching import AskingNode, SealedFile, Tenant
from tests.support.live_coordinator import POLICY, ZERO, LiveCoordinator

DELFT = {"location": "delft"}


def policy(said: str = "", *, version: int = 2) -> bytes:
    return f'name = "{POLICY}"\nversion = {version}\n[pcrs]\n0 = "{ZERO.hex()}"\n{said}'.encode()


@pytest.fixture
async def alpha(coordinator: LiveCoordinator, host: NodeTpm) -> AskingNode:
    """Enrolled by its EK certificate; whoever enrolled it says that it stands in Delft."""
    await coordinator.ask(
        c.EnrolNode(
            name="alpha", ek_certificate=host.ek.certificate or b"", ek_public=b"", policy=POLICY, attributes=DELFT
        ),
        c.NodeInfo,
    )
    return AskingNode(coordinator, "alpha", host)


@pytest.fixture
async def tenant(coordinator: LiveCoordinator, tmp_path: Path) -> Tenant:
    """Enrolled."""
    tenant = Tenant.of(tmp_path, coordinator)
    await tenant.enrol(coordinator)
    return tenant


@pytest.fixture
def disk(tenant: Tenant) -> SealedFile:
    """An image of the tenant."""
    return tenant.seal("disk", b"a disk of hers" * 1000)


def ticket(
    tenant: Tenant,
    disk: SealedFile,
    *,
    attested: Mapping[str, str] | None = None,
    said: Mapping[str, str] | None = None,
) -> SignedTicket:
    """For a node of which evidence, or anybody, says this."""
    demand = PolicyDemand(POLICY, 1, dict(attested or {}))
    return tenant.ticket([disk], policy=demand, attributes=dict(said or {}))[0]


async def in_force(coordinator: LiveCoordinator, body: bytes) -> None:
    await coordinator.ask(c.AddPolicy(body=body), c.PolicyInfo)


async def info(coordinator: LiveCoordinator, name: str = "alpha") -> c.NodeInfo:
    return await coordinator.ask(c.ShowNode(name), c.NodeInfo)


async def body_of(coordinator: LiveCoordinator, kind: str) -> dict[str, object]:
    """Of the newest event of a kind."""
    return [msgspec.msgpack.decode(event.body) for event in await coordinator.log() if event.kind == kind][-1]


# ---- what is attested ----


async def test_a_policy_attests_what_it_says_and_the_release_says_so(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await in_force(coordinator, policy('[attributes]\nhardware = "epyc-9004"\n'))
    await alpha.register()
    shown = await info(coordinator)
    assert shown.attested["hardware"] == "epyc-9004"
    assert shown.attributes == DELFT

    assert len(await alpha.keys(ticket(tenant, disk, attested={"hardware": "epyc-9004"}, said=DELFT))) == 2
    released = attributes.attributes_in(await body_of(coordinator, "release"))
    assert released.attested == shown.attested
    assert released.asserted == DELFT


async def test_a_policy_attests_something_of_the_host_with_this_key_and_of_no_other(
    coordinator: LiveCoordinator, alpha: AskingNode, other_host: NodeTpm, tenant: Tenant, disk: SealedFile
) -> None:
    ek_id = (await info(coordinator)).ek_id.hex()
    await in_force(coordinator, policy(f'[[hosts]]\neks = ["{ek_id}"]\nattributes = {{ location = "delft" }}\n'))
    await coordinator.enrol("beta", other_host)
    beta = AskingNode(coordinator, "beta", other_host)
    await alpha.register()
    await beta.register()

    assert await beta.reason(ticket(tenant, disk, attested=DELFT)) == "attribute_not_attested"
    assert len(await alpha.keys(ticket(tenant, disk, attested=DELFT))) == 2


async def test_the_maker_of_the_tpm_attests_what_it_certified(
    coordinator: LiveCoordinator, alpha: AskingNode, other_host: NodeTpm
) -> None:
    await coordinator.enrol("beta", other_host, by_key=True)
    beta = AskingNode(coordinator, "beta", other_host)
    await alpha.register()
    await beta.register()

    assert set((await info(coordinator)).attested) == {"tpm.firmware", "tpm.manufacturer", "tpm.model", "tpm.version"}
    assert set((await info(coordinator, "beta")).attested) == {"tpm.firmware"}


async def test_nothing_is_attested_by_a_policy_that_has_not_judged_the_node_yet(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    """Another policy with the same version number says where its hosts stand; the node was judged by the first."""
    await alpha.register()
    other = policy('[attributes]\nlocation = "delft"\n', version=1).replace(POLICY.encode(), b"other")
    await in_force(coordinator, other)
    changed = await coordinator.ask(c.SetNodePolicy("alpha", "other"), c.NodeInfo)
    assert changed.attested == {}

    await answer(alpha)
    assert (await info(coordinator)).attested["location"] == "delft"


async def test_nothing_is_attested_of_a_node_that_is_not_there(coordinator: LiveCoordinator, alpha: AskingNode) -> None:
    assert (await info(coordinator)).attested == {}


# ---- attacks, and each without its defence ----


async def test_what_an_operator_asserts_is_not_what_a_tenant_wants_attested(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await alpha.register()

    assert await alpha.reason(ticket(tenant, disk, attested=DELFT)) == "attribute_not_attested"
    assert "release" not in [event.kind for event in await coordinator.log()]
    assert len(await alpha.keys(ticket(tenant, disk, said=DELFT))) == 2  # she did not ask who says so


async def test_if_asserting_were_attesting_the_operator_would_have_the_keys_there(
    alpha: AskingNode, tenant: Tenant, disk: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes.NodeAttributes, "lacking_evidence", attributes.NodeAttributes.lacking)
    await alpha.register()

    assert len(await alpha.keys(ticket(tenant, disk, attested=DELFT))) == 2


async def test_no_key_goes_to_a_tpm_whose_firmware_is_not_the_one_that_a_ticket_demands(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    """The older one leaks its keys by the time that it takes to sign (TPM-Fail); that it was mended anybody can say."""
    await alpha.register()
    leaks = (await info(coordinator)).attested["tpm.firmware"]
    mended = f"{int(leaks, 16) + 1:016x}"
    await coordinator.ask(c.SetNodeAttributes("alpha", {"tpm.firmware": mended}, ()), c.NodeInfo)

    assert await alpha.reason(ticket(tenant, disk, attested={"tpm.firmware": mended})) == "attribute_not_attested"
    assert await alpha.reason(ticket(tenant, disk, said={"tpm.firmware": mended})) == "attribute_not_demanded"
    assert len(await alpha.keys(ticket(tenant, disk))) == 2  # the control: she did not ask


async def paris_by_evidence(coordinator: LiveCoordinator, alpha: AskingNode) -> None:
    await in_force(coordinator, policy('[attributes]\nlocation = "paris"\n'))
    await alpha.register()


async def test_what_is_asserted_against_the_evidence_does_not_count(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await paris_by_evidence(coordinator, alpha)

    assert await alpha.reason(ticket(tenant, disk, said=DELFT)) == "attribute_not_demanded"


async def test_nor_does_it_in_the_moment_before_the_evidence_is_known_to_have_been_recorded(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await paris_by_evidence(coordinator, alpha)
    accept_evidence_of(coordinator, 60)
    await alpha.keys(ticket(tenant, disk))
    session = coordinator.services.sessions.get(NodeName("alpha"))
    assert session is not None
    session.policy_version -= 1  # as if the renewal by this version had become durable just now

    assert await alpha.reason(ticket(tenant, disk, said=DELFT)) == "attribute_not_demanded"
    assert alpha.challenges == 1


async def test_if_it_did_the_node_would_be_where_the_operator_says(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes.NodeAttributes, "get", lambda self, name: self.asserted.get(name))
    await paris_by_evidence(coordinator, alpha)

    assert len(await alpha.keys(ticket(tenant, disk, said=DELFT))) == 2


async def test_a_host_does_not_get_what_is_said_of_another_by_taking_its_name(
    coordinator: LiveCoordinator, alpha: AskingNode, other_host: NodeTpm, host: NodeTpm
) -> None:
    """Names and endorsement keys belong together for ever, also after a node was removed."""
    await coordinator.store.remove_node(NodeName("alpha"), coordinator.services.clock.now_ms())

    with pytest.raises(RefusedError, match="name_bound"):
        await coordinator.enrol("alpha", other_host)
    with pytest.raises(RefusedError, match="ek_bound"):
        await coordinator.enrol("better", host)


# ---- what changes later ----


async def answer(node: AskingNode) -> None:
    await node.connection.send(await node.answer_renewal(await node.receive(RenewalChallenge)))
    await node.receive(Renewed)


async def test_a_version_that_says_it_no_more_counts_from_the_next_key_on(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await in_force(coordinator, policy('[attributes]\nlocation = "delft"\n'))
    await alpha.register()
    assert len(await alpha.keys(ticket(tenant, disk, attested=DELFT))) == 2
    await in_force(coordinator, policy(version=3))
    await answer(alpha)

    assert [vm.state for vm in await coordinator.store.vms()] == ["running"]
    assert await alpha.reason(ticket(tenant, disk, attested=DELFT)) == "attribute_not_attested"


async def test_what_is_asserted_no_more_counts_from_the_next_key_on(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    await alpha.register()
    assert len(await alpha.keys(ticket(tenant, disk, said=DELFT))) == 2
    changed = await coordinator.ask(c.SetNodeAttributes("alpha", {"gpu": "yes"}, ("location",)), c.NodeInfo)
    assert changed.attributes == {"gpu": "yes"}
    assert (await body_of(coordinator, "attributes"))["asserted"] == '{"gpu":"yes"}'

    assert [vm.state for vm in await coordinator.store.vms()] == ["running"]
    assert await alpha.reason(ticket(tenant, disk, said=DELFT)) == "attribute_not_demanded"


async def test_a_node_that_does_not_exist_and_too_much_to_say_are_refused(
    coordinator: LiveCoordinator, alpha: AskingNode
) -> None:
    with pytest.raises(RefusedError, match="node_unknown"):
        await coordinator.ask(c.SetNodeAttributes("beta", DELFT, ()), c.NodeInfo)
    much = {f"a{number}": "x" * 250 for number in range(40)}
    with pytest.raises(RefusedError, match="bad_attributes"):
        await coordinator.ask(c.SetNodeAttributes("alpha", much, ()), c.NodeInfo)
    with pytest.raises(TccpError, match="bad_attributes"):
        await coordinator.ask(c.EnrolNode("gamma", b"", alpha.host.ek.public, POLICY, much), c.NodeInfo)
    assert (await info(coordinator)).attributes == DELFT
    with pytest.raises(ConflictError, match="bad_attributes"):
        await coordinator.store.set_attributes(NodeName("alpha"), {"A": "x"}, (), 1)
