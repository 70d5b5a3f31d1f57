"""Where the state of a vTPM stands, encrypted, and what may be demanded of it.

    vtpm/        as it was when the VM ran last
    vtpm.next/   what the vTPM of a start works on: a copy that takes its place when the VM runs
    vtpm.old/    what it took the place of, for a moment

So a start that comes to nothing changes nothing, and what was registered of the state still holds. Whoever runs the
vTPM owns the folder meanwhile.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tccp.errors import DiskError, HostError
from tccp.node.vm.certificates import VtpmKeys

DOMAIN = b"tccp/v1/vtpm-state-files\0"
NONE_SHA256 = hashlib.sha256(DOMAIN).digest()  # of a vTPM that was never started
HINT = (
    "Put the newest copy of the VM's folder in its place; or its tenant takes it as it is, by a ticket with"
    " --any-disk-state."
)


def vtpm_mark(keys: VtpmKeys, starts: int) -> bytes:
    """The mark of a vTPM (`tccp.protocol.marks`): the TPM's own count of resets, which no start leaves as it was.

    A guest that clears its TPM sets the count back. Then a start after a crash needs its tenant's word.
    """
    return starts.to_bytes(8, "little") + hashlib.sha256(keys.ek_spki).digest()


@dataclass(frozen=True, slots=True)
class VtpmDemand:
    """What the state of a vTPM must be at its start.

    Attributes:
        state_sha256: What `VtpmState.digest` returned when the VM ended in good order.
        mark: Else, of a start that was registered: the state must be from after it.
    """

    state_sha256: bytes | None = None
    mark: bytes | None = None

    def check(self, mark: bytes) -> None:
        """Refuse a vTPM that has come to *mark*, if that is from before what is demanded.

        Raises:
            DiskError: ``wrong_vtpm_mark``.
        """
        if self.mark is None or self.state_sha256 is not None:
            return
        starts, demanded = (int.from_bytes(it[:8], "little") for it in (mark, self.mark))
        if mark[8:] != self.mark[8:] or starts <= demanded:
            detail = f"the vTPM's state is of start {starts}, or of another; {demanded} was registered"
            raise DiskError("wrong_vtpm_mark", detail, hint=HINT)


NOTHING = VtpmDemand()


@dataclass(slots=True)
class VtpmState:
    """The state of one vTPM.

    Attributes:
        parent: The VM's folder.
        has_begun: Whether the VM of this start has run.
    """

    parent: Path
    has_begun: bool = False

    @property
    def place(self) -> Path:
        """Where the vTPM of this start keeps its state."""
        return self._at("vtpm" if self.has_begun else "vtpm.next")

    def prepare(self, *, demanded: bytes | None, anew: bool) -> None:
        """Put what an earlier start has left in order, and make the copy.

        Args:
            demanded: What `digest` returned when the VM ended: it must be that very state. None: whatever is here.
            anew: Begin with nothing: the state comes from elsewhere.

        Raises:
            DiskError: ``wrong_vtpm_state``: it is another.
            HostError: ``state_unwritable``.
        """
        try:
            self.parent.mkdir(mode=0o700, exist_ok=True)
            if not self._at("vtpm").exists() and self._at("vtpm.old").exists():
                self._at("vtpm.old").rename(self._at("vtpm"))
            for name in ("vtpm.next", "vtpm.old"):
                _remove(self._at(name))
            if demanded is not None and self.digest() != demanded:
                raise DiskError("wrong_vtpm_state", "the vTPM's state is not as the VM has left it", hint=HINT)
            self.place.mkdir(mode=0o700)
            for path in [] if anew else _files(self._at("vtpm")):
                shutil.copyfile(path, self.place / path.name)
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.parent}: {problem.strerror}") from problem

    @contextmanager
    def lent(self, user: int | None) -> Iterator[int]:
        """A descriptor of the folder, which *user* owns meanwhile; what no VM has run with is removed at the end."""
        folder = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            give(self.place, user)
            yield folder
        finally:
            os.close(folder)
            give(self.place, os.geteuid())
            if not self.has_begun:
                _remove(self.place)

    def begin(self) -> None:
        """The VM runs: from here on this is its vTPM's state.

        Raises:
            HostError: ``state_unwritable``.
        """
        if self.has_begun:
            return
        try:
            if self._at("vtpm").exists():
                self._at("vtpm").rename(self._at("vtpm.old"))
            self.place.rename(self._at("vtpm"))
            self.has_begun = True
            _sync(self.parent)
            _remove(self._at("vtpm.old"))
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.parent}: {problem.strerror}") from problem

    def digest(self) -> bytes:
        """SHA-256 over the state with which the VM ran last; its vTPM has ended."""
        digest = hashlib.sha256(DOMAIN)
        if self._at("vtpm").exists():
            for path in _files(self._at("vtpm")):
                content = path.read_bytes()
                digest.update(len(path.name).to_bytes(2, "big") + path.name.encode())
                digest.update(len(content).to_bytes(8, "big") + content)
        return digest.digest()

    def forget(self) -> None:
        """Remove all of it: it will never be started again here."""
        give(self.place, os.geteuid())
        for path in self.place.iterdir():
            path.unlink()

    def _at(self, name: str) -> Path:
        return self.parent / name


def give(path: Path, owner: int | None) -> None:
    """Make *owner* the owner of the folder and of all that is in it; only its owner may look into it."""
    if owner is not None:
        os.chown(path, os.geteuid(), -1)
        for entry in path.iterdir():
            os.chown(entry, owner, -1, follow_symlinks=False)
        os.chown(path, owner, -1)


def _files(folder: Path) -> list[Path]:
    """What is in a folder that may be its user's: taken back, in order of name. Locks of swtpm are none of it.

    Raises:
        OSError: Something in it is no file: its user may have put a link there to what only we can read.
    """
    if not folder.exists():
        return []
    give(folder, os.geteuid())
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in found:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(errno.ELOOP, f"{path.name} is no file")
    return found


def _remove(folder: Path) -> None:
    if folder.exists():
        give(folder, os.geteuid())
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
