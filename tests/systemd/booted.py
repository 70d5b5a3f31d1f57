"""Our units, installed in a booted machine, and ways to talk to what they start."""

import json
import shlex
from pathlib import Path
from typing import Any

from tests.support.booted_systemd import PYTHON, BootedSystemd

UNITS = Path(__file__).parents[2] / "systemd"
CONTROL = {"coordinator": "/run/tccp/coordinator/control.sock", "node": "/run/tccp/node/control.sock"}
SOCKETS = {
    "coordinator": [
        "tccp-coordinator.socket",
        "tccp-coordinator-tenants.socket",
        "tccp-coordinator-log.socket",
        "tccp-coordinator-control.socket",
    ],
    "node": ["tccp-node.socket"],
}
TALK = """
import socket, sys
target, words = sys.argv[1:]
host, _, port = target.rpartition(":")
stream = socket.create_connection((host, int(port))) if host else socket.socket(socket.AF_UNIX)
if not host: stream.connect(target)
stream.sendall(words.encode())
sys.stdout.write(stream.makefile().readline())
"""


def install(machine: BootedSystemd) -> None:
    """Do what a package's installation does, and no more."""
    for path in [*UNITS.glob("*.service"), *UNITS.glob("*.socket")]:
        machine.write(f"/usr/lib/systemd/system/{path.name}", path.read_text())
    for folder in ("sysusers.d", "tmpfiles.d"):
        machine.write(f"/usr/lib/{folder}/tccp.conf", (UNITS / folder / "tccp.conf").read_text())
    machine.run("systemd-sysusers", "tccp.conf")
    machine.run("systemd-tmpfiles", "--create", "tccp.conf")
    machine.run("systemctl", "daemon-reload")


def command(machine: BootedSystemd, name: str, *python_arguments: str) -> None:
    """Make /usr/bin/*name*, as the package has it: our Python with *python_arguments*, then what the unit says."""
    words = shlex.join([*PYTHON, *python_arguments])
    machine.write(f"/usr/bin/{name}", f'#!/bin/sh\nexec {words} "$@"\n', mode="755")


def drop_in(machine: BootedSystemd, unit: str, name: str, text: str) -> None:
    """Change *unit* as an operator does, with a file of its own."""
    machine.write(f"/etc/systemd/system/{unit}.d/{name}.conf", text)
    machine.run("systemctl", "daemon-reload")


def ask(machine: BootedSystemd, target: str, word: str, user: str = "root") -> dict[str, Any]:
    """Send *word* to the test service behind the socket *target* (a path or HOST:PORT), and return its answer."""
    answer: dict[str, Any] = json.loads(machine.run(*PYTHON, "-c", TALK, target, word, user=user))
    return answer
