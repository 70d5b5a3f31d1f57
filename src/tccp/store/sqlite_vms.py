"""Tenants and their VMs in the store on SQLite: `VmStore`."""

from tccp.model import NodeName
from tccp.store import ending, holding, launching, marking, moving, resuming
from tccp.store.interface import PAGE_MAX
from tccp.store.launches import (
    KeyClaim,
    MoveArrival,
    MoveRecord,
    MoveWord,
    TenantRecord,
    VmDestruction,
    VmEnd,
    VmMarks,
    VmRecord,
    VmSuspension,
)
from tccp.store.records import check_text, check_time
from tccp.store.sqlite_access import SqliteAccess
from tccp.store.vm_interface import PAGE, VmStore


class SqliteVms(SqliteAccess, VmStore):
    """What becomes of VMs: each method is a transaction of its namesake's module, or a look at the record."""

    async def add_tenant(self, record: TenantRecord) -> int:
        return await self.writer.run(launching.add_tenant, record)

    async def remove_tenant(self, name: str, at_ms: int) -> int:
        check_time("at_ms", at_ms)
        return await self.writer.run(launching.remove_tenant, name, at_ms)

    async def tenants(self) -> list[TenantRecord]:
        return await self.read_page(launching.tenants)

    async def release(self, claim: KeyClaim) -> VmRecord:
        return await self.writer.run(launching.release, claim)

    async def hold_vms(self, known_ms: int, at_ms: int) -> None:
        await self.writer.run(holding.hold_vms, known_ms, at_ms)

    async def end_vm(self, end: VmEnd) -> int:
        return await self.writer.run(ending.end_vm, end)

    async def register_marks(self, marks: VmMarks) -> None:
        await self.writer.run(marking.register_marks, marks)

    async def resume(self, claim: KeyClaim) -> VmRecord:
        return await self.writer.run(resuming.resume, claim)

    async def suspend_vm(self, suspension: VmSuspension) -> int:
        return await self.writer.run(ending.suspend_vm, suspension)

    async def destroy_vm(self, destruction: VmDestruction) -> int:
        return await self.writer.run(ending.destroy_vm, destruction)

    async def prepare_move(self, claim: KeyClaim, address: str) -> MoveRecord:
        check_text("address", address)
        return await self.writer.run(moving.prepare_move, claim, address)

    async def arrive(self, arrival: MoveArrival) -> None:
        await self.writer.run(moving.arrive, arrival)

    async def commit_move(self, word: MoveWord) -> VmRecord:
        return await self.writer.run(moving.commit_move, word)

    async def abort_move(self, word: MoveWord) -> int:
        return await self.writer.run(moving.abort_move, word)

    async def move(self, vm_id: bytes, at_ms: int) -> MoveRecord | None:
        return await self.look_up(moving.move, vm_id, at_ms)

    async def moves_from(self, name: NodeName, at_ms: int) -> list[MoveRecord]:
        return await self.look_up(moving.moves_from, name, at_ms)

    async def vm(self, vm_id: bytes) -> VmRecord | None:
        return await self.look_up(launching.vm, vm_id)

    async def vms(self, after: bytes = b"", limit: int = PAGE) -> list[VmRecord]:
        return await self.read_page(launching.vms, after, min(limit, PAGE_MAX))
