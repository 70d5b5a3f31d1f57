"""What a store ought to hold of VMs: who owns each, and where it is going."""

from dataclasses import dataclass, field, replace

from tccp.store.ownership import STOP_GRACE_MS
from tests.store.model import PerimeterModel

MOVED = 100  # what is added to a move's nonce where it stands for that of the last release


@dataclass
class ModelVm:
    """Who owns a VM."""

    state: str
    lease: int
    node: str
    boot: bytes
    epoch: int
    ticket: int
    nonce: int
    free_ms: int = 0
    generation: int = 0
    saved: int = 0


@dataclass
class ModelMove:
    """Where a VM is going."""

    epoch: int  # of its owner
    nonce: int
    node: str
    boot: bytes
    arrived: bool = False


@dataclass
class Model(PerimeterModel):
    """The perimeter and its VMs."""

    vms: dict[int, ModelVm] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    moves: dict[int, ModelMove] = field(default_factory=dict)

    def release(self, key: int, ticket: int, vm: int, nonce: int, at_ms: int) -> str | None:
        owned = self.vms.get(vm)
        if owned and self.was_given(owned, key, ticket, nonce, at_ms):
            return None
        if refusal := self.may(key, at_ms):
            return refusal
        record = self.leases[key]
        if ticket in self.used:
            return "ticket_used"
        if owned and owned.state in {"running", "destroyed", "suspended"}:
            return f"vm_{owned.state}"
        if owned and at_ms < owned.free_ms:
            return "vm_not_free"
        epoch = owned.epoch + 1 if owned else 1
        self.vms[vm] = ModelVm("running", key, record.node.value, record.boot_id, epoch, ticket, nonce)
        self.used.add(ticket)
        self.events.append(("release", record.node.value, at_ms))
        return None

    def was_given(self, owned: ModelVm, key: int, ticket: int, nonce: int, at_ms: int) -> bool:
        lease = self.leases.get(key)
        if lease is None or lease.ended_ms is not None or not lease.expires_ms > at_ms <= lease.renewed_ms + 30_000:
            return False
        known = (owned.ticket, owned.nonce % MOVED, owned.node, owned.boot, owned.state, owned.saved)
        return known == (ticket, nonce, lease.node.value, lease.boot_id, "running", 0)

    def end_vm(self, key: int, vm: int, epoch: int, at_ms: int) -> str | None:
        if refusal := self.of_boot(key, vm, epoch):
            return refusal
        owned = self.vms[vm]
        if owned.state in {"running", "lost"}:
            owned.state, owned.free_ms = "ended", at_ms
            self.events.append(("stop", owned.node, at_ms))
        return None

    def of_node(self, key: int, vm: int, epoch: int) -> str | None:
        owned = self.vms.get(vm)
        if owned is None:
            return "vm_unknown"
        if key not in self.leases or self.leases[key].node.value != owned.node:
            return "vm_of_another_node"
        return "vm_epoch_over" if epoch != owned.epoch else None

    def of_boot(self, key: int, vm: int, epoch: int) -> str | None:
        if refusal := self.of_node(key, vm, epoch):
            return refusal
        return "vm_of_another_node" if self.leases[key].boot_id != self.vms[vm].boot else None

    def suspend(self, key: int, vm: int, epoch: int, state: int, at_ms: int) -> str | None:
        if refusal := self.of_boot(key, vm, epoch):
            return refusal
        owned = self.vms[vm]
        if owned.state == "suspended" and owned.saved == state:
            return None
        if owned.state not in {"running", "lost"}:
            return "vm_not_running"
        owned.state, owned.free_ms, owned.generation, owned.saved = "suspended", at_ms, epoch, state
        self.events.append(("suspend", owned.node, at_ms))
        return None

    def destroy(self, key: int, vm: int, epoch: int, at_ms: int) -> str | None:
        if refusal := self.of_node(key, vm, epoch):
            return refusal
        if self.vms[vm].state == "running" and self.leases[key].boot_id != self.vms[vm].boot:
            return "vm_of_another_node"
        if self.vms[vm].state != "destroyed":
            self.vms[vm].state = "destroyed"
            self.events.append(("destroy", self.vms[vm].node, at_ms))
        return None

    def resume(self, key: int, ticket: int, vm: int, state: int, at_ms: int) -> str | None:
        """Each time with a nonce of its own: nobody asks again."""
        if refusal := self.may(key, at_ms):
            return refusal
        owned = self.vms.get(vm)
        if owned is None:
            return "vm_unknown"
        if owned.ticket != ticket:
            return "another_ticket"
        if owned.saved not in {0, state}:
            return "state_old"
        if owned.state != "suspended":
            return "vm_not_suspended"
        node, boot = self.leases[key].node.value, self.leases[key].boot_id
        resumed = replace(owned, state="running", lease=key, node=node, boot=boot, nonce=0, free_ms=0)
        self.vms[vm] = replace(resumed, epoch=owned.epoch + 1)
        self.events.append(("resume", node, at_ms))
        return None

    # ---- moves

    def lease_of(self, node: str, boot: bytes, at_ms: int) -> int | None:
        key = self.open_lease(node)
        if key is None or self.leases[key].boot_id != boot or self.leases[key].expires_ms <= at_ms:
            return None
        return key

    def move_of(self, vm: int, at_ms: int) -> ModelMove | None:
        owned, move = self.vms.get(vm), self.moves.get(vm)
        if owned is None or move is None or move.epoch != owned.epoch:
            return None
        can_speak = owned.state == "running" or (owned.state == "lost" and owned.free_ms > at_ms)
        return move if can_speak else None

    def prepare(self, key: int, ticket: int, vm: int, nonce: int, at_ms: int) -> str | None:
        if refusal := self.may(key, at_ms):
            return refusal
        asker, owned = self.leases[key], self.vms.get(vm)
        if owned is None:
            return "vm_unknown"
        reasons = {
            "another_ticket": owned.ticket != ticket,
            "vm_not_running": owned.state != "running",
            "vm_running": owned.node == asker.node.value,
            "source_silent": self.lease_of(owned.node, owned.boot, at_ms) is None,
        }
        if found := [reason for reason, holds in reasons.items() if holds]:
            return found[0]
        wanted = ModelMove(owned.epoch, nonce, asker.node.value, asker.boot_id)
        if (under_way := self.move_of(vm, at_ms)) is not None:
            return None if replace(under_way, arrived=False) == wanted else "vm_moving"
        self.moves[vm] = wanted
        self.events.append(("move", asker.node.value, at_ms))
        return None

    def arrive(self, key: int, vm: int, epoch: int, nonce: int) -> str | None:
        move, lease = self.move_of(vm, 0), self.leases.get(key)
        said = (epoch, nonce, lease and lease.node.value, lease and lease.boot_id)
        if move is None or said != (move.epoch + 1, move.nonce, move.node, move.boot):
            return "move_over"
        move.arrived = True
        return None

    def commit(self, key: int, vm: int, epoch: int, nonce: int, at_ms: int) -> str | None:
        if vm in self.vms and (self.vms[vm].epoch, self.vms[vm].nonce) == (epoch + 1, MOVED + nonce):
            return None  # said again
        if refusal := self.of_this_move(key, vm, epoch, nonce, at_ms):
            return refusal
        move, owned = self.moves.pop(vm), self.vms[vm]
        there = self.lease_of(move.node, move.boot, at_ms)
        if there is None or not move.arrived:
            owned.state, owned.free_ms = "ended", at_ms
            self.events.append(("stop", owned.node, at_ms))
            return None
        self.vms[vm] = ModelVm("running", there, move.node, move.boot, epoch + 1, owned.ticket, MOVED + nonce)
        self.vms[vm].generation, self.vms[vm].saved = owned.generation, owned.saved
        self.events.append(("moved", move.node, at_ms))
        return None

    def abort(self, key: int, vm: int, epoch: int, nonce: int, at_ms: int) -> str | None:
        if refusal := self.of_this_move(key, vm, epoch, nonce, at_ms):
            return refusal
        del self.moves[vm]
        self.events.append(("stayed", self.vms[vm].node, at_ms))
        return None

    def of_this_move(self, key: int, vm: int, epoch: int, nonce: int, at_ms: int) -> str | None:
        if refusal := self.of_boot(key, vm, epoch):
            return refusal
        move = self.move_of(vm, at_ms)
        return "move_unknown" if move is None or move.nonce != nonce else None

    # ---- with leases

    def lose(self, key: int, at_ms: int) -> None:
        for vm in self.vms.values():
            if vm.state == "running" and vm.lease == key:
                self._lose(vm, at_ms)

    def follow(self, key: int, at_ms: int) -> None:
        name, boot = self.leases[key].node.value, self.leases[key].boot_id
        for vm in self.vms.values():
            if vm.state == "running" and vm.node == name and vm.boot == boot:
                vm.lease = key
            elif vm.state == "running" and vm.node == name:
                self._lose(vm, at_ms)
        self.forget_moves(name, but_of=boot)

    def forget_moves(self, name: str, *, but_of: bytes = b"") -> None:
        for number, vm in self.vms.items():
            if vm.node == name and vm.boot != but_of:
                self.moves.pop(number, None)

    def _lose(self, vm: ModelVm, at_ms: int) -> None:
        vm.state, vm.free_ms = "lost", max(at_ms, self.leases[vm.lease].expires_ms + STOP_GRACE_MS)
