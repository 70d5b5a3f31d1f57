"""Where the state of a vTPM stands, encrypted, and what may be demanded of it.

    vtpm/        as it was when the VM ran last, or came from another node
    vtpm.next/   what the vTPM of a start works on: a copy that takes its place when the VM runs, or has arrived
    vtpm.old/    what it took the place of, for a moment

So a start that comes to nothing changes nothing, and what was registered of the state still holds. Whoever runs the
vTPM owns the folder meanwhile.
"""

import errno
import hashlib
import itertools
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tccp.errors import DiskError, HostError
from tccp.node.vm.certificates import VtpmKeys
from tccp.node.vm.durable import sync_folder

DOMAIN = b"tccp/v1/vtpm-state-files\0"
FILES_MAX = 16  # swtpm has three
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
        has_begun: Whether the VM of this start has run, or has arrived.
    """

    parent: Path
    has_begun: bool = False
    _durable: "tuple[_Look, ...]" = ()

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
                remove(self._at(name))
            if demanded is not None and self.digest() != demanded:
                raise DiskError("wrong_vtpm_state", "the vTPM's state is not as the VM has left it", hint=HINT)
            self.place.mkdir(mode=0o700)
            for path in [] if anew else _files(self._last()):
                shutil.copyfile(path, self.place / path.name)
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.parent}: {problem.strerror}") from problem

    def lend(self, user: int | None) -> int:
        """A descriptor of the folder, which *user* owns from here on, until `leave`. Who asks closes it."""
        folder = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if user is not None:
                give(self.place, user)
        except OSError:
            os.close(folder)
            raise
        return folder

    def leave(self) -> None:
        """Take it back, and remove what no VM has run with; what cannot be removed is left to the next start."""
        if self.has_begun:
            take_back(self.place)
        else:
            with suppress(OSError):
                remove(self.place)

    def begin(self) -> None:
        """The VM runs, or all of it has arrived: from here on this is its vTPM's state. Durable on return.

        Raises:
            HostError: ``state_unwritable``.
        """
        if self.has_begun:
            return
        try:
            _sync(self.place)  # nothing takes the place of what is durable that is not
            if self._at("vtpm").exists():
                self._at("vtpm").rename(self._at("vtpm.old"))
            self.place.rename(self._at("vtpm"))  # between the two, `_last` says which it is
            self.has_begun = True
            sync_folder(self.parent)
            sync_folder(self.parent.parent)
            remove(self._at("vtpm.old"))
        except OSError as problem:
            raise HostError("state_unwritable", f"{self.parent}: {problem.strerror}") from problem

    def digest(self) -> bytes:
        """SHA-256 over the state with which the VM ran last; its vTPM has ended."""
        digest = hashlib.sha256(DOMAIN)
        for path in _files(self._last()):
            content = path.read_bytes()
            digest.update(len(os.fsencode(path.name)).to_bytes(2, "big") + os.fsencode(path.name))
            digest.update(len(content).to_bytes(8, "big") + content)
        return digest.digest()

    def sync(self) -> None:
        """Have what the vTPM has written by now be durable: swtpm does not see to that itself.

        Raises:
            DiskError: ``vtpm_state_unwritable``.
        """
        try:
            now = tuple(_look_at(path) for path in _entries(self.place))
            if now != self._durable:
                _sync(self.place)
                self._durable = now
        except OSError as problem:
            raise DiskError("vtpm_state_unwritable", f"{self.place}: {problem.strerror}") from problem

    def settle(self) -> bytes:
        """The `digest` of what the vTPM has left, which is durable then."""
        digest = self.digest()
        if self.has_begun:
            _sync(self.place)
        return digest

    def _last(self) -> Path:
        """Where it stands as it was when the VM ran last, wherever `begin` has got to."""
        return self._at("vtpm" if self._at("vtpm").exists() else "vtpm.old")

    def _at(self, name: str) -> Path:
        return self.parent / name


def give(folder: Path, user: int) -> None:
    """Make *user* the owner of the folder and of all that is in it; beside its owner, only we may look into it."""
    folder.chmod(0o750)  # the group is ours
    for entry in folder.iterdir():
        os.chown(entry, user, -1, follow_symlinks=False)
    os.chown(folder, user, -1)


def take_back(folder: Path) -> None:
    """Nobody else gets at what is in it from here on, or puts more into it."""
    os.chown(folder, os.geteuid(), -1)
    folder.chmod(0o700)  # whatever its user has made of it


def remove(folder: Path) -> None:
    """Remove a folder, if it is there, that may be its user's.

    Raises:
        OSError: Something of it is left.
    """
    if folder.exists():
        take_back(folder)
        shutil.rmtree(folder)


def _files(folder: Path) -> list[Path]:
    """What is in a folder that may be its user's: taken back, in order of name. Locks of swtpm are none of it.

    Raises:
        OSError: There is more in it than a vTPM has; or something is no file: its user may have put a link there to
            what only we can read.
    """
    if not folder.exists():
        return []
    take_back(folder)
    found = _entries(folder)
    for path in found:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(errno.ELOOP, f"{path.name!r} is not a file")
        os.chown(path, os.geteuid(), -1, follow_symlinks=False)
        path.chmod(0o600)
    return [path for path in found if not path.name.startswith(".")]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, in order of name.

    Raises:
        OSError: There is more in it than a vTPM has.
    """
    with os.scandir(folder) as entries:
        found = sorted(Path(entry) for entry in itertools.islice(entries, FILES_MAX + 1))
    if len(found) > FILES_MAX:
        raise OSError(errno.EFBIG, f"more than {FILES_MAX} files in {folder.name}")
    return found


_Look = tuple[str, int, int]  # name, inode and time of the last change: swtpm replaces a file by another


def _look_at(path: Path) -> _Look:
    try:
        about = path.lstat()
    except FileNotFoundError:  # it has just taken the place of another
        return path.name, 0, 0
    return path.name, about.st_ino, about.st_mtime_ns


def _sync(folder: Path) -> None:
    """Make a folder durable with all that is in it, while its user may go on writing.

    Raises:
        OSError: It cannot be; or there is something in it that no vTPM has.
    """
    for path in _entries(folder):
        if not path.name.startswith("."):  # locks
            with suppress(FileNotFoundError):
                _sync_file(path)
    sync_folder(folder)


def _sync_file(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
