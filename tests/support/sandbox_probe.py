"""What a taken-over daemon would try: each attempt with "yes" or the reason why not, as one JSON object on stdout.

Run it inside a unit: the sandbox is around the process, whatever its code is.
"""

import contextlib
import ctypes
import json
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER = 0x10000000


def write_program() -> None:
    Path("/usr/local/bin/backdoor").write_text("#!/bin/sh\n")


def write_own_state() -> None:
    Path(os.environ["STATE_DIRECTORY"], "probe").write_text("")


def read_root_home() -> None:
    os.listdir("/root")  # noqa: PTH208 - the right, not the paths


def see_other_processes() -> None:
    others = {name for name in os.listdir("/proc") if name.isdigit()} - {str(os.getpid())}  # noqa: PTH208
    if not others:
        raise PermissionError("no other process is visible")


def make_memory_executable() -> None:
    with contextlib.closing(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)):
        pass


def make_a_user_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_a_set_uid_program() -> None:
    path = Path("/var/tmp/tccp-probe")  # noqa: S108 - the folder that everybody may write is the point
    path.write_text("")
    path.chmod(0o4755)


def open_an_internet_socket() -> None:
    socket.socket(socket.AF_INET).close()


def listen_for_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        pass


def take_datagrams() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind(("127.0.0.1", 0))


def open_a_raw_netlink_socket() -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def leave_memory_in_a_core_file() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        raise PermissionError("core files are limited to 0 bytes")


def open_a_device() -> None:
    Path("/dev/tccp-other").open("rb").close()


def open_the_tpm() -> None:
    with Path("/dev/tpmrm0").open("rb") as tpm:
        tpm.read(1)


ATTEMPTS: list[Callable[[], None]] = [
    write_program, write_own_state, read_root_home, see_other_processes, make_memory_executable, make_a_user_namespace,
    make_a_set_uid_program, open_an_internet_socket, listen_for_connections, take_datagrams, open_a_raw_netlink_socket,
    leave_memory_in_a_core_file, open_a_device, open_the_tpm,
]  # fmt: skip


def outcome(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except (OSError, KeyError) as error:
        return str(error)
    return "yes"


if __name__ == "__main__":
    json.dump({attempt.__name__: outcome(attempt) for attempt in ATTEMPTS}, sys.stdout)
