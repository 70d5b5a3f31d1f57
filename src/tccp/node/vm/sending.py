"""Sending a running guest's state to another node, while it runs; it stands still for the last of it only."""

from collections.abc import Awaitable, Callable

import trio

from tccp.errors import HostError
from tccp.node.vm.migration import Pace, Sent, send_out
from tccp.node.vm.preamble import Preamble, encode_preamble
from tccp.node.vm.qmp import Qmp
from tccp.node.vm.relay import ByteStream, relay_out, send_end, send_piece, state_sockets


async def announce(preamble: Preamble, stream: ByteStream) -> None:
    """Say first of all whose state comes, so that the other end can make ready for it.

    Raises:
        HostError: ``stream_broken``.
    """
    await send_piece(stream, encode_preamble(preamble))


async def send_state(
    qmp: Qmp,
    stream: ByteStream,
    pace: Pace,
    on_progress: Callable[[Sent], None],
    standing_still: Callable[[], Awaitable[None]],
) -> Sent:
    """Behind `announce`. Returns when all of it is at the other end; the guest stands still then.

    Raises:
        HostError: Something failed: the guest has not stood still, or can go on by ``cont``.
    """
    ours, theirs = state_sockets()
    problems: list[HostError] = []
    relayed = trio.Event()

    async def relay() -> None:
        with trio.socket.from_stdlib_socket(ours) as connection:  # closed, it ends QEMU's sending
            try:
                await relay_out(connection, stream)
            except HostError as problem:
                problems.append(problem)
        relayed.set()

    sent: list[Sent] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay)
        try:
            with theirs:
                sent.append(
                    await send_out(qmp, theirs.fileno(), pace, on_progress=on_progress, standing_still=standing_still)
                )
            await relayed.wait()
        except HostError as problem:
            problems.append(problem)  # behind what the relay says, which is the cause then
            nursery.cancel_scope.cancel()
    if problems:
        raise problems[0]
    await send_end(stream)
    return sent[0]
