"""Children that can do less than we: csrc/child.c as one Python function."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tccp.core._lib import ffi, lib
from tccp.errors import HostError

FIRST_DESCRIPTOR = 3
UNLIMITED = (1 << 64) - 1
_STEPS = {
    lib.TCCP_CHILD_START: "process",
    lib.TCCP_CHILD_LIMITS: "limits",
    lib.TCCP_CHILD_USER: "user",
    lib.TCCP_CHILD_NETWORK: "namespaces",
    lib.TCCP_CHILD_PRIVILEGES: "privileges",
    lib.TCCP_CHILD_FILES: "landlock",
    lib.TCCP_CHILD_EXECUTE: "execution",
}


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A program to start, and what it may do; ``tccp_child`` in csrc/tccp_process.h tells what each means.

    Attributes:
        descriptors: They become `FIRST_DESCRIPTOR` and so on in the child, in this order.
        user: Whom the child becomes, with the group of the same number; None: it stays who we are.
        starts_processes: It may, and they are on their own when it is killed.
        keeps_privileges: Until it calls `give_up`; *user* is of no account then.
        readable: Files and folders that it may read and execute; None: whatever its user may.
    """

    program: int
    arguments: Sequence[str]
    output: int
    descriptors: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    extra_group: int | None = None
    file_bytes_max: int = 0
    files_max: int = 1024
    memory_bytes_max: int = UNLIMITED
    tasks_max: int = 256
    starts_processes: bool = False
    keeps_privileges: bool = False
    readable: Sequence[str] | None = None
    writable: Sequence[str] = ()


def start_child(spec: ChildSpec) -> tuple[int, int]:
    """Start it: its process id, and a descriptor that can be read when it has ended. Only from the main thread.

    Raises:
        HostError: ``no_child``: this machine, or who we are on it, does not allow something of it; nothing runs.
    """
    kept: list[Any] = []

    def strings(values: Sequence[str]) -> Any:
        cells = [ffi.new("char[]", os.fsencode(value)) for value in values]
        array = ffi.new("char *[]", [*cells, ffi.NULL])
        kept.extend([*cells, array])
        return array

    assert all("\0" not in value for value in (*spec.arguments, *spec.environment.values()))
    descriptors = ffi.new("int[]", list(spec.descriptors))
    child = ffi.new("tccp_child *")
    child.program = spec.program
    child.arguments = strings(spec.arguments)
    child.environment = strings([f"{name}={value}" for name, value in spec.environment.items()])
    child.descriptors = descriptors
    child.descriptor_count = len(spec.descriptors)
    child.output = spec.output
    child.user = lib.TCCP_CHILD_SAME_USER if spec.user is None else spec.user
    child.extra_group = lib.TCCP_CHILD_NO_GROUP if spec.extra_group is None else spec.extra_group
    child.file_bytes_max = spec.file_bytes_max
    child.files_max = spec.files_max
    child.memory_bytes_max = spec.memory_bytes_max
    child.tasks_max = spec.tasks_max
    child.starts_processes = spec.starts_processes
    child.keeps_privileges = spec.keeps_privileges
    child.readable = ffi.NULL if spec.readable is None else strings(spec.readable)
    child.writable = strings(spec.writable)
    pid, pidfd, step = ffi.new("int *"), ffi.new("int *"), ffi.new("int *")
    status = lib.tccp_child_start(child, pid, pidfd, step)
    if status != lib.TCCP_OK:
        assert status == lib.TCCP_ERR_IO, "bug in tccp.core.child"
        why = os.strerror(ffi.errno)
        raise HostError("no_child", f"{spec.arguments[0]}: {_STEPS.get(step[0], 'pipe')}: {why}")
    return int(pid[0]), int(pidfd[0])


def give_up(user: int | None, parent: int) -> None:
    """In a child with ``keeps_privileges``: have what any other child has from the start, as *user*. For good.

    Args:
        parent: The process id of the parent when this child was started.

    Raises:
        HostError: ``no_child``.
    """
    step = ffi.new("int *")
    status = lib.tccp_child_give_up(lib.TCCP_CHILD_SAME_USER if user is None else user, parent, step)
    if status != lib.TCCP_OK:
        raise HostError("no_child", f"{_STEPS.get(step[0], 'process')}: {os.strerror(ffi.errno)}")
