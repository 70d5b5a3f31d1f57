"""Numbers that this process has to itself on this machine: ports, users of VMs. Tests run in several processes.

Each is held by an abstract Unix socket that is named after it, so that it is free again when the process has ended,
however that came about.
"""

import random
import socket
from collections.abc import Callable

# Below the ports that the kernel gives to connections: nobody gets one by chance between our look and our use.
_PORTS = range(20_000, 30_000)
_USERS = range(500_000, 1_000_000, 100)
_held: list[socket.socket] = []


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on and that stays ours."""
    return _reserve("port", _PORTS, _nobody_listens)


def free_users() -> int:
    """The first of 100 users who own nothing on this machine: the kernel counts processes by user."""
    return _reserve("users", _USERS, lambda _first: True)


def _reserve(kind: str, numbers: range, usable: Callable[[int], bool]) -> int:
    for number in random.sample(numbers, len(numbers)):
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0tccp-test-{kind}-{number}")
        except OSError:
            holder.close()
            continue
        _held.append(holder)
        if usable(number):
            return number
    raise RuntimeError(f"no {kind} left")


def _nobody_listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
