"""How far the parts of a VM have come, each in 40 bytes (`tccp.protocol.marks`): its vTPM first, then each disk."""

from collections.abc import Sequence

import trio

from tccp.node.vm.disk import DiskProcess
from tccp.node.vm.vtpm import Vtpm


async def current_marks(vtpm: Vtpm, disks: Sequence[DiskProcess]) -> tuple[bytes, ...]:
    """For `VtpmDemand` and `VmDisk.live_mark` after a crash.

    Raises:
        HostError: A disk's process has died.
        DiskError: A disk cannot say, with no room to write for example; or the vTPM's state cannot be made durable.
    """
    await trio.to_thread.run_sync(vtpm.state.sync)
    return vtpm.mark, *[await disk.mark() for disk in disks]


async def keep_marks(disks: Sequence[DiskProcess], marks: Sequence[bytes]) -> None:
    """Have the disks remember *marks*, which are on record now; older ones may be forgotten.

    Raises:
        HostError: A disk's process has died.
        DiskError: ``wrong_disk_mark``: a disk has not given it.
    """
    for disk, mark in zip(disks, marks[1:], strict=True):
        await disk.kept(mark)
