"""One of our daemons as it is, but for what holds it: ``python -m tests.faults.daemon NAME FOLDER --config CONFIG``."""

import sys
from contextlib import suppress
from pathlib import Path

import trio

import tccp.coordinator.daemon
import tccp.node.daemon
from tccp.node.peers import Peers
from tccp.protocol.messages import MoveOrder
from tccp.transport.bulk_stream import BulkStream
from tests.faults.holding import Holds, hold_coordinator, hold_messages, hold_node, hold_patience
from tests.faults.processes import opening
from tests.faults.wires import HOST

GUEST = "guest"
PEERS_PORT = "peers.port"


def main(name: str, folder: Path, arguments: list[str]) -> int:
    """Run it; its exit code."""
    holds = Holds(folder)
    hold_messages(holds)
    if name == "coordinator":
        hold_coordinator(holds)
        return tccp.coordinator.daemon.main(arguments)
    hold_node(holds)
    hold_patience(holds)
    vars(tccp.node.daemon)["open_qemu_hypervisor"] = opening(folder / GUEST, folder, holds)
    _go_through_wires(int((folder / PEERS_PORT).read_text()))
    return tccp.node.daemon.main(arguments)


def _go_through_wires(port: int) -> None:
    """Nodes reach each other through the test, which can cut that."""

    async def call(self: Peers, order: MoveOrder) -> BulkStream:
        plain = await trio.open_tcp_stream(HOST, port)
        with suppress(trio.BrokenResourceError):
            await plain.send_all(f"{order.address}\n".encode())
        return self.secured(plain, to=order.node)

    Peers._call = call  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
