"""Logs of the host of an admitted node, asked for in the middle of a renewal."""

import contextlib
from collections.abc import Callable, Iterator

import structlog
import trio

from tccp.coordinator.examination import PATIENCE_S, Fetch
from tccp.coordinator.sessions import ANSWER_S, NodeSession
from tccp.protocol import fields as f
from tccp.protocol.messages import HostLogRequest

log = structlog.get_logger()


@contextlib.contextmanager
def logs_of(session: NodeSession, send: Callable[[NodeSession, HostLogRequest], None]) -> Iterator[Fetch]:
    """What fetches logs of *session*'s host; one that does not show them is gone, and its session ends here."""
    for_us, parts = trio.open_memory_channel[bytes](1)
    session.parts = for_us

    async def fetch(name: f.HostLog, offset: int) -> bytes:
        send(session, HostLogRequest(log=name, offset=offset))
        if session.ended:
            raise trio.EndOfChannel
        with trio.fail_after(ANSWER_S):
            return await parts.receive()

    try:
        with trio.fail_after(PATIENCE_S):
            yield fetch
    except (trio.EndOfChannel, trio.TooSlowError):
        if not session.ended:
            log.warning("no_answer", node=str(session.node), address=session.address)
            session.scope.cancel()  # the lease ends in its time
    finally:
        session.parts = None
        for_us.close()
        parts.close()
