"""What is said on a coordinator's control socket of versions of policies in the shadow of the one in force."""

from tccp.protocol import fields as f
from tccp.protocol.encoding import Message


class AddShadow(Message, frozen=True, tag="add_shadow"):
    """Have a newer version of a policy judge beside the one in force, deciding nothing. Answered by `ShadowInfo`.

    It takes the place of one that is there.
    """

    body: f.PolicyText


class ListShadows(Message, frozen=True, tag="list_shadows"):
    """Answered by `Shadows`."""


class ReportShadow(Message, frozen=True, tag="report_shadow"):
    """Whom would it refuse, and why? Answered by `ShadowReport`."""

    name: f.Name


class PromoteShadow(Message, frozen=True, tag="promote_shadow"):
    """Put it in force, if it is the one with this hash. Answered by `ShadowInfo`, as it was last in the shadow."""

    name: f.Name
    sha256: f.Digest32


class DropShadow(Message, frozen=True, tag="drop_shadow"):
    """Have it judge no more. Answered by `ShadowInfo`, as it was last."""

    name: f.Name


class ShadowInfo(Message, frozen=True, tag="shadow_info"):
    """A version of a policy in the shadow of the one in force, and how often it says what since the start."""

    name: str
    version: f.Count
    sha256: f.Digest32
    since_ms: f.UnixMilliseconds
    in_force: f.Count  # the version that is
    accepted: f.Count
    refused: f.Count
    silent: f.Count  # nodes that did not show it a log
    reasons: dict[str, f.Count]  # of the refusals


class Shadows(Message, frozen=True, tag="shadows"):
    """In order of name."""

    shadows: tuple[ShadowInfo, ...]


class ShadowedNode(Message, frozen=True):
    """What a version in the shadow said of a node last.

    *verdict*: "accepted", "refused", "no_answer" (a log was asked for), "waiting" (for its next quote), "other_bank"
    (than that of the version in force, so that it sees nothing).
    """

    node: str
    verdict: str
    now: str  # the node's state, as `NodeInfo.state`
    reason: str = ""
    detail: str = ""
    warnings: tuple[str, ...] = ()
    at_ms: f.Count = 0


class ShadowReport(Message, frozen=True, tag="shadow_report"):
    """All nodes that the policy judges and that are not revoked, those that would be refused first."""

    shadow: ShadowInfo
    nodes: tuple[ShadowedNode, ...]
