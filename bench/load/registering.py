"""One node with a software TPM that registers again and again, from synchronous code."""

import threading
from types import TracebackType
from typing import Self

import trio

from tccp.node.identity import make_node_identity
from tccp.node.registration import HeldLease, NodeTpm, connect, door_context, register
from tccp.protocol import control as c
from tccp.tpm import open_tpm
from tccp.transport.trust import parse_trust
from tests.support.perimeter import Node, Perimeter


class RegisteringNode:
    """Keeps the TPM open in a loop of its own, in another thread; `register` runs one registration there."""

    def __init__(self, perimeter: Perimeter, node: Node) -> None:
        answer = perimeter.ask(c.GetTrust(), c.TrustFile)
        assert isinstance(answer, c.TrustFile)
        self._trust, self._port = parse_trust(answer.body), perimeter.port
        self._identity, self._tcti = make_node_identity(node.name), node.relay.tcti
        self._ready, self._end = threading.Event(), trio.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,))

    def __enter__(self) -> Self:
        """Open the TPM."""
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        trio.from_thread.run_sync(self._end.set, trio_token=self._token)
        self._thread.join()

    def register(self) -> None:
        """Connect, register, disconnect."""
        trio.from_thread.run(self._register, trio_token=self._token)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with open_tpm(self._tcti) as tpm:
            self._host = NodeTpm(tpm, await tpm.read_ek(), await tpm.create_ak(), None)
            self._ready.set()
            await self._end.wait()

    async def _register(self) -> None:
        context = door_context(self._identity, self._trust)
        connection = await connect("127.0.0.1", self._port, self._identity, context)
        try:
            await register(connection, self._host, self._identity, self._trust, HeldLease())
        finally:
            connection.close()
