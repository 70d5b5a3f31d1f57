"""Versions of policies in the shadow of the one in force, as operators see and command them."""

from tccp.attestation.boot_policy import AnyPolicy, parse_any_policy
from tccp.coordinator import perimeter
from tccp.coordinator.examination import KnownBoot
from tccp.coordinator.policies import accepted_body
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.services import Services
from tccp.coordinator.shadows import Shadow
from tccp.errors import ConfigError, PolicyError
from tccp.model import NodeName
from tccp.protocol import shadow_control as s
from tccp.store import ConflictError, PolicyRecord

WORST_FIRST = ("refused", "no_answer", "other_bank", "waiting", "accepted")


async def add(services: Services, renewals: Renewals, request: s.AddShadow) -> s.ShadowInfo:
    """Have a version judge beside the one in force, beginning with all nodes that are connected.

    Raises:
        ConfigError: ``bad_policy``; ``no_ima_policy``; ``other_bank``: one quote cannot show both what they want.
        PolicyError: ``no_policy``; ``unsigned_policy`` and the like.
        ConflictError: ``policy_not_newer``.
    """
    policy = parse_any_policy(accepted_body(request.body, services.operators))
    in_force = services.policies.get(policy.name)
    if policy.selection.bank is not in_force.selection.bank:
        hint = "`tccp coordinator policy try` judges once, by a quote of its own"
        detail = f"{policy} judges {policy.selection.bank.hash_name}, {in_force} {in_force.selection.bank.hash_name}"
        raise ConfigError("other_bank", detail, hint=hint)
    await services.examiner.ima.prepare(policy)
    now_ms = services.clock.now_ms()
    record = PolicyRecord(policy.name, policy.version, policy.body, policy.sha256, now_ms)
    async with services.policies_change:
        seq = await services.store.set_shadow(record)
        shadow = services.shadows.put(policy, now_ms)
    renewals.ask_now(services.sessions.judged_by(policy.name))
    await services.log.included(seq)
    return info(services, shadow)


def list_all(services: Services) -> tuple[s.ShadowInfo, ...]:
    """All of them, in order of name."""
    return tuple(info(services, shadow) for shadow in sorted(services.shadows, key=lambda shadow: shadow.policy.name))


async def report(services: Services, request: s.ReportShadow) -> s.ShadowReport:
    """What a version in the shadow says of each node that its policy judges.

    Raises:
        ConflictError: ``no_shadow``.
    """
    shadow = _get(services, request.name)
    nodes = [
        _shadowed(services, shadow, node.name, node.state)
        for node in await perimeter.list_all(services)
        if node.policy == request.name and node.state != "revoked"
    ]
    nodes.sort(key=lambda node: (WORST_FIRST.index(node.verdict), node.node))
    return s.ShadowReport(shadow=info(services, shadow), nodes=tuple(nodes))


async def promote(services: Services, renewals: Renewals, request: s.PromoteShadow) -> s.ShadowInfo:
    """Put it in force. What it has judged of a boot counts, so that no node has to show its logs again.

    Raises:
        ConflictError: ``no_shadow``; ``shadow_changed``: another has taken its place; ``policy_not_newer``.
    """
    async with services.policies_change:
        shadow = _get(services, request.name)
        before = info(services, shadow)
        seq = await services.store.promote_shadow(request.name, request.sha256, services.clock.now_ms())
        _put_in_force(services, shadow.policy)
    renewals.ask_now(services.sessions.judged_by(request.name))
    await services.log.included(seq)
    return before


async def drop(services: Services, request: s.DropShadow) -> s.ShadowInfo:
    """Have it judge no more.

    Raises:
        ConflictError: ``no_shadow``.
    """
    async with services.policies_change:
        before = info(services, _get(services, request.name))
        seq = await services.store.drop_shadow(request.name, services.clock.now_ms())
        services.shadows.drop(request.name)
    await services.log.included(seq)
    return before


def info(services: Services, shadow: Shadow) -> s.ShadowInfo:
    """What there is to know of *shadow*."""
    policy = shadow.policy
    return s.ShadowInfo(
        name=policy.name,
        version=policy.version,
        sha256=policy.sha256,
        since_ms=shadow.since_ms,
        in_force=_version_in_force(services, policy.name),
        accepted=shadow.counts["accepted"],
        refused=shadow.counts["refused"],
        silent=shadow.counts["no_answer"],
        reasons=dict(+shadow.reasons),
    )


def _put_in_force(services: Services, policy: AnyPolicy) -> None:
    services.shadows.drop(policy.name)
    services.policies.put_in_force(policy)
    for session in services.sessions.judged_by(policy.name):
        lease, known = session.lease, session.lease.boot_in_shadow
        lease.boot = KnownBoot(known.judged or lease.boot.judged, known.accepted or lease.boot.accepted)
        lease.boot_in_shadow = KnownBoot()


def _get(services: Services, name: str) -> Shadow:
    shadow = services.shadows.get(name)
    if shadow is None:
        raise ConflictError("no_shadow", f"{name}: no version is in its shadow")
    return shadow


def _version_in_force(services: Services, name: str) -> int:
    try:
        return services.policies.get(name).version
    except PolicyError:
        return 0


def _shadowed(services: Services, shadow: Shadow, node: str, state: str) -> s.ShadowedNode:
    said = shadow.verdicts.get(NodeName(node))
    if said is None:
        in_force = services.policies.get(shadow.policy.name)
        same = in_force.selection.bank is shadow.policy.selection.bank
        return s.ShadowedNode(node, "waiting" if same else "other_bank", state)
    return s.ShadowedNode(node, said.verdict, state, said.reason, said.detail, said.warnings, said.at_ms)
