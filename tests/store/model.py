"""What a store ought to hold of the perimeter, in a few dictionaries; `tests.store.vm_model` has the VMs."""

from dataclasses import dataclass, field, replace

from tccp.store import LeaseRecord, NodeRecord
from tests.store.support import TENANT, ek, node


@dataclass
class PerimeterModel:
    """Nodes, leases, policies and the tenant. Operations return None, or the reason of the refusal."""

    names: dict[str, bytes] = field(default_factory=dict)
    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    leases: dict[int, LeaseRecord] = field(default_factory=dict)
    version: int = 0
    events: list[tuple[str, str | None, int]] = field(default_factory=list)
    tenant: bool = False

    def open_lease(self, name: str) -> int | None:
        found = [key for key, record in self.leases.items() if record.node.value == name and record.ended_ms is None]
        assert len(found) <= 1
        return found[0] if found else None

    def end(self, key: int | None, reason: str, at_ms: int) -> None:
        if key is not None:
            self.leases[key] = replace(self.leases[key], ended_ms=at_ms, end_reason=reason)
            self.events.append(("end", self.leases[key].node.value, at_ms))
            if reason != "replaced":
                self.lose(key, at_ms)

    def enrol(self, name: str, ek_of: str) -> str | None:
        if self.names.get(name, ek(ek_of)) != ek(ek_of):
            return "name_bound"
        if name not in self.names and ek(ek_of) in self.names.values():
            return "ek_bound"
        if name in self.nodes:
            return "node_exists"
        self.names[name] = ek(ek_of)
        self.nodes[name] = node(name, ek_of)
        self.events.append(("enrol", name, 1_000))
        return None

    def remove(self, name: str, at_ms: int) -> str | None:
        if name not in self.nodes:
            return "node_unknown"
        self.events.append(("remove", name, at_ms))
        self.end(self.open_lease(name), "removed", at_ms)
        self.forget_moves(name)
        del self.nodes[name]
        return None

    def revoke(self, name: str, at_ms: int) -> str | None:
        if name not in self.nodes:
            return "node_unknown"
        if self.nodes[name].revoked_ms is not None:
            return "node_revoked"
        self.nodes[name] = replace(self.nodes[name], revoked_ms=at_ms, revoke_reason="why")
        self.events.append(("revoke", name, at_ms))
        self.end(self.open_lease(name), "revoked", at_ms)
        self.forget_moves(name)
        return None

    def reinstate(self, name: str, at_ms: int) -> str | None:
        if name not in self.nodes:
            return "node_unknown"
        if self.nodes[name].revoked_ms is None:
            return "node_not_revoked"
        self.nodes[name] = replace(self.nodes[name], revoked_ms=None, revoke_reason=None)
        self.events.append(("reinstate", name, at_ms))
        return None

    def add_policy(self, version: int) -> str | None:
        if version <= self.version:
            return "policy_not_newer"
        self.version = version
        self.events.append(("policy", None, 500 + version))
        return None

    def admit(self, record: LeaseRecord) -> str | None:
        name = record.node.value
        if name not in self.nodes:
            return "node_unknown"
        if self.nodes[name].revoked_ms is not None:
            return "node_revoked"
        if not self.version:
            return "policy_unknown"
        if record.policy_version != self.version:
            return "policy_changed"
        self.end(self.open_lease(name), "replaced", record.issued_ms)
        key = int.from_bytes(record.lease_id, "big")
        self.leases[key] = record
        self.follow(key, record.issued_ms)
        self.events.append(("admit", name, record.issued_ms))
        return None

    def renew(self, key: int, at_ms: int, version: int) -> str | None:
        record = self.leases.get(key)
        if record is None:
            return "lease_unknown"
        if record.ended_ms is not None:
            return "lease_ended"
        if record.expires_ms <= at_ms:
            return "lease_expired"
        if record.clock_ms > 100 + at_ms:
            return "clock_went_back"
        if version != self.version:
            return "policy_changed"
        self.leases[key] = replace(
            record, renewed_ms=at_ms, expires_ms=at_ms + 60_000, clock_ms=100 + at_ms, policy_version=version
        )
        return None

    def set_tenant(self, *, wanted: bool, at_ms: int) -> str | None:
        if wanted == self.tenant:
            return "tenant_exists" if wanted else "tenant_unknown"
        self.tenant = wanted
        self.events.append(("tenant", None, TENANT.added_ms if wanted else at_ms))
        return None

    def may(self, key: int, at_ms: int) -> str | None:
        if not self.tenant:
            return "tenant_unknown"
        record = self.leases.get(key)
        if record is None or record.ended_ms is not None:
            return "lease_unknown" if record is None else "lease_ended"
        if record.expires_ms <= at_ms:
            return "lease_expired"
        if record.policy_version != self.version:
            return "policy_changed"
        if record.renewed_ms + 30_000 < at_ms:
            return "evidence_old"
        return None

    def end_lease(self, key: int, at_ms: int) -> str | None:
        if key not in self.leases:
            return "lease_unknown"
        if self.leases[key].ended_ms is not None:
            return "lease_ended"
        self.end(key, "left", at_ms)
        return None

    # ---- what becomes of VMs

    def lose(self, key: int, at_ms: int) -> None:
        """A lease has ended for good."""
        raise NotImplementedError

    def follow(self, key: int, at_ms: int) -> None:
        """A node has a new lease."""
        raise NotImplementedError

    def forget_moves(self, name: str, *, but_of: bytes = b"") -> None:
        """A node is out."""
        raise NotImplementedError
