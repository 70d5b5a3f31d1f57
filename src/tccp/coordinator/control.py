"""The coordinator's answers on its control socket."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import structlog

from tccp import __version__
from tccp.attestation.boot_policy import parse_any_policy
from tccp.control.server import Peer
from tccp.coordinator import perimeter, shadow_control, tenancy
from tccp.coordinator.policies import accepted_body
from tccp.coordinator.renewals import Renewals
from tccp.coordinator.services import Services, event_body
from tccp.coordinator.trials import Trial
from tccp.errors import PolicyError
from tccp.protocol import control as c
from tccp.protocol import shadow_control as s
from tccp.protocol import vm_control as v
from tccp.protocol.control_roles import ROLE_NEEDED, ControlRole
from tccp.store import EventRecord, NodeRecord, PolicyRecord
from tccp.transport.trust import CoordinatorTrust, write_trust

AnyAnswer = msgspec.Struct | AsyncIterator[c.Event]

log = structlog.get_logger()


class ControlAnswers:
    """What the coordinator answers; roles were checked before."""

    def __init__(self, services: Services, renewals: Renewals) -> None:
        self._services, self._renewals = services, renewals
        self._answers: dict[type, Callable[[Any], Awaitable[AnyAnswer]]] = {
            c.GetStatus: self._status,
            c.ListNodes: self._nodes,
            c.ShowNode: self._node,
            c.EnrolNode: lambda request: perimeter.enrol(services, request),
            c.ExportNodes: lambda _: perimeter.export_record(services),
            c.ImportNodes: self._import,
            c.SetNodePolicy: lambda request: perimeter.set_policy(services, renewals, request),
            c.SetNodeAttributes: lambda request: perimeter.set_attributes(services, request),
            c.RevokeNode: lambda request: perimeter.revoke(services, renewals, request),
            c.AddPolicy: self._add_policy,
            c.TryPolicy: self._try_policy,
            s.AddShadow: lambda request: shadow_control.add(services, renewals, request),
            s.ListShadows: self._shadows,
            s.ReportShadow: lambda request: shadow_control.report(services, request),
            s.PromoteShadow: lambda request: shadow_control.promote(services, renewals, request),
            s.DropShadow: lambda request: shadow_control.drop(services, request),
            c.ListPolicies: self._policies,
            c.ShowPolicy: self._policy,
            c.GetTrust: self._trust,
            c.WatchEvents: self._watch,
            v.AddTenant: lambda request: tenancy.add(services, request),
            v.RemoveTenant: lambda request: tenancy.remove(services, request),
            v.ListTenants: lambda _: tenancy.list_all(services),
            v.ListOwnedVms: lambda _: tenancy.list_vms(services),
        }

    async def __call__(self, request: Any, peer: Peer) -> AnyAnswer:
        """The answer to *request*; raises `TccpError` when it is no."""
        looks = ROLE_NEEDED[type(request)] < ControlRole.ADMIN
        (log.debug if looks else log.info)("control", user=peer.user, request=type(request).__name__)
        return await self._answers[type(request)](request)

    async def _nodes(self, _: c.ListNodes) -> c.Nodes:
        return c.Nodes(nodes=await perimeter.list_all(self._services))

    async def _node(self, request: c.ShowNode) -> c.NodeInfo:
        return await perimeter.show(self._services, perimeter.node_name(request.name))

    async def _shadows(self, _: s.ListShadows) -> s.Shadows:
        return s.Shadows(shadows=shadow_control.list_all(self._services))

    async def _import(self, request: c.ImportNodes) -> c.Done:
        return c.Done(count=await perimeter.import_record(self._services, request))

    async def _watch(self, request: c.WatchEvents) -> AsyncIterator[c.Event]:
        return self._events(request.since, follow=request.follow)

    async def _status(self, _: c.GetStatus) -> c.CoordinatorStatus:
        services = self._services
        counts, counters = await services.store.counts(), services.sessions.counters
        return c.CoordinatorStatus(
            coordinator_id=services.coordinator_id,
            software=__version__,
            started_ms=services.started_ms,
            listening=services.listening,
            ek_authorities=len(services.authorities),
            nodes_enrolled=counts.nodes,
            nodes_revoked=counts.revoked_nodes,
            nodes_connected=len(services.sessions),
            leases_open=counts.open_leases,
            policies=counts.policies,
            log_size=counts.last_seq,
            registrations=counters.registrations,
            renewals=counters.renewals,
            refusals=len(counters.refusals),
            lease_s=services.config.leases.seconds,
            tpm=services.tpm_name,
            tenants_listening=services.tenants_listening,
            witnesses=tuple(c.WitnessSeen(name, *seen) for name, seen in services.cosignatures.seen().items()),
            key_releases=counters.releases,
            key_refusals=len(counters.key_refusals),
            refusal_reasons=dict(counters.refusals.by_name),
            shadows=shadow_control.list_all(services),
        )

    async def _add_policy(self, request: c.AddPolicy) -> c.PolicyInfo:
        services = self._services
        policy = parse_any_policy(accepted_body(request.body, services.operators))
        await services.examiner.ima.prepare(policy)
        record = PolicyRecord(policy.name, policy.version, policy.body, policy.sha256, services.clock.now_ms())
        body = event_body(policy=policy.name, version=policy.version, sha256=policy.sha256)
        async with services.policies_change:
            seq = await services.store.add_policy(record, body)
            services.policies.put_in_force(policy)
            if (shadow := services.shadows.get(policy.name)) is not None and shadow.policy.version <= policy.version:
                services.shadows.drop(policy.name)  # as the transaction did
        self._renewals.ask_now(services.sessions.judged_by(policy.name))
        await services.log.included(seq)
        judged = (await services.store.nodes_by_policy()).get(policy.name, 0)
        return self._policy_info(record, nodes=judged, in_force=True, with_body=False)

    async def _try_policy(self, request: c.TryPolicy) -> c.PolicyTrial:
        services = self._services
        policy = parse_any_policy(accepted_body(request.body, services.operators))
        await services.examiner.ima.prepare(policy)
        sessions = services.sessions.judged_by(policy.name)
        trial = Trial(policy, [session.node for session in sessions])
        self._renewals.try_on(sessions, trial)
        tried = await trial.verdicts()
        asked = {verdict.node for verdict in tried}
        others = [str(node.name) for node in await perimeter.all_nodes(services) if _is_judged_by(node, policy.name)]
        absent = [c.TriedNode(name, "not_connected") for name in others if name not in asked]
        nodes = tuple(sorted([*tried, *absent], key=lambda verdict: verdict.node))
        return c.PolicyTrial(name=policy.name, version=policy.version, sha256=policy.sha256, nodes=nodes)

    async def _policies(self, _: c.ListPolicies) -> c.Policies:
        nodes = await self._services.store.nodes_by_policy()
        infos = []
        for newest in await self._services.store.policies():
            judged = nodes.get(newest.name, 0)
            for record in await self._services.store.policy_versions(newest.name):
                in_force = record.version == newest.version
                infos.append(
                    self._policy_info(record, nodes=judged if in_force else 0, in_force=in_force, with_body=False)
                )
        return c.Policies(policies=tuple(infos))

    async def _policy(self, request: c.ShowPolicy) -> c.PolicyInfo:
        name, version = request.name, request.version
        record = await self._services.store.policy(name, version or None)
        newest = await self._services.store.policy(name)
        if record is None or newest is None:
            raise PolicyError("no_policy", f"there is no policy {name!r}" + (f" version {version}" if version else ""))
        nodes = (await self._services.store.nodes_by_policy()).get(name, 0)
        in_force = record.version == newest.version
        return self._policy_info(record, nodes=nodes if in_force else 0, in_force=in_force, with_body=True)

    @staticmethod
    def _policy_info(record: PolicyRecord, *, nodes: int, in_force: bool, with_body: bool) -> c.PolicyInfo:
        return c.PolicyInfo(
            name=record.name,
            version=record.version,
            sha256=record.sha256,
            added_ms=record.added_ms,
            in_force=in_force,
            nodes=nodes,
            body=record.body if with_body else b"",
        )

    async def _trust(self, _: c.GetTrust) -> c.TrustFile:
        services = self._services
        keys = services.identity.keys
        trust = CoordinatorTrust(
            identity_key=keys.identity_key,
            ca_certificate=keys.ca.certificate_pem,
            ak_spki=services.ak_spki,
            door=keys.door,
            pcrs=services.pcrs_at_start,
        )
        return c.TrustFile(body=write_trust(trust))

    async def _events(self, since: int, *, follow: bool) -> AsyncIterator[c.Event]:
        if follow:
            async for record in self._services.store.watch(since):
                yield _event(record)
            return
        while page := await self._services.store.events(since):
            for record in page:
                yield _event(record)
            since = page[-1].seq


def _is_judged_by(node: NodeRecord, policy: str) -> bool:
    return node.policy == policy and node.revoked_ms is None


def _event(record: EventRecord) -> c.Event:
    found = msgspec.msgpack.decode(record.body) if record.body else {}
    fields = {key: value.hex() if isinstance(value, bytes) else value for key, value in found.items()}
    return c.Event(seq=record.seq, at_ms=record.at_ms, kind=record.kind, node=str(record.node or ""), fields=fields)
