"""Tickets become guests, which start again on their disks, and go on from their states and on other nodes."""

import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path

from tests.support.perimeter import Node, wait_until
from tests.support.processes import command_lines
from tests.system.cloud import CANARY, Cloud, console_until, processes_of


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
    for pid, words in command_lines():
        if any("disk_child" in word for word in words):
            with contextlib.suppress(OSError):
                if str(live) in {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}:
                    os.kill(pid, signal.SIGKILL)
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


def test_nothing_of_the_tenants_is_in_what_the_provider_stored_or_said(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("last.ticket", "last.vm"), "--receipt", cloud.folder / "last.receipt")
    cloud.done("vm", "stop", "--force", vm["vm_id"], socket=alpha.daemon.control)

    mine = {cloud.folder / name for name in ("disk", "data")}  # the control: the search finds these
    found = {path for path in cloud.perimeter.directory.rglob("*") if CANARY in content_of(path)}
    assert found == mine


def content_of(path: Path) -> bytes:
    """Of a file that may go while we look."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:
        return b""
