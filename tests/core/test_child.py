"""Children that can do less than we: each confinement beside a control without it."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tccp.core.child import FIRST_DESCRIPTOR, ChildSpec, start_child
from tccp.errors import HostError
from tests.support.reserved import free_users

SHELL = "/bin/busybox"
USER = free_users()
LIBRARIES = ["/usr", "/lib", "/lib64", "/bin", "/proc"]


@contextmanager
def program(path: str = SHELL) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def run(script: str, *descriptors: int, **options: object) -> str:
    """What a shell says that was started with *options*."""
    reader, writer = os.pipe()
    with program() as shell:
        options = {"starts_processes": True, **options}  # as shells do
        spec = ChildSpec(shell, ["busybox", "sh", "-c", script], writer, descriptors, **options)  # type: ignore[arg-type]
        pid, pidfd = start_child(spec)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        said = output.read().decode()
    os.waitpid(pid, 0)
    os.close(pidfd)
    return said


def status_of_shell(**options: object) -> dict[str, str]:
    lines = run("cat /proc/self/status", **options).splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_child_is_somebody_else_without_any_privilege() -> None:
    status = status_of_shell(user=USER)

    assert status["CapEff"] == status["CapPrm"] == status["CapInh"] == status["CapAmb"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert status["Groups"] == ""
    # It is mapped to nobody in its own namespace; from ours it is the user that we chose.
    assert status["Uid"].split() == ["65534"] * 4


def test_a_child_has_exactly_the_descriptors_that_it_was_given() -> None:
    with Path("/etc/hostname").open("rb") as first, Path("/etc/passwd").open("rb") as second:
        os.set_inheritable(first.fileno(), True)  # even what others would inherit
        said = run(f"ls /proc/$$/fd; head -n 1 <&{FIRST_DESCRIPTOR}", second.fileno())

    assert said.split()[:4] == ["0", "1", "2", str(FIRST_DESCRIPTOR)]
    assert said.split()[4].startswith("root:")


def test_descriptors_may_be_in_each_others_way() -> None:
    low = [os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("comm", "cmdline")]
    try:
        names = [Path(f"/proc/self/fd/{descriptor}").readlink().name for descriptor in reversed(low)]
        said = run("readlink /proc/$$/fd/3; readlink /proc/$$/fd/4", *reversed(low))
    finally:
        for descriptor in low:
            os.close(descriptor)

    assert [line.rpartition("/")[2] for line in said.splitlines()] == names


def test_a_child_has_an_empty_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        attempt = ["nc", "127.0.0.1", str(server.getsockname()[1])]

        assert "unreachable" in run(f"{' '.join(attempt)} 2>&1", user=USER)
        # The control: the same program reaches it from here.
        with subprocess.Popen([SHELL, *attempt], stdin=subprocess.DEVNULL) as control:
            server.accept()[0].close()
            assert control.wait() == 0


def test_a_child_touches_only_the_files_that_it_is_granted(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        folder.chmod(0o777)
    tmp_path.chmod(0o777)
    for above in tmp_path.parents:  # pytest's are for us alone
        if not above.stat().st_mode & 0o001:
            above.chmod(0o711)
    attempt = f"echo x > {mine}/x; echo x > {theirs}/x; cat /etc/passwd > /dev/null && echo read"

    said = run(attempt, user=USER, readable=LIBRARIES, writable=[str(mine)], file_bytes_max=1 << 20)

    assert [path.name for path in tmp_path.glob("*/x")] == ["x"]
    assert (mine / "x").exists()
    assert "read" not in said
    # The control: without the grant, its user may.
    assert "read" in run(attempt, user=USER, file_bytes_max=1 << 20)
    assert (theirs / "x").exists()


def test_a_child_makes_plain_files_where_it_may_write_and_nothing_else(tmp_path: Path) -> None:
    """Links, pipes and folders would be found by whoever looks in there afterwards, with more rights."""
    tmp_path.chmod(0o777)
    for above in tmp_path.parents:
        if not above.stat().st_mode & 0o001:
            above.chmod(0o711)
    attempt = f"cd {tmp_path}; mkdir d; ln -s /etc/passwd l; mkfifo p; echo x > new; mv new x; echo y >> x; rm -f gone"
    (tmp_path / "gone").touch()

    run(attempt, user=USER, readable=LIBRARIES, writable=[str(tmp_path)], file_bytes_max=1 << 20)

    assert {path.name for path in tmp_path.iterdir()} == {"x"}
    assert (tmp_path / "x").read_text() == "x\ny\n"
    # The control: without the grant, its user may.
    run(attempt, user=USER, file_bytes_max=1 << 20)
    assert {path.name for path in tmp_path.iterdir()} == {"x", "d", "l", "p"}


def test_a_child_that_may_write_no_file_writes_none(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        run("echo memory >&3", file.fileno(), user=USER, file_bytes_max=0)
        assert file.tell() == 0
        run("echo memory >&3", file.fileno(), user=USER, file_bytes_max=100)
        assert os.fstat(file.fileno()).st_size == 7


def test_a_child_takes_no_more_memory_than_it_is_granted() -> None:
    attempt = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null && echo taken || echo refused"

    assert run(attempt, user=USER, memory_bytes_max=32 << 20).split() == ["refused"]
    assert run(attempt, user=USER, memory_bytes_max=256 << 20).split() == ["taken"]


def test_a_user_runs_no_more_tasks_than_it_is_granted() -> None:
    attempt = "for n in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo started"

    assert "started" not in run(attempt, user=USER + 1, tasks_max=4)
    assert run(attempt.replace("sleep 1", "true"), user=USER + 1, tasks_max=40).split() == ["started"]


def test_a_child_leaves_no_core_file_not_even_through_a_pipe() -> None:
    # Linux takes a limit of exactly one byte as the word not to run the program of a core_pattern.
    assert status_limit("Max core file size") == ["1", "1"]


def status_limit(name: str) -> list[str]:
    line = next(line for line in run("cat /proc/self/limits").splitlines() if line.startswith(name))
    return line[len(name) :].split()[:2]


# What somebody does who wants to stay: a process in a session of its own, whose parent has gone.
LEAVE_ONE = "(setsid sleep 1000 &); echo left; exec sleep 1000"


def left_behind(*, starts_processes: bool) -> str:
    """What is said by a child that tries that, and by all that it has left when it has been killed."""
    reader, writer = os.pipe()
    with program() as shell:
        arguments = ["busybox", "sh", "-c", LEAVE_ONE]
        pid, pidfd = start_child(ChildSpec(shell, arguments, writer, user=USER, starts_processes=starts_processes))
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as output:
        said = output.readline().decode()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)
        for sleeper in sleepers():
            said += " alive"
            os.kill(sleeper, signal.SIGKILL)
        assert output.read() == b""  # nobody else holds the other end
    return said


def sleepers() -> list[int]:
    """The processes of our user that sleep."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and belongs_to_user(folder) and b"sleep" in (folder / "cmdline").read_bytes()
    ]


def belongs_to_user(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == USER
    except FileNotFoundError:
        return False


def test_a_child_leaves_no_process_behind() -> None:
    assert "can't fork" in left_behind(starts_processes=False)
    # The control: who may start processes leaves one that nobody knows, in a session of its own.
    assert left_behind(starts_processes=True).split() == ["left", "alive"]


PARENT = """
import os, sys, time
from tccp.core.child import ChildSpec, start_child
program = os.open("/bin/busybox", os.O_PATH)
pid, _ = start_child(ChildSpec(program, ["busybox", "sleep", "1000"], 1, user=400124))
print(pid, flush=True)
time.sleep(1000)
"""


def test_a_child_dies_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))
    try:
        parent.kill()
        # The child holds the other end of the pipe: it is closed when both are gone.
        assert parent.stdout.read() == ""
        parent.wait()
        assert select.select([child], [], [], 10)[0] == [child]
    finally:
        os.close(child)
        parent.stdout.close()


@pytest.mark.parametrize(("path", "step"), [("/etc/passwd", "execution"), ("/usr", "execution")])
def test_what_cannot_be_started_says_why_and_leaves_nothing(path: str, step: str) -> None:
    before = children()
    with program(path) as nothing, pytest.raises(HostError, match=step) as refused:
        start_child(ChildSpec(nothing, ["nothing"], 1, user=USER))

    assert refused.value.reason == "no_child"
    assert children() <= before


def children() -> set[str]:
    """The processes that this one has started and not waited for; other tests have theirs."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}
