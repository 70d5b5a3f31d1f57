"""Whether this host can run guests on its processor's own virtualization. Decided by running something on it.

That /dev/kvm can be opened says little: in a VM without nested virtualization, or with half of it, the first guest
fails. So QEMU's firmware is started with just the processor that guests get, and must come as far as its last words.
"""

import socket

import trio

from tccp.core.child import ChildSpec
from tccp.errors import HostError
from tccp.node.vm.child import start
from tccp.node.vm.machine import SANDBOX, Accelerator
from tccp.node.vm.sandbox import QEMU_DATA, QEMU_DEVICES, QEMU_ENVIRONMENT, QEMU_FILES

PROBE_S = 5.0
_SAID_BY_FIRMWARE = b"SeaBIOS"


async def probe_accelerator(qemu: int, *, user: int | None, group: int | None) -> Accelerator:
    """``kvm`` when a guest runs on it, as confined as guests are; else ``tcg``, which translates."""
    if group is None:
        return "tcg"
    ours, theirs = socket.socketpair()
    arguments = ["qemu-probe", "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX]
    arguments += [
        *(option for folder in QEMU_DATA for option in ("-L", folder)),
        "-M",
        "q35",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "64",
    ]
    arguments += ["-chardev", "socket,id=debug,fd=3", "-device", "isa-debugcon,iobase=0x402,chardev=debug"]
    spec = ChildSpec(
        qemu,
        arguments,
        output=-1,
        descriptors=[theirs.fileno()],
        environment=QEMU_ENVIRONMENT,
        user=user,
        extra_group=group,
        readable=QEMU_FILES,
        writable=QEMU_DEVICES,
    )
    connection = trio.socket.from_stdlib_socket(ours)
    with connection:
        async with trio.open_nursery() as nursery:
            try:
                with theirs:
                    child = await start("probe", spec, nursery)
            except HostError:
                return "tcg"
            said = b""
            with trio.move_on_after(PROBE_S):
                while _SAID_BY_FIRMWARE not in said and (data := await connection.recv(4096)):
                    said += data
            await child.kill()
    return "kvm" if _SAID_BY_FIRMWARE in said else "tcg"
