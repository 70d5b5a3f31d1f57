"""What the log says of each start of the coordinator: which keys, which software, and a quote of its own TPM over both.

The quote is bound to the log as it was before: it was made after that, and before whatever follows.
"""

import hashlib

from tccp import __version__
from tccp.coordinator.services import Services, event_body
from tccp.protocol import binding
from tccp.protocol.encoding import encode
from tccp.store import EventDraft, EventKind


async def record_start(services: Services) -> int:
    """Enter the start, with our own evidence, and return its place once it is in the log.

    Raises:
        HostError: The TPM, the database or the log failed.
    """
    head, keys = services.log.head.checkpoint, services.identity.keys
    leaf = binding.coordinator_start(services.coordinator_id, head.size, head.root)
    evidence = encode(await services.evidence.evidence_for(leaf))
    body = event_body(
        coordinator_id=services.coordinator_id,
        software=__version__,
        statement_sha256=hashlib.sha256(services.identity.statement).digest(),
        log_key=keys.log_key,
        log_size=head.size,
        log_root=head.root,
        evidence=evidence,
        evidence_sha256=hashlib.sha256(evidence).digest(),
    )
    seq = await services.store.append_event(EventDraft(services.clock.now_ms(), EventKind.START, None, body))
    await services.log.included(seq)
    return seq
