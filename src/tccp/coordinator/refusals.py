"""What is done when a node is refused: entered in the log, and told to the node as far as it may know."""

import structlog
import trio

from tccp.coordinator.services import Services, event_body
from tccp.coordinator.sessions import Refusal
from tccp.errors import EvidenceError, HostError
from tccp.model import NodeName
from tccp.protocol.messages import Refused
from tccp.store import ConflictError, EventDraft, EventKind
from tccp.transport.connection import Connection

SEND_S = 5.0
# A node that keeps trying is entered once for each reason, and again when this has passed: anybody can fail in the
# name of a node.
REPEAT_MS = 600_000
DETAIL_CHARS_MAX = 1024

log = structlog.get_logger()


async def refuse(
    services: Services,
    connection: Connection,
    address: str,
    node: NodeName | None,
    problem: EvidenceError | ConflictError,
) -> None:
    """Record the refusal of *node* (None: a stranger, who is not entered in the log), then tell it.

    Raises:
        HostError: The log cannot be written, or the node is gone; it holds no lease all the same.
    """
    services.sessions.counters.refusals.add(problem.reason)
    log.warning("refused", node=str(node or ""), address=address, reason=problem.reason, detail=problem.detail)
    try:
        if node is not None:
            await _record(services, node, problem)
    finally:
        with trio.move_on_after(SEND_S):
            await connection.send(Refused(reason=problem.reason))


async def _record(services: Services, node: NodeName, problem: EvidenceError | ConflictError) -> None:
    now_ms = services.clock.now_ms()
    before = services.sessions.refusals.get(node)
    logged_ms = dict(before.logged_ms) if before else {}
    repeated = now_ms - logged_ms.get(problem.reason, -REPEAT_MS) < REPEAT_MS
    if not repeated:
        logged_ms[problem.reason] = now_ms
    detail = problem.detail[:DETAIL_CHARS_MAX]
    services.sessions.refusals[node] = Refusal(now_ms, problem.reason, detail, logged_ms)
    if repeated:
        return
    draft = EventDraft(now_ms, EventKind.REFUSE, node, event_body(reason=problem.reason, detail=detail))
    try:
        seq = await services.store.append_event(draft)
    except HostError:
        del logged_ms[problem.reason]  # the next one is entered
        raise
    await services.log.included(seq)
