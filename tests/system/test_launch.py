"""Tickets become guests: real daemons, real QEMU, the `tccp` command on both sides, and what is left afterwards.

The guest's disk is a small sealed image; its kernel and initramfs are those of `tests.support.guest`.
"""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.guest import CONSOLE, guest_kernel, make_initramfs
from tests.support.perimeter import SCRIPTS, ZERO_PCR, Node, Perimeter, wait_until
from tests.support.soft_tpm import EkAuthority, SoftTpmPool

LEASE_S = 4
DISK_BYTES = 1 << 20
ROLES = ("kernel", "initrd", "disk", "data")
CANARY = b"canary of the tenant: nobody else may see this"
# Says what its disk begins with, writes a number there, and counts.
GUEST = """\
echo "disk: $(dd if=/dev/vda bs=16 count=1 2>/dev/null | tr -d '\\0')"
printf 'boot after boot.' | dd of=/dev/vda bs=16 count=1 conv=fsync 2>/dev/null
echo "data: $(wc -c < /sys/firmware/qemu_fw_cfg/by_name/opt/org.tccp/data/raw) bytes"
n=0; while true; do echo "still here: $n."; n=$((n + 1)); sleep 0.2; done
"""


class Cloud:
    """A perimeter with a tenant beside it, who has sealed a small system."""

    def __init__(self, perimeter: Perimeter, folder: Path) -> None:
        self.perimeter, self.folder = perimeter, folder

    def run(self, *words: object, socket: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """The `tccp` command."""
        environment = {**os.environ, "TCCP_SOCKET": str(socket or self.perimeter.control)}
        command = [str(SCRIPTS / "tccp"), *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def done(self, *words: object, socket: Path | None = None) -> dict[str, Any]:
        """The same, which must succeed and speak JSON."""
        finished = self.run(*words, "--json", socket=socket)
        assert finished.returncode == 0, finished.stderr + finished.stdout
        # A move says how far it is, a document a line; the last one is what has come of it.
        said = finished.stdout.splitlines()[-1] if "receive" in words else finished.stdout
        document: dict[str, Any] = json.loads(said)
        return document

    def prepare(self) -> None:
        """Trust, keys, images."""
        mine = self.folder
        finished = self.run("coordinator", "trust", "--tenant")
        (mine / "policy.toml").write_text(finished.stdout)
        address = f"127.0.0.1:{self.perimeter.tenants_port}"
        self.done("trust", "add", address, "--policy", mine / "policy.toml", "--store", mine / "trust")
        self.done("key", "generate", "--type", "tenant", mine / "tenant.key")
        self.done("key", "generate", mine / "me.key")
        self.done("coordinator", "tenant", "add", "acme", mine / "tenant.pub")
        (mine / "disk").write_bytes(
            b"as it was sealed" + CANARY + os.urandom(4096) + bytes(DISK_BYTES - 4112 - len(CANARY))
        )
        (mine / "data").write_bytes(CANARY)
        modules = ["qemu_fw_cfg"]
        sources = {
            "kernel": guest_kernel(),
            "initrd": make_initramfs(mine / "initrd", GUEST, modules=modules),
            "disk": mine / "disk",
            "data": mine / "data",
        }
        for name, source in sources.items():
            sealing = ("--to", mine / "me.pub", "--sign", mine / "tenant.key")
            self.done("image", "seal", source, mine / f"{name}.sealed", *sealing)

    def ticket(self, name: str, vm: str, *more: object, roles: Sequence[str] = ROLES) -> Path:
        """A ticket."""
        mine = self.folder
        images = [word for role in roles for word in (f"--{role}", mine / f"{role}.sealed")]
        terms = ("--cmdline", CONSOLE, "--memory", 192, "--policy", "tvmm")
        keys = ("--sign", mine / "tenant.key", "--key", mine / "me.key", "--store", mine / "trust")
        self.done("ticket", "create", mine / name, "--vm", mine / vm, *images, *terms, *keys, *more)
        return mine / name

    @property
    def images(self) -> list[Path]:
        """What the provider has of her."""
        return [self.folder / f"{role}.sealed" for role in ROLES]

    def launch(self, node: Node, ticket: Path, *more: object) -> dict[str, Any]:
        """Start a VM on *node*."""
        return self.done("vm", "launch", ticket, *self.images, *more, socket=node.daemon.control)

    def refused(self, node: Node, ticket: Path) -> str:
        """Be refused: the reason."""
        words = ("vm", "launch", ticket, *self.images, "--json")
        finished = self.run(*words, socket=node.daemon.control)
        assert finished.returncode != 0, finished.stdout
        return str(json.loads(finished.stdout)["error"])

    def record(self, vm_id: str) -> dict[str, Any]:
        """What the coordinator has of a VM."""
        return next(vm for vm in self.done("coordinator", "vms")["vms"] if vm["vm_id"] == vm_id)

    def show(self, node: Node, vm_id: str) -> dict[str, Any]:
        """What its node has."""
        return self.done("vm", "show", vm_id, socket=node.daemon.control)


@pytest.fixture(scope="module")
def cloud(ek_authority: EkAuthority, soft_tpms: SoftTpmPool) -> Iterator[Cloud]:
    """With two nodes, alpha and beta, for the tests of this file."""
    with soft_tpms.lend():  # the authority exists once it has made a TPM
        pass
    with (
        tempfile.TemporaryDirectory(prefix="tccp-system-") as directory,
        Perimeter(Path(directory), lease_s=LEASE_S, authority=ek_authority) as perimeter,
    ):
        perimeter.add_policy("tvmm", {0: ZERO_PCR, 4: ZERO_PCR})
        for name in ("alpha", "beta"):
            perimeter.make_node(name, vms=True).daemon.start()
        for node in perimeter.nodes.values():
            node.wait_for_state("admitted")
        folder = perimeter.directory / "tenant"
        folder.mkdir(mode=0o711)
        cloud = Cloud(perimeter, folder)
        cloud.prepare()
        yield cloud


@pytest.fixture
def alpha(cloud: Cloud) -> Node:
    """Admitted."""
    node = cloud.perimeter.nodes["alpha"]
    node.wait_for_state("admitted")
    return node


def console_until(vm: dict[str, Any], wanted: bytes) -> bytes:
    """What the guest says, up to something."""
    said = b""
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(vm["console"])
        console.settimeout(60)
        while wanted not in said:
            more = console.recv(65_536)
            assert more, said
            said += more
    return said


def processes_of(vm_id: str) -> list[int]:
    """QEMU's."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and vm_id in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_guest_starts_from_a_ticket_and_its_launch_is_verified(cloud: Cloud, alpha: Node) -> None:
    ticket, receipt = cloud.ticket("one.ticket", "one.vm"), cloud.folder / "one.receipt"

    vm = cloud.launch(alpha, ticket, "--receipt", receipt)
    said = console_until(vm, b"still here")
    verdict = cloud.done("vm", "verify", receipt, "--vm", cloud.folder / "one.vm", "--store", cloud.folder / "trust")

    assert b"disk: as it was sealed" in said
    assert f"data: {len(CANARY)} bytes".encode() in said
    assert (verdict["verdict"], verdict["node"], verdict["vm_id"]) == ("accepted", "alpha", vm["vm_id"])
    assert len(verdict["vtpm"]["ek_certificate"]) > 400
    assert cloud.record(vm["vm_id"])["state"] == "running"
    assert cloud.refused(cloud.perimeter.nodes["beta"], ticket) == "ticket_used"

    cloud.done("vm", "stop", "--force", vm["vm_id"], socket=alpha.daemon.control)
    assert not processes_of(vm["vm_id"])


def test_a_vm_starts_again_on_its_own_disk_as_it_was_left_and_on_no_older_one(cloud: Cloud, alpha: Node) -> None:
    first = cloud.launch(alpha, cloud.ticket("a.ticket", "disk.vm"))
    vm_id = first["vm_id"]
    console_until(first, b"still here")
    cloud.done("vm", "stop", "--force", vm_id, socket=alpha.daemon.control)
    live = cloud.perimeter.directory / "alpha" / "vms" / vm_id / "disk0.live"
    older = live.read_bytes()

    second = cloud.launch(alpha, cloud.ticket("b.ticket", "disk.vm"))
    said = console_until(second, b"still here")
    cloud.done("vm", "stop", "--force", vm_id, socket=alpha.daemon.control)
    assert (second["epoch"], b"disk: boot after boot." in said) == (2, True)

    live.write_bytes(older)
    reason = cloud.refused(alpha, cloud.ticket("c.ticket", "disk.vm"))
    assert reason not in {"ticket_used", "vm_running"}
    assert cloud.show(alpha, vm_id)["state"] == "failed"

    # The tenant may take it all the same, and only she.
    again = cloud.launch(alpha, cloud.ticket("d.ticket", "disk.vm", "--any-disk-state"))
    assert again["epoch"] == 4
    cloud.done("vm", "stop", "--force", vm_id, socket=alpha.daemon.control)


def test_a_vm_whose_disk_process_was_killed_starts_again_and_on_no_older_disk(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("mark1.ticket", "mark.vm"))
    vm_id = vm["vm_id"]
    live = cloud.perimeter.directory / "alpha" / "vms" / vm_id / "disk0.live"
    wait_until(lambda: registered(cloud, vm_id), "it is registered how far the disk was when it was opened")
    opened = registered(cloud, vm_id)
    older = live.read_bytes()
    console_until(vm, b"still here")
    wait_until(lambda: registered(cloud, vm_id) not in {b"", opened}, "it is registered that the guest wrote")
    crash_disk(vm_id, live)
    wait_until(lambda: cloud.record(vm_id)["state"] == "ended", "the end is recorded")
    assert cloud.show(alpha, vm_id)["reason"] == "disk_failed"
    newest = live.read_bytes()

    live.write_bytes(older)
    assert cloud.refused(alpha, cloud.ticket("mark2.ticket", "mark.vm")) == "wrong_disk_mark"
    assert "--any-disk-state" in cloud.show(alpha, vm_id)["hint"]

    live.write_bytes(newest)
    again = cloud.launch(alpha, cloud.ticket("mark3.ticket", "mark.vm"))
    assert b"disk: boot after boot." in console_until(again, b"still here")
    cloud.done("vm", "stop", "--force", vm_id, socket=alpha.daemon.control)


def registered(cloud: Cloud, vm_id: str) -> bytes:
    """How far the VM's disk had come when that was registered last."""
    database = cloud.perimeter.directory / "state" / "coordinator.db"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT marks FROM vm WHERE vm_id = ?", (bytes.fromhex(vm_id),)).fetchone()
    return row[0] or b""


def crash_disk(vm_id: str, live: Path) -> None:
    """Kill the process that serves a VM's disk."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and b"disk_child" in (entry / "cmdline").read_bytes():
                held = {str(link.readlink()) for link in (entry / "fd").iterdir()}
                if str(live) in held:
                    os.kill(int(entry.name), signal.SIGKILL)
                    return
    raise AssertionError(f"nobody serves the disk of {vm_id}")


def test_a_guest_is_suspended_and_goes_on_counting_once(cloud: Cloud, alpha: Node) -> None:
    ticket, receipt = cloud.ticket("still.ticket", "still.vm"), cloud.folder / "still.receipt"
    vm = cloud.launch(alpha, ticket)
    console_until(vm, b"still here: 5.")

    suspended = cloud.done("vm", "suspend", vm["vm_id"], socket=alpha.daemon.control)
    assert not processes_of(vm["vm_id"])
    assert cloud.record(vm["vm_id"])["state"] == "suspended"
    state = Path(suspended["saved"])
    older = cloud.folder / "older.state"
    older.write_bytes(state.read_bytes())
    assert CANARY not in older.read_bytes()
    assert cloud.refused(alpha, cloud.ticket("beside.ticket", "still.vm")) == "vm_suspended"

    words = ("vm", "resume", ticket, state, *cloud.images)
    resumed = cloud.done(*words, "--receipt", receipt, socket=alpha.daemon.control)
    said = console_until(resumed, b"still here: ")
    assert (resumed["epoch"], b"still here: 0." in said) == (2, False)
    trust = ("--vm", cloud.folder / "still.vm", "--store", cloud.folder / "trust")
    assert cloud.done("vm", "verify", receipt, *trust)["epoch"] == 2
    assert not state.exists()
    cloud.done("vm", "suspend", vm["vm_id"], socket=alpha.daemon.control)
    old = cloud.run("vm", "resume", ticket, older, *cloud.images, "--json", socket=alpha.daemon.control)
    assert json.loads(old.stdout)["error"] == "state_old"


def test_a_guest_goes_back_to_its_snapshot_with_the_disk_as_it_was_where_its_ticket_allows(
    cloud: Cloud, alpha: Node
) -> None:
    ticket, control = cloud.ticket("back.ticket", "back.vm", "--allow-rollback"), alpha.daemon.control
    vm = cloud.launch(alpha, ticket)
    vm_id = vm["vm_id"]
    console_until(vm, b"still here: 3.")
    going_on = cloud.done("vm", "snapshot", vm_id, socket=control)
    kept = Path(going_on["saved"])
    console_until(going_on, b"still here: 12.")
    cloud.done("vm", "stop", "--force", vm_id, socket=control)
    live = kept.parent / "disk0.live"
    live.write_bytes(b"what it has become since")

    words = ("vm", "resume", ticket, kept, *cloud.images)
    back = cloud.done(*words, socket=control)

    said = console_until(back, b"still here: 11.")
    assert (back["epoch"], b"still here: 0." in said) == (3, False)
    cloud.done("vm", "stop", "--force", vm_id, socket=control)
    # The control: it was the kept disk, and none other is taken.
    (kept.parent / "kept-1-disk0.live").unlink()
    live.write_bytes(b"what it has become since")
    assert cloud.run(*words, "--json", socket=control).returncode != 0


def test_a_running_guest_moves_to_another_node_with_its_disk_and_goes_on_counting(cloud: Cloud, alpha: Node) -> None:
    beta = cloud.perimeter.nodes["beta"]
    beta.wait_for_state("admitted")
    ticket, receipt = cloud.ticket("move.ticket", "move.vm"), cloud.folder / "move.receipt"
    vm = cloud.launch(alpha, ticket)
    console_until(vm, b"still here: 5.")

    words = ("vm", "receive", ticket, *cloud.images)
    moved = cloud.done(*words, "--receipt", receipt, socket=beta.daemon.control)

    said = console_until(moved, b"still here: ")
    assert (moved["epoch"], b"still here: 0." in said) == (2, False)
    wait_until(lambda: cloud.show(alpha, vm["vm_id"])["state"] == "moved", "the source knows")
    record = cloud.record(vm["vm_id"])
    assert (record["state"], record["node"], record["epoch"]) == ("running", "beta", 2)
    assert not (cloud.perimeter.directory / "alpha" / "vms" / vm["vm_id"]).exists()
    trust = ("--vm", cloud.folder / "move.vm", "--store", cloud.folder / "trust")
    assert cloud.done("vm", "verify", receipt, *trust)["node"] == "beta"
    again = cloud.run(*words, "--json", socket=beta.daemon.control)
    assert json.loads(again.stdout)["error"] == "vm_running"
    cloud.done("vm", "stop", "--force", vm["vm_id"], socket=beta.daemon.control)
    assert not processes_of(vm["vm_id"])

    # What the guest wrote before is on the disk that it has there.
    next_one = cloud.launch(beta, cloud.ticket("moved.ticket", "move.vm"))
    assert b"disk: boot after boot." in console_until(next_one, b"still here")
    cloud.done("vm", "destroy", vm["vm_id"], socket=beta.daemon.control)


def test_a_destroyed_vm_leaves_nothing_on_its_node_but_a_receipt_that_holds(cloud: Cloud, alpha: Node) -> None:
    ticket, receipt = cloud.ticket("gone.ticket", "gone.vm"), cloud.folder / "gone.receipt"
    vm = cloud.launch(alpha, ticket)
    console_until(vm, b"still here")
    folder = cloud.perimeter.directory / "alpha" / "vms" / vm["vm_id"]
    assert list(folder.rglob("*.live"))

    cloud.done("vm", "destroy", vm["vm_id"], "--receipt", receipt, socket=alpha.daemon.control)

    assert not processes_of(vm["vm_id"])
    assert not folder.exists()
    assert cloud.record(vm["vm_id"])["state"] == "destroyed"
    trust = ("--vm", cloud.folder / "gone.vm", "--store", cloud.folder / "trust")
    assert cloud.done("vm", "verify-destruction", receipt, *trust)["node"] == "alpha"
    assert cloud.refused(alpha, cloud.ticket("gone2.ticket", "gone.vm")) == "vm_destroyed"


def test_a_destruction_outlives_its_daemon_and_a_coordinator_that_is_away(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("twice.ticket", "twice.vm"))
    folder = cloud.perimeter.directory / "alpha" / "vms" / vm["vm_id"]
    cloud.perimeter.coordinator.signal(signal.SIGSTOP)
    try:
        ending = subprocess.Popen([SCRIPTS / "tccp", "vm", "destroy", vm["vm_id"], "--socket", alpha.daemon.control])
        wait_until(lambda: not folder.exists(), "it is wiped")
        alpha.daemon.kill()
        assert ending.wait() != 0
        folder.mkdir()  # as if it had died before that
        (folder / "disk0.live").write_bytes(CANARY)
        alpha.daemon.start()
        wait_until(lambda: not folder.exists(), "it is wiped again")
    finally:
        cloud.perimeter.coordinator.signal(signal.SIGCONT)

    receipt, trust = cloud.folder / "twice.receipt", ("--store", cloud.folder / "trust")
    cloud.done("vm", "destroy", vm["vm_id"], "--receipt", receipt, socket=alpha.daemon.control)
    words = ("vm", "verify-destruction", receipt, "--vm", cloud.folder / "twice.vm", *trust)
    assert cloud.done(*words)["node"] == "alpha"
    assert cloud.record(vm["vm_id"])["state"] == "destroyed"
    alpha.wait_for_state("admitted")


def test_qemu_that_dies_costs_its_vm_and_the_coordinator_is_told(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("kill.ticket", "kill.vm"))

    for pid in processes_of(vm["vm_id"]):
        os.kill(pid, signal.SIGKILL)

    wait_until(lambda: cloud.record(vm["vm_id"])["state"] == "ended", "the end is recorded")
    assert cloud.show(alpha, vm["vm_id"])["reason"] == "killed_by_host"


def test_a_revoked_node_ends_its_guests_at_once(cloud: Cloud) -> None:
    beta = cloud.perimeter.nodes["beta"]
    beta.wait_for_state("admitted")
    vm = cloud.launch(beta, cloud.ticket("beta.ticket", "beta.vm"))
    assert processes_of(vm["vm_id"])

    cloud.done("coordinator", "revoke", "beta", "--reason", "sold")

    wait_until(lambda: not processes_of(vm["vm_id"]), "QEMU has ended")
    assert cloud.show(beta, vm["vm_id"])["reason"] == "revoked"
    assert cloud.record(vm["vm_id"])["state"] == "lost"
    assert cloud.refused(beta, cloud.ticket("beta2.ticket", "beta2.vm")) == "not_admitted"
    assert cloud.refused(cloud.perimeter.nodes["alpha"], cloud.ticket("beta3.ticket", "beta.vm")) == "vm_not_free"


def test_a_node_that_hears_nothing_more_ends_its_guests_with_its_lease(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("cut.ticket", "cut.vm"))

    cloud.perimeter.coordinator.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not processes_of(vm["vm_id"]), "QEMU has ended")
        assert cloud.show(alpha, vm["vm_id"])["reason"] == "lease_lapsed"
    finally:
        cloud.perimeter.coordinator.signal(signal.SIGCONT)
    wait_until(lambda: cloud.record(vm["vm_id"])["state"] == "ended", "the end is recorded")


def test_a_daemon_that_is_stopped_leaves_no_guest_and_tells_the_coordinator(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("stop.ticket", "stop.vm"))

    assert alpha.daemon.stop() == 0

    assert not processes_of(vm["vm_id"])
    record = cloud.record(vm["vm_id"])
    assert (record["state"], record["end_reason"]) == ("ended", "node_stopped")
    alpha.daemon.start()
    alpha.wait_for_state("admitted")


def test_a_daemon_that_is_killed_takes_its_guests_with_it(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("crash.ticket", "crash.vm"))

    alpha.daemon.kill()

    wait_until(lambda: not processes_of(vm["vm_id"]), "QEMU has ended")
    alpha.daemon.start()
    alpha.wait_for_state("admitted")
    assert cloud.record(vm["vm_id"])["state"] == "lost"


def test_nothing_of_the_tenants_is_in_what_the_provider_stored_or_said(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("last.ticket", "last.vm"), "--receipt", cloud.folder / "last.receipt")
    cloud.done("vm", "stop", "--force", vm["vm_id"], socket=alpha.daemon.control)

    mine = {cloud.folder / name for name in ("disk", "data")}  # the control: the search finds these
    found = {path for path in cloud.perimeter.directory.rglob("*") if path.is_file() and CANARY in path.read_bytes()}
    assert found == mine
