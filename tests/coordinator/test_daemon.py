"""Two coordinators on one database, more peers than places, strangers who fill logs: the daemon as a whole."""

import contextlib
import socket
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tccp.coordinator import daemon, log_opening
from tccp.coordinator.daemon import serve
from tccp.errors import ConfigError, RefusedError
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import Challenge, Evidence, Hello
from tccp.store import FencedError
from tccp.transport.connection import RefusalError
from tests.support.coordinator_keys import make_keys
from tests.support.live_coordinator import HOST, ZERO, HonestNode, LiveCoordinator, live_coordinator
from tests.support.soft_tpm import SoftTpm


async def test_a_second_coordinator_on_the_same_database_shuts_the_first_out(
    coordinator_tpm: SoftTpm, other_coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path
) -> None:
    """It ends by itself, and only then the second writes the log, which goes on where the first left it."""
    folder, second_folder = tmp_path / "first", tmp_path / "second"
    folder.mkdir()
    second_folder.mkdir()
    keys, authority = await make_keys(folder / "state", coordinator_tpm.tcti)
    await make_keys(second_folder / "state", other_coordinator_tpm.tcti, keys=keys, authority=authority)
    for shared in ("coordinator.db", "log"):
        (second_folder / "state" / shared).symlink_to(folder / "state" / shared)
    ends: list[str] = []

    async def be_first(task_status: trio.TaskStatus[LiveCoordinator]) -> None:
        try:
            async with live_coordinator(folder, coordinator_tpm) as first:
                task_status.started(first)
                await trio.sleep_forever()
        except* FencedError:
            ends.append("fenced")

    async with trio.open_nursery() as nursery:
        first = await nursery.start(be_first)
        await first.add_policy({0: ZERO})
        await first.enrol("alpha", host)
        await HonestNode(first, "alpha", host).register()
        async with live_coordinator(second_folder, other_coordinator_tpm) as second:
            assert ends == ["fenced"]
            again = HonestNode(second, "alpha", host)
            assert await again.is_admitted()
            assert len(await second.leases()) == 1
            assert len(await second.log()) == again.admission.index + 1 == second.services.log.size


async def test_a_second_start_on_the_same_socket_leaves_the_first_alone(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    with pytest.raises(ConfigError, match="already_running"):
        await serve(coordinator.config)

    assert await alpha.is_admitted()


async def test_a_second_start_on_the_same_port_leaves_the_first_alone(
    coordinator: LiveCoordinator, alpha: HonestNode, tmp_path: Path
) -> None:
    config = tmp_path / "again.toml"
    body = coordinator.config.read_text().replace("control.sock", "other.sock")
    config.write_text(body.replace("port = 0", f"port = {coordinator.port}"))
    with pytest.raises(ConfigError, match="cannot_listen"):
        await serve(config)

    assert await alpha.is_admitted()


async def test_systemd_waits_until_a_large_database_and_a_long_log_are_read(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_coordinator(tmp_path, coordinator_tpm):
        pass
    database_bytes = (tmp_path / "state" / "coordinator.db").stat().st_size
    monkeypatch.setattr(daemon, "READ_BYTES_PER_S", 1)
    monkeypatch.setattr(log_opening, "ENTRY_TIMEOUT_US", 1_000_000_000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with live_coordinator(tmp_path, coordinator_tpm):
            asked_us = [int(systemd.recv(4096).removeprefix(b"EXTEND_TIMEOUT_USEC=")) for _ in range(2)]

    assert asked_us[0] > 1_000_000 * database_bytes
    assert asked_us[1] > 1_000_000_000


PATIENT_S = 30.0


async def test_when_all_places_are_taken_the_next_one_waits_its_turn(
    coordinator_tpm: SoftTpm, host: NodeTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tccp.transport.connection.HANDSHAKE_S", 0.5)
    async with live_coordinator(tmp_path, coordinator_tpm, extra="connections_max = 2") as coordinator:
        await coordinator.add_policy({0: ZERO})
        await coordinator.enrol("alpha", host)
        async with contextlib.AsyncExitStack() as idlers:
            for _ in range(2):
                await idlers.enter_async_context(await trio.open_tcp_stream(HOST, coordinator.port))
            await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)
            await trio.testing.wait_all_tasks_blocked(0.1)  # both are waited for, and for half a second only
            monkeypatch.setattr("tccp.transport.connection.HANDSHAKE_S", PATIENT_S)
            assert await HonestNode(coordinator, "alpha", host).is_admitted()


async def test_beyond_its_places_a_coordinator_opens_no_files(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers = 40
    async with live_coordinator(tmp_path, coordinator_tpm, extra="connections_max = 3") as coordinator:
        before = len(list(Path("/proc/self/fd").iterdir()))
        async with contextlib.AsyncExitStack() as idlers:
            for _ in range(strangers):
                await idlers.enter_async_context(await trio.open_tcp_stream(HOST, coordinator.port))
            await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)  # it had time to accept them all
            assert len(list(Path("/proc/self/fd").iterdir())) <= before + strangers + 3 + 2


async def test_a_stranger_behind_a_nodes_name_neither_ends_its_lease_nor_fills_the_log(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    class KnowsOnlyThePublicKeys(HonestNode):
        """EKs are public: anybody with the trust file can speak in the name of a node, and fail."""

        async def answer(self, challenge: Challenge) -> Evidence:
            return Evidence(bytes(32), b"x", bytes(16), bytes(16), (ZERO, ZERO), b"")

    class AndHasNoAk(HonestNode):
        async def hello(self) -> Hello:
            return msgspec.structs.replace(await super().hello(), ak_public=bytes(16))

    await alpha.register()
    size = len(await coordinator.log())
    for _ in range(5):
        for stranger in (KnowsOnlyThePublicKeys, AndHasNoAk):
            await stranger(coordinator, "alpha", alpha.host).is_refused()

    await alpha.renew()
    assert len(await coordinator.log()) <= size + 3  # one of each, and the question that `renew` begins with


async def test_a_node_that_was_removed_from_the_record_renews_nothing(
    coordinator: LiveCoordinator, alpha: HonestNode
) -> None:
    await alpha.register()
    await coordinator.store.remove_node(next(iter(await coordinator.store.list_nodes())).name, 1)

    with pytest.raises((RefusalError, RefusedError)):
        await alpha.renew()
    assert await HonestNode(coordinator, "alpha", alpha.host).is_refused() == "not_enrolled"
