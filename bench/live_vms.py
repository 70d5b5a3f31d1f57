"""A coordinator, a tenant, and two nodes that run her VMs in QEMU, all in this process: for benchmarks of a whole."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from tccp.node.daemon import Node
from tccp.node.identity import make_node_identity
from tccp.node.qemu_hypervisor import QemuHypervisor
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.host import HostSettings, UserRange, VmHost, open_host
from tccp.protocol.vm_control import VmInfo
from tests.support.guest import CONSOLE, guest_kernel
from tests.support.launching import KERNEL, SealedFile, Tenant, ticket_file
from tests.support.live_coordinator import HOST, ZERO, LiveCoordinator, live_coordinator
from tests.support.live_coordinator import open_host as open_tpm_host
from tests.support.live_node import running_node
from tests.support.machines import FIRST_USER, GuestImages
from tests.support.soft_tpm import EkAuthority, SoftTpm, SoftTpmPool

DISK_MIB = 64
STEP_S = 60


@dataclass
class Cloud:
    """All of it.

    Attributes:
        nodes: By name, with the host that their VMs are on.
        ways: From each of them to the coordinator.
    """

    coordinator: LiveCoordinator
    nodes: dict[str, tuple[Node, VmHost]]
    ways: dict[str, "Way"]
    tenant: Tenant
    images: list[SealedFile]

    async def launch(self, name: str) -> tuple[bytes, bytes]:
        """A new VM on a node: its id, and its ticket."""
        shape = KERNEL.__class__(vcpus=1, memory_mib=192, firmware="direct", cmdline=CONSOLE, networks=())
        signed, vm = self.tenant.ticket(self.images, shape=shape)
        ticket = ticket_file(signed)
        node, _ = self.nodes[name]
        await settle(node, node.vms.launch(ticket, [image.path for image in self.images]).vm_id, "running")
        return vm.vm_id, ticket

    async def receive(self, name: str, ticket: bytes) -> VmInfo:
        """Have it come to a node."""
        node, _ = self.nodes[name]
        vm = node.vms.receive(ticket, [image.path for image in self.images])
        return await settle(node, vm.vm_id, "running")


async def settle(node: Node, vm_id: bytes, *states: str) -> VmInfo:
    """Until the VM is in one of these states."""
    with trio.fail_after(STEP_S):
        async for info in node.vms.steps(node.vms.get(vm_id)):
            if info.state in states:
                return info
            assert info.state not in {"failed", "ended"}, info
    raise AssertionError(f"never {states}")


@asynccontextmanager
async def a_cloud(*names: str, lease_s: int) -> AsyncIterator[Cloud]:
    """One with nodes of these names."""
    async with AsyncExitStack() as stack:
        # Short enough for sockets, and users of VMs may pass through it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tccp-cloud-")))
        folder.chmod(0o711)
        files = GuestImages(folder / "images", disk_mib=DISK_MIB)
        pool = SoftTpmPool(EkAuthority(folder / "ca"), folder / "tpms")
        own, *theirs = [stack.enter_context(pool.lend()) for _ in range(1 + len(names))]
        coordinator = await stack.enter_async_context(live_coordinator(folder, own, lease_s=lease_s))
        await coordinator.add_policy({0: ZERO, 4: ZERO})
        tenant = Tenant.of(folder, coordinator)
        await tenant.enrol(coordinator)
        images = [
            tenant.seal("kernel", guest_kernel().read_bytes(), "kernel"),
            tenant.seal("initrd", files.initramfs.read_bytes(), "initrd"),
            tenant.seal("disk", os.urandom(DISK_MIB << 19).ljust(DISK_MIB << 20, b"\0"), "disk"),
        ]
        nodes: dict[str, tuple[Node, VmHost]] = {}
        ways: dict[str, Way] = {}
        for number, (name, tpm) in enumerate(zip(names, theirs, strict=True)):
            ways[name] = await stack.enter_async_context(a_way(coordinator.port))
            users = UserRange(FIRST_USER + 16 * number, 16) if os.geteuid() == 0 else None
            (folder / name).mkdir(mode=0o711)
            settings = HostSettings(folder / name / "run", folder / name / "state", users)
            found = _node(coordinator, name, tpm, settings, ways[name])
            nodes[name] = await stack.enter_async_context(found)
        yield Cloud(coordinator, nodes, ways, tenant, images)


class Way:
    """The only way from a node to its coordinator, which may be cut: then nothing comes through, and nobody is told."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self.is_cut = False
        self._to = to

    async def carry(self, node: trio.SocketStream) -> None:
        """One connection."""
        async with node, await trio.open_tcp_stream(HOST, self._to) as coordinator, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, coordinator, node)
            await self._carry(node, coordinator)
            nursery.cancel_scope.cancel()

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await source.receive_some():
                if self.is_cut:
                    await trio.sleep_forever()
                await target.send_all(data)


@asynccontextmanager
async def a_way(to: int) -> AsyncIterator[Way]:
    """To a port of this host."""
    way = Way(to)
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    way.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, way.carry, [listener])
        yield way
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _node(
    coordinator: LiveCoordinator, name: str, tpm: SoftTpm, settings: HostSettings, way: "Way"
) -> AsyncIterator[tuple[Node, VmHost]]:
    identity = make_node_identity(name)
    issuer = VtpmIssuer(name, identity.signing_key, identity.statement)
    async with open_tpm_host(tpm) as host, open_host(settings, issuer) as vms:
        await coordinator.enrol(name, host)
        async with running_node(
            coordinator, identity, host, QemuHypervisor(vms), settings.state.parent, port=way.port
        ) as node:
            yield node, vms
