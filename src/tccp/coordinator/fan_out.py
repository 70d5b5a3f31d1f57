"""Who hears of a revocation: the node itself, at once, and what it did then as an event of the log.

    revoke --> lease ended in the record --> Revoked --> the node ends its connection --> ``told``: left

Nobody has to hear of it for it to count: the lease is over in the record before anybody is told, nothing is released
without it, and what others believe of the node ends with its certificate. `tccp-notifier` tells systems elsewhere.
"""

import structlog
import trio

from tccp.coordinator.services import Services, event_body
from tccp.coordinator.sessions import NodeSession
from tccp.errors import HostError
from tccp.model import NodeName
from tccp.protocol.messages import Revoked
from tccp.store import EventDraft, EventKind
from tccp.transport.errors import PeerGoneError

TELL_S = 2.0  # who has not left by then is cut off

log = structlog.get_logger()


async def tell_revoked(services: Services, node: NodeName, session: NodeSession | None, seq: int) -> None:
    """Tell a node that it is out, end its connection, and take down what it did.

    Args:
        session: Marked as `NodeSession.revoked`; None when it is not connected.
        seq: Of the event ``revoke``.
    """
    heard = "away" if session is None else await _tell(session)
    services.sessions.counters.told.add(heard)
    (log.warning if heard == "silent" else log.info)("told_of_revocation", node=str(node), heard=heard)
    event = EventDraft(services.clock.now_ms(), EventKind.TOLD, node, event_body(log_index=seq - 1, heard=heard))
    try:
        await services.store.append_event(event)
    except HostError as problem:
        log.error("told_not_stored", node=str(node), reason=problem.reason)


async def _tell(session: NodeSession) -> str:
    """``left``: it ended the connection after it was told. ``silent``: it did not. ``gone``: it could not be told."""
    try:
        with trio.fail_after(TELL_S):
            if not session.connection.send_nowait(Revoked(reason="revoked")):
                await session.connection.flush()
            await session.closed.wait()  # may be over already: whoever has heard it leaves at once
    except trio.TooSlowError:
        return "silent"
    except PeerGoneError:
        return "gone"
    else:
        return "left"
    finally:
        session.scope.cancel()
