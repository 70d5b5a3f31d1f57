"""What a process that serves a disk can no longer do, even if somebody makes it run her code."""

import subprocess
import sys

import pytest

ATTEMPT = """
import ctypes, fcntl, os, pty, socket, subprocess, sys, termios
from tccp.core.disk import confine
from tccp.core.process import harden
libc = ctypes.CDLL(None, use_errno=True)
terminal, _ = pty.openpty()
ATTEMPTS = {
    "open": lambda: open("/etc/passwd"),
    "make": lambda: open("/dev/null", "w"),
    "connect": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "run": lambda: os.execv("/bin/true", ["true"]),
    "trace": lambda: libc.ptrace(0, 0, 0, 0) == 0 or (_ for _ in ()).throw(OSError(ctypes.get_errno(), "ptrace")),
    "kill": lambda: os.kill(os.getppid(), 0),
    "fork": lambda: os.fork() or os._exit(0),
    "terminal": lambda: fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)),
}
if sys.argv[2] == "confined":
    harden()
    confine()
try:
    ATTEMPTS[sys.argv[1]]()
except PermissionError:
    os._exit(77)
os._exit(0)
"""


def attempt(what: str, state: str) -> int:
    command = [sys.executable, "-c", ATTEMPT, what, state]
    return subprocess.run(command, check=False, capture_output=True).returncode


@pytest.mark.parametrize("what", ["open", "make", "connect", "run", "trace", "kill", "fork", "terminal"])
def test_a_confined_process_is_refused_what_serving_does_not_need(what: str) -> None:
    assert attempt(what, "confined") == 77
    # The control: the same process, not confined, may.
    assert attempt(what, "free") == 0
