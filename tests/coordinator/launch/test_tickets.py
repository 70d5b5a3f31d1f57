"""What a cloud manager may try with a ticket: it is edited, diverted, replayed, and starts nothing."""

import os
import time
from pathlib import Path

import msgspec
import pytest
import trio

from tccp.protocol.messages import KeyRefused, KeyRelease
from tccp.protocol.ticket import PolicyDemand, SignedTicket, sign_ticket, verify_ticket
from tests.coordinator.launch.support import forged, kinds, nothing_was_released
from tests.support.launching import AskingNode, SealedFile, Tenant
from tests.support.live_coordinator import ZERO, LiveCoordinator


@pytest.mark.parametrize(
    "change",
    [
        {"not_after_s": int(time.time()) + 300 * 86_400},
        {"nonce": bytes(32)},
        {"vm_id": b"another machine."},
        {"policy": PolicyDemand("lenient", 1, {})},
        {"attributes": {"site": "elsewhere"}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_edited_ticket_is_refused(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile, change: dict[str, object]
) -> None:
    signed, _ = tenant.ticket([disk])

    assert await alpha.reason(forged(signed, **change)) == "ticket_signature"

    assert await nothing_was_released(coordinator)
    await alpha.keys(signed)  # the control: it is the edit that was refused


async def test_a_ticket_under_a_key_of_the_cloud_managers_own_is_a_strangers(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile, tmp_path: Path
) -> None:
    signed, _ = tenant.ticket([disk])
    manager = Tenant.of(tmp_path, coordinator)
    stolen = verify_ticket(signed.ticket, signed.signature).ticket
    hers = sign_ticket(msgspec.structs.replace(stolen, tenant_key=bytes(manager.key.verify_key)), manager.key)

    assert await alpha.reason(hers) == "keys_unopened"

    # Even as an enrolled tenant she cannot have the keys of another wrapped to a node under her name.
    await manager.enrol(coordinator, "manager")
    assert await alpha.reason(hers) == "keys_unopened"
    assert await nothing_was_released(coordinator)


async def test_if_the_box_were_not_bound_to_its_tenant_the_cloud_manager_would_get_the_keys(  # noqa: PLR0917
    coordinator: LiveCoordinator,
    alpha: AskingNode,
    tenant: Tenant,
    disk: SealedFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: the same theft, with the binding left out on both sides."""
    for place in ("tccp.coordinator.launch", "tccp.tenant.vm_file"):
        monkeypatch.setattr(f"{place}.keys_info", lambda *_: b"bound to nothing")
    signed, vm = tenant.ticket([disk])
    manager = Tenant.of(tmp_path, coordinator)
    await manager.enrol(coordinator, "manager")
    stolen = verify_ticket(signed.ticket, signed.signature).ticket
    hers = msgspec.structs.replace(stolen, tenant_key=bytes(manager.key.verify_key), vm_id=b"her own machine.")

    assert (await alpha.keys(sign_ticket(hers, manager.key)))[0] == vm.vm_key


async def test_if_released_keys_were_bound_to_nothing_an_old_release_would_open_for_another_request(
    alpha: AskingNode, tenant: Tenant, disk: SealedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with the binding, `open` refuses (below, after a reboot and under another lease)."""
    for place in ("tccp.coordinator.launch", "tests.support.launching"):
        monkeypatch.setattr(f"{place}.release_info", lambda *_: b"bound to nothing")
    request = alpha.request(tenant.ticket([disk])[0])
    release = await alpha.ask(request)
    assert isinstance(release, KeyRelease)

    alpha.lease_id = os.urandom(16)

    assert len(alpha.open(alpha.request(tenant.ticket([disk])[0]), release)) == 2


async def test_a_stranger_is_told_so(coordinator: LiveCoordinator, alpha: AskingNode, tmp_path: Path) -> None:
    stranger = Tenant.of(tmp_path, coordinator)
    signed, _ = stranger.ticket([stranger.seal("disk", b"x")])

    assert await alpha.reason(signed) == "tenant_unknown"

    await stranger.enrol(coordinator)
    await alpha.keys(signed)


async def test_keys_that_were_swapped_between_two_vms_of_one_tenant_do_not_open(
    coordinator: LiveCoordinator, alpha: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    """The tenant's own mistake, or her stolen signing key: the box is bound to the VM and the images."""
    one = verify_ticket(*_parts(tenant.ticket([disk])[0])).ticket
    other = verify_ticket(*_parts(tenant.ticket([tenant.seal("other", b"other")])[0])).ticket
    mixed = sign_ticket(msgspec.structs.replace(one, wrapped_keys=other.wrapped_keys), tenant.key)

    assert await alpha.reason(mixed) == "keys_unopened"
    assert await nothing_was_released(coordinator)


def _parts(signed: SignedTicket) -> tuple[bytes, bytes]:
    return signed.ticket, signed.signature


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"coordinator_id": bytes(32)}, "ticket_for_another_coordinator"),
        ({"not_before_s": 4_000_000_000, "not_after_s": 4_000_001_000}, "ticket_not_yet_valid"),
        ({"not_before_s": 1_000_000_000, "not_after_s": 1_000_001_000}, "ticket_expired"),
        ({"policy": PolicyDemand("strict", 1, {})}, "policy_not_demanded"),
        ({"policy": PolicyDemand("tvmm", 2, {})}, "policy_not_demanded"),
        ({"attributes": {"site": "delft"}}, "attribute_not_demanded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_the_ticket_demands_is_demanded(  # noqa: PLR0917
    coordinator: LiveCoordinator,
    alpha: AskingNode,
    tenant: Tenant,
    disk: SealedFile,
    terms: dict[str, object],
    reason: str,
) -> None:
    assert await alpha.reason(tenant.ticket([disk], **terms)[0]) == reason
    assert await nothing_was_released(coordinator)


async def test_a_ticket_is_not_used_up_by_a_refusal(
    alpha: AskingNode, beta: AskingNode, tenant: Tenant, coordinator: LiveCoordinator, disk: SealedFile
) -> None:
    signed, _ = tenant.ticket([disk], policy=PolicyDemand("tvmm", 2, {}))
    assert await alpha.reason(signed) == "policy_not_demanded"
    await coordinator.add_policy({0: ZERO, 4: ZERO}, version=2)

    await beta.keys(signed)


async def test_a_replayed_ticket_starts_nothing(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    signed, vm = tenant.ticket([disk])
    await alpha.keys(signed)

    assert await alpha.reason(signed) == "ticket_used"
    assert await beta.reason(signed) == "ticket_used"
    await alpha.end(vm)
    assert await beta.reason(signed) == "ticket_used"

    assert (await kinds(coordinator)).count("release") == 1


async def test_of_two_nodes_that_ask_at_once_one_gets_the_vm(
    coordinator: LiveCoordinator, alpha: AskingNode, beta: AskingNode, tenant: Tenant, disk: SealedFile
) -> None:
    for number in range(10):
        signed, _ = tenant.ticket([disk])
        answers: list[KeyRelease | KeyRefused] = []

        async def ask(node: AskingNode, signed: SignedTicket, answers: list[KeyRelease | KeyRefused]) -> None:
            answers.append(await node.ask(node.request(signed)))

        async with trio.open_nursery() as nursery:
            for node in (alpha, beta):
                nursery.start_soon(ask, node, signed, answers)

        released = [answer for answer in answers if isinstance(answer, KeyRelease)]
        refused = [answer.reason for answer in answers if isinstance(answer, KeyRefused)]
        assert (len(released), refused) == (1, ["ticket_used"])
        assert (await kinds(coordinator)).count("release") == number + 1
