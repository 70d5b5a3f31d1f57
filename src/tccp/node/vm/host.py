"""What a host has for its VMs: programs, users, folders, an accelerator that works, the identity that vouches."""

import contextlib
import grp
import os
import re
import resource
import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio

from tccp.errors import ConfigError, HostError
from tccp.node.vm.accelerator import probe_accelerator
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.keeper import Keeper, open_keeper
from tccp.node.vm.machine import Accelerator
from tccp.node.vm.memory_file import unreadable_copy

# Where Debian has them.
QEMU = "/usr/bin/qemu-system-x86_64"
SWTPM = "/usr/bin/swtpm"
OVMF = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VM_FOLDER = re.compile(r"[0-9a-f]{32}")
UNFINISHED = ("*.partial", "*/*.partial")  # notes; states, and copies of disks

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class UserRange:
    """Numbers of users that belong to nobody else: each running VM has one, with the group of the same number."""

    first: int
    count: int
    taken: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Refuse root, and numbers that mean nobody."""
        if self.first < 1000 or self.count < 1 or self.first + self.count > 0xFFFF_0000:
            raise ValueError("users of VMs lie between 1000 and 4294901760")

    @contextmanager
    def lend(self) -> Iterator[int]:
        """A user that no running VM has.

        Raises:
            HostError: ``too_many_vms``.
        """
        for user in range(self.first, self.first + self.count):
            if user not in self.taken:
                break
        else:
            raise HostError("too_many_vms", f"all {self.count} users of this host are taken")
        self.taken.add(user)
        try:
            yield user
        finally:
            self.taken.discard(user)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What an operator chooses.

    Attributes:
        run: A folder in memory (/run), where each VM has one for its console's socket.
        state: Where the state of vTPMs is kept, encrypted.
        users: None only for somebody without privileges: all VMs then run as that user, who can attack them.
        console_group: Whose members may open consoles; None: only our own user.
    """

    run: Path
    state: Path
    users: UserRange | None
    console_group: str | None = None
    ovmf: Path = OVMF


@dataclass(frozen=True, slots=True)
class VmHost:
    """A host that is ready for VMs, made by `open_host`.

    Attributes:
        keeper: Ends all VMs at the time that it was last given; none may run before it was given one.
    """

    settings: HostSettings
    issuer: VtpmIssuer
    keeper: Keeper
    qemu: int
    swtpm: int
    python: int
    accelerator: Accelerator
    console_group: int | None
    kvm_group: int | None

    def can_lock(self, memory_mib: int) -> bool:
        """Whether a process that maps as much as that may lock all of it, and so be kept out of swap."""
        allowed = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        return allowed == resource.RLIM_INFINITY or allowed >= memory_mib << 20

    @contextmanager
    def user(self) -> Iterator[int | None]:
        """The user of one VM while it runs."""
        if self.settings.users is None:
            yield None
            return
        with self.settings.users.lend() as user:
            yield user


@contextlib.asynccontextmanager
async def open_host(settings: HostSettings, issuer: VtpmIssuer) -> AsyncGenerator[VmHost]:
    """Make the host ready: folders, programs, and the accelerator by trying it.

    Raises:
        ConfigError: Something is missing that an operator must provide.
        HostError: A program cannot be read or started.
    """
    _make_folders(settings)
    if settings.users is None and os.geteuid() == 0:
        raise ConfigError("no_vm_users", "root runs VMs as users of their own only", hint="Set [vms] first_user.")
    if settings.users is not None and not _may_become_others():
        hint = "Run the node with CAP_SETUID, CAP_SETGID, CAP_CHOWN and CAP_KILL, as its unit does."
        raise ConfigError("no_privileges", "this process cannot start VMs as users of their own", hint=hint)
    if settings.users is None:
        log.warning("vms_share_our_user", detail="VMs are not protected from each other, nor from this user")
    async with trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        programs = []
        for path in (QEMU, SWTPM):
            programs.append(unreadable_copy(path))
            stack.callback(os.close, programs[-1])
        python = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)
        stack.callback(os.close, python)
        keeper = await stack.enter_async_context(open_keeper(python, nursery))
        kvm_group = _group_of_kvm()
        user = settings.users.first if settings.users else None
        yield VmHost(
            settings=settings,
            issuer=issuer,
            keeper=keeper,
            qemu=programs[0],
            swtpm=programs[1],
            python=python,
            accelerator=await probe_accelerator(programs[0], user=user, group=kvm_group),
            console_group=_group(settings.console_group),
            kvm_group=kvm_group,
        )


def _make_folders(settings: HostSettings) -> None:
    """There, and without what a killed daemon has left: its VMs died with it, and nothing can go on from half a file.

    Raises:
        ConfigError: ``vm_folders``.
    """
    try:
        settings.run.mkdir(mode=0o711, parents=True, exist_ok=True)
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in settings.run.iterdir():
            if VM_FOLDER.fullmatch(folder.name):
                shutil.rmtree(folder)
        for pattern in UNFINISHED:
            for path in settings.state.glob(pattern):
                path.unlink()
    except OSError as problem:
        hint = "[vms] run and state in node.toml are folders that the daemon may write"
        raise ConfigError("vm_folders", f"{problem.filename}: {problem.strerror}", hint=hint) from None


def _may_become_others() -> bool:
    """Whether we hold the capabilities to change users, owners, and to end what others run."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    wanted = [0, 5, 6, 7]  # CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID
    return all(effective >> number & 1 for number in wanted)


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError("no_such_group", name) from None


def _group_of_kvm() -> int | None:
    try:
        return os.stat("/dev/kvm").st_gid  # noqa: PTH116
    except OSError:
        return None
