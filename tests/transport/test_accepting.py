"""Who is taken in, and who is not worth it any more."""

from collections.abc import Callable
from functools import partial

import pytest
import trio

from tccp.transport import accepting
from tccp.transport.accepting import serve_connections

GONE, HERE = b"gone", b"here"


@pytest.mark.parametrize("looks", [True, False], ids=["looks", "control"])
async def test_nothing_is_spent_on_those_who_left_while_they_waited(
    looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not looks:
        monkeypatch.setattr(accepting, "has_left", lambda _: False)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    connect = partial(trio.open_tcp_stream, *address[:2])
    served: list[bytes] = []
    async with listener:
        left = await connect()  # into the backlog: nobody accepts yet
        await left.send_all(GONE)
        await left.aclose()
        async with await connect() as waiting, trio.open_nursery() as nursery:
            await waiting.send_all(HERE)
            serve_one = partial(_note, served, nursery.cancel_scope.cancel)
            await serve_connections([listener], serve_one, connections_max=9)
    assert served == ([HERE] if looks else [GONE, HERE])


async def _note(served: list[bytes], end: Callable[[], None], stream: trio.SocketStream) -> None:
    async with stream:
        served.append(await stream.receive_some(9))
    if HERE in served:
        end()
