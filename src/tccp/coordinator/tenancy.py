"""Tenants and their VMs as operators see them."""

from tccp.coordinator.services import Services
from tccp.protocol.vm_control import (
    AddTenant,
    OwnedVm,
    OwnedVms,
    RemoveTenant,
    TenantInfo,
    Tenants,
)
from tccp.store import ConflictError, TenantRecord


async def add(services: Services, request: AddTenant) -> TenantInfo:
    """Let the tickets of a tenant count, once the log says so.

    Raises:
        ConflictError: ``tenant_exists``.
    """
    record = TenantRecord(request.name, request.key, services.clock.now_ms())
    await services.log.included(await services.store.add_tenant(record))
    return _info(record)


async def remove(services: Services, request: RemoveTenant) -> TenantInfo:
    """Let them count no more.

    Raises:
        ConflictError: ``tenant_unknown``.
    """
    found = [record for record in await services.store.tenants() if record.name == request.name]
    if not found:
        raise ConflictError("tenant_unknown", request.name)
    await services.log.included(await services.store.remove_tenant(request.name, services.clock.now_ms()))
    return _info(found[0])


async def list_all(services: Services) -> Tenants:
    """All tenants."""
    return Tenants(tenants=tuple(_info(record) for record in await services.store.tenants()))


async def list_vms(services: Services) -> OwnedVms:
    """All VMs in the record."""
    names = {record.key: record.name for record in await services.store.tenants()}
    found: list[OwnedVm] = []
    while page := await services.store.vms(after=found[-1].vm_id if found else b""):
        found += [
            OwnedVm(
                vm_id=record.vm_id,
                tenant=names.get(record.tenant_key, record.tenant_key.hex()),
                state=str(record.state),
                epoch=record.epoch,
                node=str(record.node),
                released_ms=record.released_ms,
                ended_ms=record.ended_ms or 0,
                end_reason=record.end_reason or "",
                log_index=record.seq,
            )
            for record in page
        ]
    return OwnedVms(vms=tuple(found))


def _info(record: TenantRecord) -> TenantInfo:
    return TenantInfo(name=record.name, key=record.key, added_ms=record.added_ms)
