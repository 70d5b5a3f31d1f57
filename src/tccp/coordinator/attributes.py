"""What evidence says of a node that is connected: of its policy and of its TPM, as they judged and answered last."""

from dataclasses import dataclass

from tccp.coordinator.services import Services
from tccp.coordinator.sessions import NodeSession
from tccp.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Attested:
    """What follows from the evidence of a node, as long as this version of this policy judges it."""

    attributes: dict[str, str]
    policy: str
    version: int


def attested(services: Services, session: NodeSession) -> Attested | None:
    """What evidence says of *session*'s node; None while another policy or version judges it than did last."""
    try:
        policy = services.policies.get(session.policy)
    except PolicyError:
        return None
    if (policy.name, policy.version) != (session.judged_by, session.policy_version):
        return None
    lease = session.lease
    return Attested({**policy.attributes.of(lease.ek_id), **lease.tpm}, policy.name, policy.version)
