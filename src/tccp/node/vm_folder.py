"""The folder of one VM on this host: its live disks, the state of its vTPM, and what is demanded of them.

The coordinator keeps one root for a VM that ended in good order: a hash over the roots of its disks and that of the
vTPM's state, which stand in a file here. Of a suspended VM, whose vTPM is in its sealed state, it is that of the disks
alone; with one disk that disk's own, so that the disk is all that must be copied to resume it elsewhere.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from tccp.errors import DiskError, HostError
from tccp.node.copying import copy_file
from tccp.node.launch import OpenableImage, VmOrder
from tccp.node.vm.description import SealedFile, VmDisk
from tccp.node.vm.durable import replace_file, sync_folder
from tccp.node.vm.end import VmEnd
from tccp.node.vm.vtpm_state import HINT, VtpmDemand, remove
from tccp.protocol.marks import split_marks

DISK_ROOTS_DOMAIN = b"tccp/v1/disk-roots\0"
VM_ROOTS_DOMAIN = b"tccp/v1/vm-roots\0"
ROOT_BYTES = 32
STATE_NAME = "suspended-{}.sealed"  # with its generation
LIVE_DISKS, ROOTS, VTPM_FOLDERS = "disk*.live", "roots", "vtpm*"

log = structlog.get_logger()


class VmFolder:
    """What is here of the VM of *order*."""

    def __init__(self, path: Path, order: VmOrder) -> None:
        self.path, self._order = path, order

    def demands(self) -> tuple[tuple[VmDisk, ...], VtpmDemand]:
        """Each disk of the ticket over its image, with the root that it must have and the mark that it must have come
        by; and what the vTPM's state must be.

        Raises:
            DiskError: ``vm_roots``: the roots that stand here are not those that the coordinator knows;
                ``vm_marks``: it knows marks of more disks, or of less.
            HostError: ``state_unwritable``.
        """
        images = [image for image in self._order.images if image.role == "disk"]
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._order.state is not None and self.may_go_back:
                self._put_back(self._order.keys.generation)
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.path}: {problem.strerror}") from None
        *roots, vtpm_root = self._roots(len(images))
        vtpm_mark, *marks = self._marks(len(images))
        disks = tuple(
            VmDisk(sealed_file(image), self.path / f"disk{number}.live", root, mark)
            for number, (image, root, mark) in enumerate(zip(images, roots, marks, strict=True))
        )
        return disks, VtpmDemand(vtpm_root, vtpm_mark)

    def remove_disks(self) -> None:
        """What an earlier stay of the VM here has left."""
        try:
            for path in self._own():
                path.unlink(missing_ok=True)
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.path}: {problem.strerror}") from None

    @property
    def may_go_back(self) -> bool:
        """Whether states are kept, and the disks that belong to them."""
        return "rollback" in self._order.ticket.ticket.permissions

    def keep_disks(self, generation: int) -> str:
        """Copy the disks, which are closed, for a later return to this state; all of them, or none: then why.

        Without room for that the state, which is there, can be resumed as long as the disks stand as they are.
        """
        try:
            for path in self._own():
                copy_file(path, self.path / kept_name(generation, path.name))
        except OSError as problem:
            log.error("disks_not_kept", folder=str(self.path), generation=generation, detail=str(problem))
            for path in self.path.glob(kept_name(generation, "*")):
                with contextlib.suppress(OSError):
                    path.unlink()
            return f"disks_not_kept: {problem.strerror}; once the VM has run there is no way back to this state"
        return ""

    def _put_back(self, generation: int) -> None:
        """The disks of that state, where all of them were kept: some of them beside newer ones are no VM's."""
        count = sum(image.role == "disk" for image in self._order.images)
        names = [*(f"disk{number}.live" for number in range(count)), *([ROOTS] if count > 1 else [])]
        if all((self.path / kept_name(generation, name)).is_file() for name in names):
            for name in names:
                copy_file(self.path / kept_name(generation, name), self.path / name)

    def _own(self) -> list[Path]:
        return [*self.path.glob(LIVE_DISKS), *([self._file] if self._file.exists() else [])]

    def remove_states(self) -> None:
        """Suspended states. One that cannot be removed costs room: nobody goes on from it once the VM has run."""
        for path in self.path.glob(STATE_NAME.format("*")):
            try:
                path.unlink(missing_ok=True)
            except OSError as problem:
                log.error("state_not_removed", file=str(path), detail=str(problem))

    def left(self, end: VmEnd) -> bytes:
        """The root that the coordinator is to keep; empty when there is none, or nobody can say."""
        try:
            return self._left(end)
        except OSError as problem:  # its marks hold all the same
            log.error("roots_not_written", folder=str(self.path), detail=str(problem))
            return b""

    def _left(self, end: VmEnd) -> bytes:
        roots = [root for root in end.disk_roots if root is not None]
        if len(roots) < len(end.disk_roots):
            return b""
        has_not_gone_on = self._order.keys.generation > 0 and not end.has_run
        if end.reason == "suspended" or has_not_gone_on:  # its vTPM is in its state
            if len(roots) > 1:
                replace_file(self._file, b"".join(roots))
            return _disks_root(roots)
        if not end.vtpm_sha256:
            return b""
        roots.append(end.vtpm_sha256)
        replace_file(self._file, b"".join(roots))
        return _vm_root(roots)

    def _roots(self, count: int) -> Sequence[bytes | None]:
        """Of each disk, and of the vTPM."""
        demanded = self._order.keys.disk_root
        if demanded is None:
            return [None] * (count + 1)
        if self._order.keys.generation:
            found = [demanded] if count == 1 else self._kept(count, _disks_root, demanded)
            return [*found, None]
        return self._kept(count + 1, _vm_root, demanded)

    def _kept(self, count: int, root_of: Callable[[Sequence[bytes]], bytes], demanded: bytes) -> list[bytes]:
        try:
            kept = self._file.read_bytes()
        except OSError as problem:
            raise DiskError("vm_roots", f"{self._file}: {problem.strerror}", hint=HINT) from None
        roots = [kept[at : at + ROOT_BYTES] for at in range(0, len(kept), ROOT_BYTES)]
        if len(roots) != count or root_of(roots) != demanded:
            raise DiskError("vm_roots", f"{self._file}: not the VM as it was left", hint=HINT)
        return roots

    def _marks(self, count: int) -> Sequence[bytes | None]:
        """Of the vTPM, and of each disk."""
        marks = split_marks(self._order.keys.marks)
        if self._order.incoming:  # its disks are new ones here
            return [marks[0] if marks else None, *[None] * count]
        if not marks:
            return [None] * (count + 1)
        if len(marks) != count + 1:
            raise DiskError("vm_marks", f"{len(marks)} are registered, and the ticket has {count} disks")
        return marks

    @property
    def _file(self) -> Path:
        return self.path / ROOTS


def remove_all(folder: Path) -> None:
    """Remove the folder of a VM that does not run, with all that is in it, and have that durable.

    Raises:
        HostError: ``not_wiped``: something is left.
    """
    try:
        for vtpm in folder.glob(VTPM_FOLDERS):  # if our daemon died, they are still their users'
            remove(vtpm)
        if folder.exists():
            shutil.rmtree(folder)
        sync_folder(folder.parent)
    except OSError as problem:
        raise HostError("not_wiped", f"{folder}: {problem.strerror}") from None


def remove_live(folder: Path) -> bool:
    """Remove live disks and vTPM; whether states that were kept are left in the folder, which goes otherwise.

    Raises:
        HostError: ``not_wiped``.
    """
    try:
        for path in (*folder.glob(LIVE_DISKS), folder / ROOTS):
            path.unlink(missing_ok=True)
        for vtpm in folder.glob(VTPM_FOLDERS):
            remove(vtpm)
        if folder.exists() and any(folder.iterdir()):
            return True
    except OSError as problem:
        raise HostError("not_wiped", f"{folder}: {problem.strerror}") from None
    remove_all(folder)
    return False


def kept_name(generation: int, name: str) -> str:
    """Of a file that belongs to a state."""
    return f"kept-{generation}-{name}"


def marks_of(end: VmEnd) -> bytes:
    """How far a VM had come for certain when it ended; empty when nobody knows."""
    return b"".join((end.vtpm_mark, *end.disk_marks)) if end.vtpm_mark and all(end.disk_marks) else b""


def sealed_file(image: OpenableImage) -> SealedFile:
    """An image as `tccp.node.vm` takes it."""
    return SealedFile(image.path, image.key, image.sealed.info.root)


def _disks_root(roots: Sequence[bytes]) -> bytes:
    if not roots:
        return b""
    return roots[0] if len(roots) == 1 else hashlib.sha256(DISK_ROOTS_DOMAIN + b"".join(roots)).digest()


def _vm_root(roots: Sequence[bytes]) -> bytes:
    return hashlib.sha256(VM_ROOTS_DOMAIN + b"".join(roots)).digest()
