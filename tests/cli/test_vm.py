"""``tccp vm`` beside a node's daemon: steps, refusals, exit codes. What a guest does is in `tests/system`."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio

from tccp.attestation.quote import AkKey
from tccp.errors import HostError
from tccp.model import PcrBank, PcrSelection
from tccp.node.registration import NodeTpm
from tccp.protocol.ticket import SignedTicket, verify_ticket
from tccp.tenant.trust_store import TrustStore, parse_pinned
from tccp.tenant.vm_file import VmFile, write_vm_file
from tests.cli.running import Ended, tccp
from tests.coordinator.conftest import coordinator, coordinator_tpm, host, host_tpm, other_host, other_tpm
from tests.fuzz.tenant_targets import pinned as any_pinned
from tests.support.launching import SealedFile, Tenant, ticket_file
from tests.support.live_coordinator import LiveCoordinator
from tests.support.live_node import LiveNode, is_under_way, live_node

# What the tenant demanded when she pinned the coordinator: no witnesses.
POLICY = f'ak = "{"ab" * 91}"\n[pcrs]\n0 = ["{"00" * 32}"]\n'

__all__ = ["coordinator", "coordinator_tpm", "host", "host_tpm", "other_host", "other_tpm"]


class Desk:
    """A node, and a ticket for it in a file."""

    def __init__(self, node: LiveNode, folder: Path, disk: SealedFile, signed: SignedTicket, vm: VmFile) -> None:
        self.node, self.folder, self.disk, self.signed, self.vm = node, folder, disk, signed, vm
        self.root = verify_ticket(signed.ticket, signed.signature).ticket.images[0].root
        self.ticket = folder / "ticket"
        self.ticket.write_bytes(ticket_file(signed))

    async def tccp(self, *words: str | Path) -> Ended:
        """Run the command, while the daemon runs in this very process."""
        arguments = (*words, "--socket", self.node.control)
        return await trio.to_thread.run_sync(lambda: tccp("vm", *arguments))

    async def launch(self, *more: str | Path) -> Ended:
        """Launch the ticket."""
        return await self.tccp("launch", self.ticket, self.disk.path, *more)


@pytest.fixture
async def desk(coordinator: LiveCoordinator, host: NodeTpm, tmp_path: Path) -> AsyncIterator[Desk]:
    tenant = Tenant.of(tmp_path, coordinator)
    await tenant.enrol(coordinator)
    await coordinator.enrol("alpha", host)
    disk = tenant.seal("disk", b"content")
    signed, vm = tenant.ticket([disk])
    async with live_node(coordinator, "alpha", host, tmp_path) as node:
        yield Desk(node, tmp_path, disk, signed, vm)


async def test_a_launch_tells_its_steps_and_leaves_a_receipt(desk: Desk) -> None:
    ended = await desk.launch("--receipt", desk.folder / "receipt", "--json")

    assert (ended.code, ended.document["state"], ended.document["epoch"]) == (0, "running", 1)
    assert (desk.folder / "receipt").read_bytes() == desk.node.node.vms.get(desk.vm.vm_id).receipt


async def test_a_person_sees_what_goes_on(desk: Desk) -> None:
    ended = await desk.launch()

    assert ended.code == 0
    assert "asking the coordinator for the keys" in ended.err
    assert desk.vm.vm_id.hex() in ended.out


async def test_a_refusal_is_an_error_with_a_hint(desk: Desk) -> None:
    assert (await desk.launch()).code == 0
    vm_id = desk.vm.vm_id.hex()
    assert (await desk.tccp("stop", vm_id[:6])).code == 0

    ended = await desk.launch()

    assert ended.code == 1
    assert "tccp: error: ticket_used" in ended.err
    assert "tccp: hint: a ticket starts one VM once" in ended.err


async def test_a_vm_is_suspended_resumed_and_destroyed(desk: Desk, coordinator: LiveCoordinator) -> None:
    await desk.launch()
    vm_id = desk.vm.vm_id.hex()

    suspended = await desk.tccp("suspend", vm_id[:6], "--json")
    assert (suspended.code, suspended.document["state"]) == (0, "suspended")
    assert (await desk.tccp("suspend", vm_id[:6])).code == 1
    resumed = await desk.tccp("resume", desk.ticket, suspended.document["saved"], desk.disk.path)
    assert (resumed.code, vm_id in resumed.out) == (0, True)
    again = await desk.tccp("resume", desk.ticket, suspended.document["saved"], desk.disk.path)
    assert (again.code, "vm_running" in again.err) == (1, True)

    destroyed = await desk.tccp("destroy", vm_id[:6], "--receipt", desk.folder / "gone")

    assert (destroyed.code, f"VM {vm_id} is destroyed" in destroyed.out) == (0, True)
    assert (desk.folder / "gone").read_bytes() == desk.node.node.vms.get(desk.vm.vm_id).destruction
    assert (await desk.tccp("destroy", vm_id[:6], "--receipt", desk.folder / "gone")).code == 4


async def test_a_move_shows_how_far_it_is_and_what_it_took_and_is_cancelled_at_either_end(
    desk: Desk, coordinator: LiveCoordinator, other_host: NodeTpm, tmp_path: Path
) -> None:
    await desk.launch()
    source = desk.node.hypervisor.vms[0]
    await coordinator.enrol("beta", other_host)
    async with live_node(coordinator, "beta", other_host, tmp_path) as beta:
        there = Desk(beta, tmp_path, desk.disk, desk.signed, desk.vm)
        vm_id = desk.vm.vm_id.hex()
        ended: list[Ended] = []

        async def receive(*more: str) -> None:
            ended.append(await there.tccp("receive", there.ticket, there.disk.path, *more))

        for at in (there, desk):
            source.may_send = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await beta.until_told(desk.vm.vm_id, lambda info: info.state == "arriving" and is_under_way(info))
                for each, state in ((there, "arriving"), (desk, "moving")):
                    (line,) = [line for line in (await each.tccp("list")).out.splitlines() if vm_id in line]
                    assert (state in line, "70 %, 100 B/s" in line) == (True, True), line
                assert (await at.tccp("cancel", vm_id[:6])).code == 0
            assert (ended[-1].code, "memory 1.5 kB of 2.0 kB, round 2" in ended[-1].err) == (1, True)
            await desk.node.until(desk.vm.vm_id, "running")
        assert (await desk.tccp("cancel", vm_id[:6])).code == 1, "it runs"

        source.may_send = None
        await receive("--json")
        *_, last = ended[-1].out.splitlines()
        took = json.loads(last)
        assert (took["state"], took["transfer"]["disk_sent_bytes"]) == ("running", 600)
        assert "sent 2.5 kB of memory and 600 B of disks" in (await there.tccp("show", vm_id[:6])).out


async def test_a_vm_that_runs_nowhere_is_not_received(desk: Desk) -> None:
    ended = await desk.tccp("receive", desk.ticket, desk.disk.path)

    assert (ended.code, "tccp: error: vm_unknown" in ended.err) == (1, True)


async def test_a_vm_that_cannot_be_suspended_runs_on_and_says_why(desk: Desk) -> None:
    await desk.launch()
    desk.node.hypervisor.vms[0].problem = HostError("state_unwritable", "the disk is full")

    ended = await desk.tccp("suspend", desk.vm.vm_id.hex())

    assert (ended.code, "the disk is full" in ended.err) == (1, True)
    assert desk.node.hypervisor.vms[0].is_running


async def test_vms_are_listed_shown_and_stopped_by_how_their_ids_begin(desk: Desk) -> None:
    await desk.launch()
    vm_id = desk.vm.vm_id.hex()

    assert [vm["vm_id"] for vm in (await desk.tccp("list", "--json")).document["vms"]] == [vm_id]
    assert (await desk.tccp("show", vm_id[:4], "--json")).document["state"] == "running"
    assert (await desk.tccp("show", "f" * 32)).code == 4
    assert (await desk.tccp("receipt", vm_id[:4], desk.folder / "r")).code == 0
    stopped = await desk.tccp("stop", "--force", vm_id[:4], "--json")
    assert (stopped.code, stopped.document["reason"]) == (0, "killed")
    assert (await desk.tccp("console", vm_id[:4])).code == 4
    assert vm_id in (await desk.tccp("list")).out


async def test_a_file_that_is_there_is_not_overwritten_by_a_receipt(desk: Desk) -> None:
    (desk.folder / "receipt").write_text("precious")

    ended = await desk.launch("--receipt", desk.folder / "receipt")

    assert (ended.code, (desk.folder / "receipt").read_text()) == (4, "precious")
    assert not desk.node.node.vms.all()


# ---- the tenant verifies


@pytest.fixture
async def launched(desk: Desk, coordinator: LiveCoordinator) -> Desk:
    """Launched; the tenant has pinned the coordinator, and has the receipt."""
    assert (await desk.launch("--receipt", desk.folder / "receipt")).code == 0
    keys = coordinator.services.identity.keys
    pinned = msgspec.structs.replace(
        parse_pinned(any_pinned()[0]),
        identity=keys.identity_key.hex(),
        log_key=keys.log_key.hex(),
        release_key=keys.release_key.public.raw.hex(),
        seen=coordinator.services.log.head.note.encode().decode(),
        policy=POLICY,
    )
    store = TrustStore(desk.folder / "trust")
    with store.locked("tc"):
        store.save(pinned)
    write_vm_file(desk.folder / "vm", desk.vm)
    return desk


async def verify(desk: Desk, *more: str | Path) -> Ended:
    words = ("verify", desk.folder / "receipt", "--vm", desk.folder / "vm", "--store", desk.folder / "trust", *more)
    return await trio.to_thread.run_sync(lambda: tccp("vm", *words))


async def test_a_launch_is_verified_and_what_it_does_not_prove_is_said(launched: Desk) -> None:
    person, program = await verify(launched), await verify(launched, "--json")

    assert (person.code, program.code, program.document["verdict"]) == (0, 0, "accepted")
    assert "to node alpha" in person.out
    assert "not proved" in person.out
    assert program.document["node"] == "alpha"


async def test_an_altered_receipt_is_refused(launched: Desk) -> None:
    receipt = launched.folder / "receipt"
    receipt.write_bytes(receipt.read_bytes().replace(launched.vm.vm_id, bytes(16)))

    ended = await verify(launched)

    assert (ended.code, "another_ticket" in ended.err) == (1, True)
    assert "tccp ticket create --vm" in ended.err


async def test_a_guest_proves_more_with_a_quote_of_its_vtpm(launched: Desk, host: NodeTpm) -> None:
    """The TPM of the host plays the vTPM: the node has certified its AK for this VM."""
    nonce, selection = bytes(range(32)), PcrSelection.of(PcrBank.SHA256, [0, 9])
    quote, pcrs = await host.tpm.quote_with_pcrs(host.ak, nonce, selection)
    issuer = launched.node.hypervisor.issuer
    claim = issuer.claim(launched.vm.vm_id, (("disk", launched.root),))
    spki = AkKey.from_tpm_public(host.ak.public).spki
    files = {
        "message": quote.attest,
        "signature": quote.signature,
        "pcrs": b"sha256:\n" + b"".join(f"  {i} : 0x{v.hex()}\n".encode() for i, v in pcrs.values.items()),
        "ak-certificate": issuer.certify("ak", spki, claim, now=dt.datetime.now(tz=dt.UTC)),
    }
    for name, content in files.items():
        (launched.folder / name).write_bytes(content)
    options = [word for name in files for word in (f"--guest-{name}", launched.folder / name)]

    good = await verify(launched, *options, "--guest-nonce", nonce.hex(), "--json")
    stale = await verify(launched, *options, "--guest-nonce", "00" * 32, "--json")
    half = await verify(launched, *options, "--json")
    short = await verify(launched, *options, "--guest-nonce", "00", "--json")

    assert (good.code, set(good.document["guest"]["pcrs"])) == (0, {"0", "9"})
    assert (stale.code, stale.document["error"]) == (1, "nonce_mismatch")
    assert (half.code, half.document["error"]) == (2, "usage")
    assert (short.code, short.document["error"]) == (2, "usage")


async def test_without_a_daemon_there_is_a_clear_error(tmp_path: Path) -> None:
    ended = await trio.to_thread.run_sync(lambda: tccp("vm", "list", "--socket", tmp_path / "nobody.sock"))

    assert (ended.code, "no_daemon" in ended.err) == (3, True)
