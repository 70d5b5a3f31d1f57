"""How guests end, and what is left of them: destroyed, killed, put out, cut off, or with their daemons."""

import os
import signal
import subprocess

from tests.support.perimeter import SCRIPTS, Node, wait_until
from tests.system.cloud import CANARY, Cloud, console_until, processes_of

SHORT_LEASE_S, LEASE_S = 4, 60


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


def test_a_revoked_node_ends_its_guests_at_once(cloud: Cloud, alpha: Node) -> None:
    gamma = cloud.perimeter.make_node("gamma", vms=True)
    gamma.daemon.start()
    gamma.wait_for_state("admitted")
    vm = cloud.launch(gamma, cloud.ticket("gamma.ticket", "gamma.vm"))
    assert processes_of(vm["vm_id"])

    cloud.done("coordinator", "revoke", "gamma", "--reason", "sold")

    wait_until(lambda: not processes_of(vm["vm_id"]), "QEMU has ended")
    shown = cloud.show(gamma, vm["vm_id"])
    assert (shown["reason"], shown["detail"]) == (
        "revoked",
        "the coordinator revoked this node: see `tccp node status`",
    )
    assert cloud.record(vm["vm_id"])["state"] == "lost"
    assert cloud.refused(gamma, cloud.ticket("gamma2.ticket", "gamma2.vm")) == "not_admitted"
    assert cloud.refused(alpha, cloud.ticket("gamma3.ticket", "gamma.vm")) == "vm_not_free"


def test_a_node_that_hears_nothing_more_ends_its_guests_with_its_lease(cloud: Cloud, alpha: Node) -> None:
    vm = cloud.launch(alpha, cloud.ticket("cut.ticket", "cut.vm"))
    cloud.perimeter.shorten_leases(SHORT_LEASE_S, [alpha])
    assert processes_of(vm["vm_id"])

    cloud.perimeter.coordinator.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not processes_of(vm["vm_id"]), "QEMU has ended")
        assert cloud.show(alpha, vm["vm_id"])["reason"] == "lease_lapsed"
    finally:
        cloud.perimeter.reload_lease(LEASE_S)
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
