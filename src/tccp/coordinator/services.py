"""Everything that a session or a control request of the coordinator works with, in one place."""

import ssl
from dataclasses import dataclass, field

import msgspec
import trio
from nacl.signing import VerifyKey

from tccp.attestation.enrolment import EkAuthorities
from tccp.config import CoordinatorConfig
from tccp.coordinator.activations import Activations
from tccp.coordinator.clock import SteadyClock
from tccp.coordinator.cosignatures import Cosignatures
from tccp.coordinator.evidence import OwnEvidence
from tccp.coordinator.examination import Examiner
from tccp.coordinator.identity import CoordinatorIdentity
from tccp.coordinator.measured_before import MeasuredBefore
from tccp.coordinator.policies import PolicyBook
from tccp.coordinator.published_log import PublishedLog
from tccp.coordinator.sessions import Sessions
from tccp.coordinator.shadows import Shadows
from tccp.coordinator.verifier import QuoteVerifier
from tccp.coordinator.workers.pool import WorkerPool
from tccp.model import PcrValues
from tccp.store import Store


@dataclass(slots=True)
class Services:
    """One running coordinator. The configuration, authorities and operators are replaced by a reload."""

    config: CoordinatorConfig
    identity: CoordinatorIdentity
    authorities: EkAuthorities
    store: Store
    log: PublishedLog
    clock: SteadyClock
    evidence: OwnEvidence
    policies: PolicyBook
    shadows: Shadows
    operators: tuple[VerifyKey, ...]
    examiner: Examiner
    measured_before: MeasuredBefore
    ak_spki: bytes
    tpm_name: str
    pcrs_at_start: PcrValues
    activations: Activations
    cosignatures: Cosignatures
    log_context: ssl.SSLContext
    started_ms: int
    listening: str = ""
    tenants_listening: str = ""
    log_listening: str = ""
    metrics_listening: str = ""  # empty: nowhere
    verifier: QuoteVerifier = field(default_factory=QuoteVerifier)
    sessions: Sessions = field(default_factory=Sessions)
    workers: WorkerPool | None = None  # where there are some
    # Held while a version of a policy changes its place: what is in memory follows the record in its order.
    policies_change: trio.Lock = field(default_factory=trio.Lock)

    @property
    def coordinator_id(self) -> bytes:
        """The coordinator's id, 32 bytes."""
        return self.identity.keys.coordinator_id


def event_body(**fields: str | int | bytes) -> bytes:
    """The body of a log entry."""
    return msgspec.msgpack.encode(fields)
