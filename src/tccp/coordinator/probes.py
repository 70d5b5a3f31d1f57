"""Fresh evidence of one node for a tenant who has not given anything away yet, with a receipt of the log.

    probe --> signed by a tenant whom we know --> the node quotes, and it holds --> event ``probe`` --> receipt

The answer is our verdict, not the node's quote: what its machine is made of is between it and us.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator

import structlog
import trio

from tccp.attestation.attributes import NodeAttributes
from tccp.coordinator.attributes import attested
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.services import Services, event_body
from tccp.coordinator.sessions import NodeSession
from tccp.errors import HostError, LaunchError, PolicyError
from tccp.model import NodeName, spki_sha256
from tccp.protocol.probe import verify_probe_signature
from tccp.protocol.tenant_messages import Probe, Probed
from tccp.store import EventDraft, EventKind, attribute_fields

PROBES_MAX = 32  # at once; each makes a TPM work
PROBES_OF_ONE_MAX = 8  # of one tenant
ASKED_AGAIN_MAX = 3  # an answer to an older challenge may be under way

log = structlog.get_logger()


class Probes:
    """Answers to tenants' questions about nodes."""

    def __init__(self, services: Services, renewals: Renewals) -> None:
        self._services, self._renewals = services, renewals
        self._at_once = Counter[bytes]()  # by tenant

    async def answer(self, probe: Probe) -> Probed:
        """Have the node quote, and say in the log that it held.

        Raises:
            LaunchError: ``probe_signature``; ``tenant_unknown``; ``node_not_admitted``: it is unknown, revoked, not
                connected or holds no lease, which of them is not the tenant's business.
            PolicyError: ``no_fresh_evidence``: it does not quote in time, or its quote does not hold.
            HostError: ``overloaded``; the store or the log failed.
        """
        services = self._services
        own = spki_sha256(services.identity.tls_spki)
        verify_probe_signature(probe, coordinator_id=services.coordinator_id, coordinator_spki=own)
        if not any(tenant.key == probe.tenant_key for tenant in await services.store.tenants()):
            raise LaunchError("tenant_unknown", probe.tenant_key.hex())
        with self._place(probe.tenant_key):
            session = self._session(probe.node)
            await self._quote_since(session, trio.current_time())
            seq = await self._take_down(session, probe)
        return Probed(receipt=await services.log.receipt(seq))

    @contextlib.contextmanager
    def _place(self, tenant_key: bytes) -> Iterator[None]:
        if self._at_once.total() >= PROBES_MAX or self._at_once[tenant_key] >= PROBES_OF_ONE_MAX:
            raise HostError("overloaded", f"{self._at_once.total()} probes, {self._at_once[tenant_key]} of this tenant")
        self._at_once[tenant_key] += 1
        try:
            yield
        finally:
            self._at_once[tenant_key] -= 1
            if not self._at_once[tenant_key]:
                del self._at_once[tenant_key]

    def _session(self, name: str) -> NodeSession:
        try:
            session = self._services.sessions.get(NodeName(name))
        except ValueError:
            session = None
        if session is None or session.ended:
            raise LaunchError("node_not_admitted", f"{name!r} holds no lease with a connection")
        return session

    async def _quote_since(self, session: NodeSession, asked: float) -> None:
        """Return once the node has answered a challenge that is no older than the question."""
        for _ in range(ASKED_AGAIN_MAX):
            await self._renewals.fresh_evidence(session)
            if session.lease.asked_at >= asked:
                return
        raise PolicyError("no_fresh_evidence", f"{session.node} has not quoted again")

    async def _take_down(self, session: NodeSession, probe: Probe) -> int:
        """The event; only if the lease is open still when it is in the record, the tenant hears of it."""
        services, lease = self._services, session.lease
        now_ms = services.clock.now_ms()
        body = event_body(
            tenant_key=probe.tenant_key,
            nonce=probe.nonce,
            policy=session.judged_by,
            policy_version=session.policy_version,
            evidence_ms=now_ms - int(1000 * (trio.current_time() - lease.asked_at)),
            boot_id=lease.record.boot_id,
            identity_sha256=hashlib.sha256(lease.record.identity).digest(),
            **await self._attributes(session),
        )
        seq = await services.store.append_event(EventDraft(now_ms, EventKind.PROBE, session.node, body))
        held = await services.store.open_lease(session.node)
        if held is None or held.lease_id != lease.record.lease_id or held.expires_ms <= services.clock.now_ms():
            raise LaunchError("node_not_admitted", f"{session.node} lost its lease meanwhile")
        log.info("probed", node=str(session.node), tenant=probe.tenant_key.hex()[:16])
        return seq

    async def _attributes(self, session: NodeSession) -> dict[str, str]:
        """What is known of the node, by evidence and by whoever enrolled it."""
        record = await self._services.store.node_by_name(session.node)
        said = attested(self._services, session)
        return attribute_fields(NodeAttributes(said.attributes if said else {}, record.attributes if record else {}))
