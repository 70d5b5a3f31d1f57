"""What somebody else on the host finds of a VM's secret: nothing. Each attack is shown to work without its defence.

The canary is in the guest's memory, on its disk, in its vTPM's state (as a sealed object would be) and in fw_cfg. The
attackers are an ordinary user and, harder, a process of the VM's very user; root is not among them, see
docs/THREAT_MODEL.md.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.support.machines import FIRST_USER, Guest, GuestImages, TestHost, booted, secrets

CANARY = b"canary-4711-of-the-tenant"
STRANGER = 490_000
# Searches what a user can reach; the canary comes over a descriptor, or the searcher would find itself.
SEARCH = r"""
import ctypes, json, os, socket, sys
canary = os.read(0, 100)[::-1]
what, *arguments = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)

def memory(pid):
    for line in open(f"/proc/{pid}/maps"):
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if "r" in line.split()[1] and "[v" not in line and last - first < 1 << 30:
            with open(f"/proc/{pid}/mem", "rb", 0) as file:
                try:
                    file.seek(first)
                    yield file.read(last - first)
                except (OSError, ValueError, OverflowError):
                    pass

def vm_readv(pid):
    class Iovec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
    first, size = int(arguments[1], 16), 4096
    buffer = ctypes.create_string_buffer(size)
    ours, theirs = Iovec(ctypes.addressof(buffer), size), Iovec(first, size)
    if libc.process_vm_readv(int(pid), ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return True

def trace(pid):
    if libc.ptrace(16, int(pid), 0, 0) < 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
    return True

def descriptors(pid):
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            with open(f"/proc/{pid}/fd/{name}", "rb") as file:
                yield file.read(1 << 26)
        except OSError:
            pass

def files(*folders):
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    with open(os.path.join(place, name), "rb") as file:
                        yield file.read(1 << 26)
                except OSError:
                    pass

def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.settimeout(5)
        return client.recv(1 << 17)

try:
    if what == "trace": found = trace(*arguments)
    elif what == "vm_readv": found = vm_readv(arguments[0])
    elif what == "connect": found = canary in connect(*arguments)
    else: found = any(canary in part for part in globals()[what](*arguments))
except OSError as problem:
    print(json.dumps(type(problem).__name__))
else:
    print(json.dumps(found))
"""


def attack(user: int | None, what: str, *arguments: object) -> str | bool:
    """What the attacker reports: whether he found it, or the error that stopped him."""
    # The interpreter of an environment may lie where others cannot read: the system's is for everybody.
    command = ["/usr/bin/python3", "-c", SEARCH, what, *map(str, arguments)]
    done = subprocess.run(command, input=CANARY[::-1], capture_output=True, user=user, group=user, cwd="/", check=False)
    assert done.returncode == 0, done.stderr.decode()
    result: str | bool = json.loads(done.stdout)
    return result


@pytest.fixture
def exposed() -> Iterator[int]:
    """The control: a process of the same user without the defences, with the canary in memory and in a descriptor."""
    script = f"import os, time; c = {CANARY!r}; f = os.memfd_create('x'); os.write(f, c)"
    script += "; print(flush=True); time.sleep(1000)"
    child = subprocess.Popen(
        ["/usr/bin/python3", "-c", script], stdout=subprocess.PIPE, user=FIRST_USER, group=FIRST_USER, cwd="/"
    )
    assert child.stdout is not None
    child.stdout.readline()
    yield child.pid
    child.kill()
    child.wait()
    child.stdout.close()


def first_mapping(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text().split("-")[0]


async def test_the_canary_of_a_running_vm_is_found_by_nobody(
    host: TestHost, images: GuestImages, live: Path, exposed: int, tmp_path: Path
) -> None:
    """One guest for all attacks: to boot it takes longer than they do."""
    others = socket_names(os.getpid())  # of other tests' daemons in this process
    async with booted(host, images.with_disk(live), keys=secrets(canary=CANARY)) as guest:
        await guest.run(f"export CANARY='{CANARY.decode()}'; echo $CANARY > /tmp/canary")
        await guest.run("cat /tmp/canary | dd of=/dev/vda bs=4096 conv=notrunc,sync,fsync")
        await guest.run("cat /tmp/canary")

        memory_and_descriptors(guest, exposed)
        files(guest, host, live, tmp_path)
        await trio.to_thread.run_sync(sockets, guest, others)
        what_a_taken_over_process_could_do(guest)
        guest.vm.qemu.send(signal.SIGSEGV)
        assert (await guest.vm.ended()).reason == "qemu_failed"
        files(guest, host, live, tmp_path)  # no core file either


def processes(guest: Guest) -> list[int]:
    return [guest.vm.qemu.pid, guest.vm.vtpm.child.pid, guest.vm.disks[0].child.pid]


def memory_and_descriptors(guest: Guest, exposed: int) -> None:
    for user in (STRANGER, FIRST_USER):
        for pid in processes(guest):
            for what, *more in (("memory",), ("descriptors",), ("trace",), ("vm_readv", first_mapping(pid))):
                assert attack(user, what, pid, *more) == "PermissionError", (user, pid, what)

    # The control: what is not made undumpable is open to its own user.
    assert attack(FIRST_USER, "memory", exposed) is True
    assert attack(FIRST_USER, "descriptors", exposed) is True
    assert attack(FIRST_USER, "vm_readv", exposed, first_mapping(exposed)) is True
    assert attack(FIRST_USER, "trace", exposed) is True
    # And the canary is where we look for it: root, who may, finds it in QEMU.
    assert attack(None, "memory", guest.vm.qemu.pid) is True


def files(guest: Guest, host: TestHost, live: Path, tmp_path: Path) -> None:
    # As root: not that nobody may read it, it is not there.
    folders = [host.vms.settings.run, host.vms.settings.state, live.parent]
    assert attack(None, "files", *folders) is False
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(5000) + CANARY)
    assert attack(None, "files", *folders) is True
    plain.unlink()


def sockets(guest: Guest, others: set[Path]) -> None:
    console = guest.vm.console_path
    for user in (STRANGER, FIRST_USER):
        assert attack(user, "connect", console) == "PermissionError"
    assert attack(None, "connect", console) is True

    # There is no other: neither monitor nor disk nor vTPM has a name in the file system, the disk's was taken away.
    names = {name for pid in (os.getpid(), *processes(guest)) for name in socket_names(pid)} - others
    assert any("tccp-nbd-" in str(name) for name in names)
    assert {name for name in names if name.exists()} == {console}


def socket_names(pid: int) -> set[Path]:
    """The names in the file system that the Unix sockets of a process were bound to."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            held.add(entry.readlink().name)
    return {Path(row[7]) for row in rows if len(row) > 7 and f"socket:[{row[6]}]" in held}


def what_a_taken_over_process_could_do(guest: Guest) -> None:
    (before,) = fields_of("self")["Seccomp_filters"]
    for pid in processes(guest):
        fields = fields_of(pid)
        assert fields["Seccomp"] == ["2"]
        # That of each child, which starts no process, and the program's own.
        assert int(fields["Seccomp_filters"][0]) >= int(before) + 2
        assert fields["NoNewPrivs"] == ["1"]
        assert fields["CapEff"] == fields["CapPrm"] == ["0" * 16]
        assert fields["Uid"] == [str(FIRST_USER)] * 4
        assert fields["Groups"] == []
        assert [line.split()[0] for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]] == ["lo:"]
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert next(line for line in limits.splitlines() if "core" in line).split()[4:6] in (["1", "1"], ["0", "0"])


def fields_of(pid: int | str) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":")[1].split() for line in lines}
