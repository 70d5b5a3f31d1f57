"""Taking connections in: what one of them brings out is no matter of the others."""

import contextlib

import pytest
import trio

from tccp.transport import accepting
from tccp.transport.accepting import serve_connections


@pytest.mark.parametrize("contained", [True, False], ids=["contained", "control"])
async def test_a_bug_costs_one_connection_and_gives_its_place_back(
    contained: bool, bugs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not contained:
        monkeypatch.setattr(accepting, "contained", lambda *_, **__: contextlib.nullcontext())
    served = 0

    async def serve_one(stream: trio.SocketStream) -> None:
        nonlocal served
        served += 1
        async with stream:
            if served == 1:
                raise KeyError("a bug")
            await stream.send_all(b"served")

    async def two_come() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with listeners[0], trio.open_nursery() as nursery:
            nursery.start_soon(lambda: serve_connections(listeners, serve_one, connections_max=1))
            async with await trio.open_tcp_stream("127.0.0.1", port) as first:
                assert await first.receive_some() == b""
            async with await trio.open_tcp_stream("127.0.0.1", port) as second:
                assert await second.receive_some() == b"served"
            nursery.cancel_scope.cancel()

    if contained:
        await two_come()
        assert "connection_bug" in bugs.pop()
    else:
        with pytest.raises(BaseExceptionGroup) as ended:
            await two_come()
        assert ended.group_contains(KeyError, depth=None)
