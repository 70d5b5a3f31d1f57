"""The network cuts the connection after any record: the real node daemon comes back by itself, and is admitted."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tccp.node.daemon import Node, serve
from tccp.protocol import control as c
from tccp.transport.trust import write_trust
from tests.support.live_coordinator import (
    DEADLINE_S,
    HOST,
    ZERO,
    LiveCoordinator,
    ask_control,
    live_coordinator,
    open_host,
)
from tests.support.soft_tpm import SoftTpm

RECORD_HEADER_BYTES = 5
# Seven records are the coordinator's part of the handshake; then come challenge, lease, renewal challenge, renewal.
RECORDS = (0, 1, 5, 7, 8, 9, 10, 11)


class CuttingRelay:
    """Carries bytes between nodes and a coordinator, and cuts its first connection after some records of the latter."""

    def __init__(self, port: int, records: int) -> None:
        self._to, self._records, self.cut = port, records, trio.Event()

    async def carry(self, node: trio.SocketStream) -> None:
        coordinator = await trio.open_tcp_stream(HOST, self._to)
        async with node, coordinator, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, node, coordinator, nursery.cancel_scope)
            if not self.cut.is_set():
                await self._pass_records(coordinator, node)
                self.cut.set()
                nursery.cancel_scope.cancel()
            else:
                await self._pass_on(coordinator, node, nursery.cancel_scope)

    @staticmethod
    async def _pass_on(source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await target.send_all(data)
        scope.cancel()

    async def _pass_records(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        """The first records of TLS (RFC 8446, 5.1), whole ones, and no more."""
        buffer, left = bytearray(), self._records
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                buffer += data
                while left and len(buffer) >= RECORD_HEADER_BYTES:
                    size = RECORD_HEADER_BYTES + int.from_bytes(buffer[3:5], "big")
                    if len(buffer) < size:
                        break
                    await target.send_all(buffer[:size])
                    del buffer[:size]
                    left -= 1
                if not left:
                    return


@pytest.fixture
async def coordinator(coordinator_tpm: SoftTpm, host_tpm: SoftTpm, tmp_path: Path) -> AsyncIterator[LiveCoordinator]:
    """With short leases, so that renewals are soon due."""
    async with live_coordinator(tmp_path, coordinator_tpm, lease_s=2) as running:
        await running.add_policy({0: ZERO})
        yield running


@contextlib.asynccontextmanager
async def node_daemon(coordinator: LiveCoordinator, host_tpm: SoftTpm, port: int, folder: Path) -> AsyncIterator[Node]:
    """The daemon, in this process, that connects to *port*."""
    (folder / "trust.toml").write_bytes(write_trust(coordinator.trust))
    (folder / "node.toml").write_text(
        f'name = "alpha"\n[coordinator]\naddress = "{HOST}:{port}"\ntrust_file = "{folder}/trust.toml"\n'
        f'[control]\nsocket = "{folder}/node.sock"\n[tpm]\ntcti = "{host_tpm.tcti}"\nevent_log = ""\n'
    )
    async with trio.open_nursery() as nursery:
        node = await nursery.start(serve, folder / "node.toml")
        yield node
        nursery.cancel_scope.cancel()


@pytest.fixture
async def hasty_alpha(coordinator: LiveCoordinator, host_tpm: SoftTpm, monkeypatch: pytest.MonkeyPatch) -> SoftTpm:
    """The TPM of alpha, which is enrolled, and whose daemon does not wait long."""
    monkeypatch.setattr("tccp.node.daemon.BACKOFF_FIRST_S", 0.01)
    async with open_host(host_tpm) as host:
        await coordinator.enrol("alpha", host)
    return host_tpm


@pytest.mark.parametrize("records", RECORDS)
async def test_a_node_comes_back_after_the_connection_was_cut(
    records: int, coordinator: LiveCoordinator, hasty_alpha: SoftTpm, tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:
        relay = CuttingRelay(coordinator.port, records)
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        nursery.start_soon(trio.serve_listeners, relay.carry, [listener])
        port = listener.socket.getsockname()[1]
        async with node_daemon(coordinator, hasty_alpha, port, tmp_path) as node:
            with trio.fail_after(DEADLINE_S):
                await relay.cut.wait()
                await until_admitted(node, tmp_path)
            assert (await coordinator.leases())["alpha"].lease_id == node.lease.lease_id
            await coordinator.log()
        nursery.cancel_scope.cancel()


async def until_admitted(node: Node, folder: Path) -> None:
    """Until its control socket says so, and the cut is behind it."""
    while True:
        status = await ask_control(folder / "node.sock", c.GetStatus(), c.NodeStatus)
        if status.state == "admitted" and status.lease_id == node.lease.lease_id:
            return


async def test_a_policy_that_this_tpm_cannot_answer_does_not_end_the_daemon(
    coordinator: LiveCoordinator, hasty_alpha: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tccp.node.daemon.BACKOFF_REFUSED_S", 0.01)
    await coordinator.add_policy({0: bytes(64)}, version=2, bank="sha512")
    async with node_daemon(coordinator, hasty_alpha, coordinator.port, tmp_path) as node:
        with trio.fail_after(DEADLINE_S):
            while "pcr_bank_inactive" not in node.status().last_error:
                await trio.lowlevel.checkpoint()
            await coordinator.add_policy({0: ZERO}, version=3)
            await until_admitted(node, tmp_path)
