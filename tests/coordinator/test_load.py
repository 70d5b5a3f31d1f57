"""Many nodes at once, in a process of their own (`bench.load`), against the installed daemon; a small crowd."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.bench_release import release
from bench.load.coordinator import LoadedCoordinator
from tests.support.soft_tpm import EkAuthority

NODES = 60
BAD_EVERY = 20  # three, one with each fault


@pytest.fixture(scope="module")
def loaded(ek_authority: EkAuthority) -> Iterator[LoadedCoordinator]:
    with (
        TemporaryDirectory(prefix="tccp-") as folder,
        LoadedCoordinator(Path(folder), ek_authority, workers=2) as running,
    ):
        running.add_nodes(NODES)
        yield running


def test_all_nodes_are_renewed_when_all_are_asked_at_once(loaded: LoadedCoordinator) -> None:
    loaded.set_delay(20)
    storm = loaded.storm()
    loaded.set_delay(0)
    assert (len(storm.took_s), storm.refusals) == (NODES, {})


def test_keys_are_released_for_as_many_tickets_as_there_are(loaded: LoadedCoordinator) -> None:
    report = release(loaded, first=NODES, nodes=2, tickets=6, at_once=2)
    assert len(report["times_s"]) == 6


def test_nodes_with_bad_evidence_are_out_and_nobody_else_is(loaded: LoadedCoordinator) -> None:
    storm = loaded.storm(bad_every=BAD_EVERY)
    assert sum(storm.refusals.values()) == NODES // BAD_EVERY
    assert len(storm.took_s) == NODES - NODES // BAD_EVERY
    assert loaded.tell("report")["connected"] == NODES - NODES // BAD_EVERY


def test_all_nodes_come_back_on_their_own_after_the_coordinator_was_killed(loaded: LoadedCoordinator) -> None:
    workers = loaded.worker_pids
    report = loaded.restart()[0]
    assert len(workers) == len(loaded.worker_pids) == 2
    assert not set(workers) & set(loaded.worker_pids)  # without their coordinator they have ended
    assert len(report["back_s"]) == NODES  # those that were refused before, too
    assert loaded.status.nodes_connected == NODES
    assert len(loaded.storm().took_s) == NODES
