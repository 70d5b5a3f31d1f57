"""A machine of the tests' own: the real systemd as process 1 of its own namespaces, driven from outside.

`boot` takes two to four seconds. It needs root, directly or by ``sudo -n``, and says so when it cannot have it.
"""

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

SCRIPT = Path(__file__).with_suffix(".sh")
REPOSITORY = Path(__file__).parents[2]
BOOT_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 60
AS_ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]
# How our Python runs in there: this interpreter and these packages, at the places where the machine has them.
PYTHON = [
    "env",
    f"PYTHONPATH=/opt/tccp/src:/opt/tccp:/opt/tccp/{Path(structlog.__file__).parents[1].relative_to(REPOSITORY)}",
    "PYTHONDONTWRITEBYTECODE=1",
    "LD_LIBRARY_PATH=/opt/python/lib",
    f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}",
]


class BootedSystemd:
    """The running machine; *first_process* is its systemd's process id as seen from outside."""

    def __init__(self, first_process: int) -> None:
        self.first_process = first_process
        self._enter = [*AS_ROOT, "nsenter", f"--target={first_process}", "--all", "--root", "--wd"]

    def run(
        self,
        *command: str,
        user: str = "root",
        stdin: str = "",
        check: bool = True,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> str:
        """Run *command* inside and return its output.

        Raises:
            AssertionError: It failed, with all that it wrote, or took too long, with the machine's journal.
        """
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        as_user = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        try:
            done = subprocess.run(
                [*self._enter, *clean, *as_user, *command],
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            assert command[0] != "journalctl"
            journal = self.run("journalctl", "--no-pager", "--lines=40", check=False)
            raise AssertionError(f"{command} took over {timeout_s} s; the journal:\n{journal}") from error
        assert not check or done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Make the file *path* in there, and its folder."""
        self.run("install", "-D", f"--mode={mode}", "/dev/stdin", path, stdin=text)

    def show(self, unit: str, name: str) -> str:
        """The property *name* of *unit*, as ``systemctl show`` prints it."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).strip()

    def wait_for_exit(self, pid: int) -> None:
        """Return when the process *pid* (as numbered inside) has ended; at once when there is none."""
        script = (
            "import os, select, sys\n"
            "try: handle = os.pidfd_open(int(sys.argv[1]))\n"
            "except ProcessLookupError: sys.exit()\n"
            "select.select([handle], [], [])"
        )
        self.run(*PYTHON, "-c", script, str(pid))


@contextmanager
def boot(folder: Path) -> Iterator[BootedSystemd]:
    """Boot a machine, and switch it off in the end. *folder* keeps its console, ``console.log``.

    Raises:
        AssertionError: This machine does not let us; the message says what is needed.
    """
    for program in ("unshare", "nsenter", "systemctl", *AS_ROOT[:1]):
        assert shutil.which(program), f"booting systemd needs the program {program}; see tools/apt-packages.txt"
    console = folder / "console.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications, console.open("wb") as log:
        notifications.bind(str(folder / "notify"))
        machine = subprocess.Popen(
            [*AS_ROOT, "bash", SCRIPT, REPOSITORY, sys.base_prefix, folder / "notify"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_booted(machine, notifications, console)
            booted = BootedSystemd(_first_process(machine.pid))
            booted.run("systemctl", "log-target", "journal")
            yield booted
        finally:
            assert machine.stdin
            machine.stdin.close()
            machine.wait()


def _wait_until_booted(machine: subprocess.Popen[bytes], notifications: socket.socket, console: Path) -> None:
    ended = os.pidfd_open(machine.pid)
    try:
        while True:
            ready, _, _ = select.select([notifications, ended], [], [], BOOT_TIMEOUT_S)
            if notifications not in ready:
                break
            if b"READY=1" in notifications.recv(4096).split(b"\n"):
                return
    finally:
        os.close(ended)
    raise AssertionError(
        "systemd does not boot in namespaces here. That needs root (or sudo without a password), the right to mount "
        "and to make namespaces (in a container: --privileged), overlayfs, and cgroup2. What it said:\n"
        + console.read_text(errors="replace")[-2000:]
    )


def _first_process(ancestor: int) -> int:
    """The descendant that is process 1 of another process namespace than ours."""
    waiting = [ancestor]
    while waiting:
        pid = waiting.pop()
        status = Path(f"/proc/{pid}/status").read_text()
        namespace_pids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        if len(namespace_pids) > 1 and namespace_pids[-1] == "1":
            return pid
        waiting += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    raise AssertionError("systemd said READY and is gone")
