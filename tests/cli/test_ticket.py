"""``tccp ticket``: what a tenant is told, what she keeps, and what is refused before anything is signed."""

import contextlib
import subprocess
from pathlib import Path

import msgspec
import pytest

from tccp.image.keys import RecipientSecretKey
from tccp.protocol.ticket import read_ticket_file, verify_ticket
from tccp.tenant.trust_store import TrustStore, parse_pinned
from tccp.tenant.vm_file import VmFile, alone_in, read_vm_file, write_vm_file
from tests.cli.running import PATIENCE_S, TCCP, Ended, tccp
from tests.fuzz.tenant_targets import pinned as pinned_bytes

RELEASE_KEY = RecipientSecretKey.from_seed(b"\x07" * 32)
CANARY = b"canary of the tenant"


class Desk:
    """A tenant's folder: keys, a pinned coordinator, sealed images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for words in (("--type", "tenant", folder / "tenant.key"), (folder / "me.key",)):
            assert tccp("key", "generate", *words).code == 0
        pinned = msgspec.structs.replace(parse_pinned(pinned_bytes()[0]), release_key=RELEASE_KEY.public.raw.hex())
        store = TrustStore(folder / "trust")
        with store.locked("tc"):
            store.save(pinned)
        for name in ("disk", "kernel"):
            (folder / name).write_bytes(CANARY + name.encode())
            sealing = ("--to", folder / "me.pub", "--sign", folder / "tenant.key")
            assert tccp("image", "seal", folder / name, folder / f"{name}.sealed", *sealing).code == 0

    def create(self, *more: str | Path, out: str = "t", vm: str = "vm", policy: str = "tvmm") -> Ended:
        """Create a ticket."""
        return tccp(*self._words(*more, out=out, vm=vm, policy=policy))

    def begin(self, *more: str | Path, out: str) -> subprocess.Popen[bytes]:
        """Begin to create one."""
        words = map(str, self._words(*more, out=out, vm="vm", policy="tvmm"))
        return subprocess.Popen([TCCP, *words], stdout=subprocess.DEVNULL)

    def _words(self, *more: str | Path, out: str, vm: str, policy: str) -> list[str | Path]:
        keys = ("--sign", self.folder / "tenant.key", "--key", self.folder / "me.key")
        where = (self.folder / out, "--vm", self.folder / vm, "--store", self.folder / "trust")
        return ["ticket", "create", *where, *keys, "--policy", policy, *more, "--json"]

    @property
    def disk(self) -> tuple[str, Path]:
        """The option that boots from the disk."""
        return "--disk", self.folder / "disk.sealed"


@pytest.fixture(scope="module")
def module_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("tenant"))


@pytest.fixture
def desk(module_desk: Desk) -> Desk:
    """With no ticket and no VM in it."""
    for name in ("t", "t2", "vm"):
        (module_desk.folder / name).unlink(missing_ok=True)
    return module_desk


def test_a_ticket_says_what_was_asked_for_and_its_vm_is_kept(desk: Desk) -> None:
    ended = desk.create(*desk.disk, "--vcpus", "2", "--memory", "1024", "--attribute", "site=delft", policy="tvmm:3")

    signed = read_ticket_file((desk.folder / "t").read_bytes())
    ticket = verify_ticket(signed.ticket, signed.signature).ticket
    vm = read_vm_file(desk.folder / "vm")
    assert ended.code == 0
    assert (ticket.shape.vcpus, ticket.shape.memory_mib, ticket.shape.firmware) == (2, 1024, "uefi")
    assert (ticket.policy.name, ticket.policy.version_min, ticket.attributes) == ("tvmm", 3, {"site": "delft"})
    assert ended.document["vm_id"] == ticket.vm_id.hex() == vm.vm_id.hex()
    assert ended.document["sha256"] == vm.tickets[0].hex()
    assert (desk.folder / "vm").stat().st_mode & 0o077 == 0


def test_a_ticket_for_longer_than_calendars_go_is_shown_none_the_less(desk: Desk) -> None:
    assert desk.create(*desk.disk, "--valid", "9999999d").code == 0

    shown = tccp("ticket", "show", desk.folder / "t")

    assert shown.code == 0
    assert " s after 1970" in shown.out


def test_the_next_ticket_is_for_the_same_vm(desk: Desk) -> None:
    desk.create(*desk.disk)
    first = read_vm_file(desk.folder / "vm")

    assert desk.create(*desk.disk, out="t2").code == 0

    second = read_vm_file(desk.folder / "vm")
    assert (second.vm_id, second.vm_key, second.tickets[:1]) == (first.vm_id, first.vm_key, first.tickets)
    assert len(second.tickets) == 2


def test_a_kernel_is_booted_directly_or_measured(desk: Desk) -> None:
    kernel = ("--kernel", desk.folder / "kernel.sealed", "--cmdline", "quiet")

    assert desk.create(*kernel).document["shape"]["firmware"] == "direct"
    assert desk.create(*kernel, "--measured", out="t2").document["shape"]["firmware"] == "uefi"


def test_nothing_secret_is_in_the_ticket(desk: Desk) -> None:
    desk.create(*desk.disk)

    content = (desk.folder / "t").read_bytes()

    assert read_vm_file(desk.folder / "vm").vm_key not in content
    assert CANARY not in content


@pytest.mark.parametrize(
    ("more", "code", "reason"),
    [
        ((), 2, "usage"),
        (("--cmdline", "quiet"), 2, "usage"),
        (("--disk", "DISK", "--cmdline", "quiet"), 1, "ticket_malformed"),
        (("--disk", "DISK", "--vcpus", "0"), 1, "ticket_malformed"),
        (("--disk", "DISK", "--attribute", "a=b", "--attribute", "a=c"), 2, "usage"),
        (("--disk", "DISK", "--valid", "1y"), 2, "usage"),
        (("--disk", "nowhere"), 3, "file_unreadable"),
        (("--disk", "DISK", "--coordinator", "other"), 4, "not_pinned"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    desk: Desk, more: tuple[str, ...], code: int, reason: str
) -> None:
    ended = desk.create(*(str(desk.folder / "disk.sealed") if word == "DISK" else word for word in more))

    assert (ended.code, ended.document["error"]) == (code, reason)
    assert not (desk.folder / "t").exists()
    assert not (desk.folder / "vm").exists()


def test_a_ticket_is_never_overwritten(desk: Desk) -> None:
    desk.create(*desk.disk)

    assert desk.create(*desk.disk).document["error"] == "file_exists"


def test_a_vm_file_that_others_can_read_is_not_used(desk: Desk) -> None:
    desk.create(*desk.disk)
    (desk.folder / "vm").chmod(0o644)

    assert desk.create(*desk.disk, out="t2").document["error"] == "vm_file_exposed"


def test_two_tickets_that_are_signed_at_once_are_both_remembered(desk: Desk) -> None:
    desk.create(*desk.disk)
    before = read_vm_file(desk.folder / "vm")

    with alone_in(desk.folder):
        child = desk.begin(*desk.disk, out="t2")
        while child.poll() is None and not waits_for_a_lock(child.pid):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.05)
        other = VmFile(before.vm_id, before.vm_key, (*before.tickets, bytes(32)))
        write_vm_file(desk.folder / "vm", other)

    assert child.wait(PATIENCE_S) == 0
    assert read_vm_file(desk.folder / "vm").tickets[:2] == other.tickets
    assert len(read_vm_file(desk.folder / "vm").tickets) == 3


def waits_for_a_lock(pid: int) -> bool:
    """As the kernel says: ``1: -> FLOCK ADVISORY WRITE 4711 ...``."""
    waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(words[2:6] == ["FLOCK", "ADVISORY", "WRITE", str(pid)] for words in waiting)


def test_show_verifies_before_it_shows(desk: Desk) -> None:
    desk.create(*desk.disk)
    path = desk.folder / "t"

    shown = tccp("ticket", "show", path)
    altered = bytearray(path.read_bytes())
    altered[200] ^= 1
    path.write_bytes(bytes(altered))
    refused = tccp("ticket", "show", path)

    assert (shown.code, "policy tvmm version 1 or later" in shown.out) == (0, True)
    assert (refused.code, "ticket_signature" in refused.err) == (1, True)
