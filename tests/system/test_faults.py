"""Disks that fill, TPMs that die, configurations that break, processes that are stopped: under the real daemons."""

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tccp.errors import HostError
from tccp.protocol import control as c
from tccp.service import EXIT_HOST_ERROR
from tests.support.perimeter import ZERO_PCR, Perimeter, wait_until
from tests.support.soft_tpm import EkAuthority

DISK_BYTES = 512 * 1024


@pytest.fixture
def own_perimeter(folder: Path, ek_authority: EkAuthority) -> Iterator[Perimeter]:
    """A coordinator that a test may break."""
    with Perimeter(folder, lease_s=2, authority=ek_authority) as running:
        running.add_policy("tvmm", {0: ZERO_PCR, 4: ZERO_PCR})
        yield running


def write_without_end(perimeter: Perimeter) -> None:
    while True:
        perimeter.ask(c.SetNodePolicy(name=next(iter(perimeter.nodes)), policy="tvmm"), c.NodeInfo)


@contextlib.contextmanager
def full_disk(perimeter: Perimeter) -> Iterator[None]:
    """No file of the coordinator may grow beyond a size that its database reaches soon, and its log does not."""
    pid = perimeter.coordinator.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    used = max(path.stat().st_size for path in (perimeter.directory / "state").iterdir())
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(used, DISK_BYTES), unlimited[1]))
    try:
        with pytest.raises(HostError) as caught:
            write_without_end(perimeter)
        assert caught.value.reason in {"io_error", "disk_full"}
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)


def test_while_the_disk_is_full_nobody_is_admitted_and_afterwards_all_are(perimeter: Perimeter) -> None:
    node = perimeter.make_node("full-disk")
    with full_disk(perimeter):
        node.daemon.start()
        log = perimeter.coordinator.log_path
        wait_until(lambda: "session_failed" in log.read_text(), "it cannot be stored", log=log)
        assert node.status().lease_id == b""
        assert perimeter.node_info(node.name).lease_id == b""

    node.wait_for_state("admitted")


def test_while_the_disk_is_full_leases_lapse_and_afterwards_they_come_back(perimeter: Perimeter) -> None:
    node = perimeter.make_node("lapsing")
    node.daemon.start()
    node.wait_for_state("admitted")
    with full_disk(perimeter):
        node.daemon.wait_until(lambda: node.status().lease_id == b"", "its lease has lapsed")
        perimeter.wait_for(node.name, lambda info: info.lease_id == b"", "has lapsed in the record")  # a little later
        assert perimeter.coordinator.running

    perimeter.wait_for(node.name, lambda info: info.state == "admitted" and info.connected, "is back")


def test_a_stopped_node_lapses_in_the_record_and_comes_back_when_it_goes_on(perimeter: Perimeter) -> None:
    node = perimeter.make_node("stopped")
    node.daemon.start()
    node.wait_for_state("admitted")
    first = perimeter.node_info(node.name).lease_id
    node.daemon.signal(signal.SIGSTOP)
    perimeter.wait_for(node.name, lambda info: info.lease_id == b"", "has lapsed")

    node.daemon.signal(signal.SIGCONT)
    perimeter.wait_for(node.name, lambda info: info.state == "admitted" and info.connected, "is back")
    assert perimeter.node_info(node.name).lease_id not in {b"", first}


def test_a_node_that_is_told_to_stop_stops_and_leaves_no_socket(perimeter: Perimeter) -> None:
    node = perimeter.make_node("polite")
    node.daemon.start()
    node.wait_for_state("admitted")

    assert node.daemon.stop() == 0
    assert not node.daemon.control.exists()
    perimeter.wait_for(node.name, lambda info: info.lease_id == b"", "has lapsed")


def test_a_node_that_reads_its_configuration_again_keeps_its_lease(perimeter: Perimeter) -> None:
    node = perimeter.make_node("reloading")
    node.daemon.start()
    lease = node.wait_for_state("admitted").lease_id
    config = node.daemon.config
    good = config.read_text()
    for body, told in (("name = 1", "reload_failed"), (good, "reloaded")):
        config.write_text(body)
        node.daemon.signal(signal.SIGHUP)
        wait_until(lambda told=told: told in node.daemon.log_path.read_text(), told)  # type: ignore[misc]

    assert node.status().lease_id == lease


def test_a_broken_configuration_is_not_taken_over(perimeter: Perimeter) -> None:
    config, log = perimeter.config, perimeter.coordinator.log_path
    good = config.read_text()
    try:
        for number, body in enumerate(("colour = 1", "[leases]\nseconds = 0", "not toml at all"), start=1):
            config.write_text(body)
            perimeter.coordinator.signal(signal.SIGHUP)
            wait_until(lambda number=number: log.read_text().count("reload_failed") >= number, "it is told")  # type: ignore[misc]
    finally:
        config.write_text(good)
    status = perimeter.ask(c.GetStatus(), c.CoordinatorStatus)
    assert isinstance(status, c.CoordinatorStatus)
    assert status.lease_s == 2


def test_a_coordinator_whose_tpm_dies_ends_and_says_so(own_perimeter: Perimeter) -> None:
    node = own_perimeter.make_node("alpha")
    own_perimeter.tpm.kill()
    node.daemon.start()

    assert own_perimeter.coordinator.wait() == EXIT_HOST_ERROR
    assert "tccp: error: tpm_gone" in own_perimeter.coordinator.log_path.read_text()
    assert node.status().lease_id == b""

    own_perimeter.tpm.start()
    own_perimeter.coordinator.start()
    node.wait_for_state("admitted")


def test_a_node_whose_tpm_dies_ends_and_says_so(perimeter: Perimeter) -> None:
    node = perimeter.make_node("tpmless")
    node.daemon.start()
    node.wait_for_state("admitted")
    node.tpm.kill()

    assert node.daemon.wait() == EXIT_HOST_ERROR
    assert "tccp: error: tpm_gone" in node.daemon.log_path.read_text()


def test_the_coordinators_files_are_its_own(perimeter: Perimeter) -> None:
    state = perimeter.directory / "state"
    # In a folder that nobody else may enter; and the log is for everybody anyway.
    tops = [top for top in state.iterdir() if top.name != "log" and not top.name.startswith("coordinator.db")]
    for path in [state, *(path for top in tops for path in (top, *top.rglob("*")))]:
        assert path.stat().st_mode & 0o077 == 0, path
        assert path.stat().st_uid == os.getuid()


def test_a_daemon_that_crashes_leaves_no_core_file_and_can_never_again_be_allowed_to(perimeter: Perimeter) -> None:
    node = perimeter.make_node("coreless")
    node.daemon.start()
    # The control: whoever starts them may have some.
    assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0

    for daemon in (perimeter.coordinator, node.daemon):
        assert resource.prlimit(daemon.pid, resource.RLIMIT_CORE) == (0, 0)
