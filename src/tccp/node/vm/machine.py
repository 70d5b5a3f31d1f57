"""From a description to QEMU's argument list. Pure: descriptors and paths come in, strings come out.

What a tenant chose is either a number, or an argument of its own that QEMU does not take apart; what has a structure
is JSON. Nothing is put into an option string with commas.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tccp.node.vm.description import VmDescription

Accelerator = Literal["kvm", "tcg"]

TCG_BUFFER_MIB = 64
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True, slots=True)
class Wiring:
    """The descriptors that QEMU inherits, by the numbers that they have there."""

    qmp: int
    console: int
    vtpm: int
    kernel: int | None
    initrd: int | None
    disks: Sequence[int]
    secrets: Mapping[str, int]


def qemu_arguments(
    machine: VmDescription,
    wiring: Wiring,
    *,
    accelerator: Accelerator,
    data_folders: Sequence[str],
    ovmf: Path,
    lock_memory: bool,
    awaits_state: bool = False,
) -> list[str]:
    """Everything but the program's name. The machine is paused, and has nothing that is not named here.

    Args:
        data_folders: Where QEMU's own firmware lies.
        ovmf: The UEFI firmware; it has no store for variables, so that each boot is like the first.
        lock_memory: Keep all of it out of swap; the limit on locked memory must allow it.
        awaits_state: Do not begin from power-on, but from a state that comes by a descriptor later.
    """
    arguments = ["-nodefaults", "-no-user-config", "-display", "none", "-S", "-sandbox", SANDBOX]
    if awaits_state:
        arguments += ["-incoming", "defer"]
    for folder in data_folders:
        arguments += ["-L", folder]
    arguments += ["-M", "q35,smm=off,vmport=off,usb=off,graphics=off,dump-guest-core=off,mem-merge=off"]
    arguments += _accelerator(accelerator)
    arguments += ["-smp", str(machine.vcpus), "-m", str(machine.memory_mib)]
    if lock_memory:
        arguments += ["-overcommit", "mem-lock=on"]
    if machine.firmware == "uefi":
        arguments += ["-blockdev", _json(driver="file", filename=str(ovmf), **{"node-name": "ovmf", "read-only": True})]
        arguments += ["-machine", "pflash0=ovmf"]
    arguments += ["-chardev", f"socket,id=qmp,fd={wiring.qmp}", "-mon", "chardev=qmp,mode=control"]
    arguments += ["-chardev", f"socket,id=console,fd={wiring.console}", "-serial", "chardev:console"]
    arguments += ["-chardev", f"socket,id=vtpm,fd={wiring.vtpm}", "-tpmdev", "emulator,id=vtpm,chardev=vtpm"]
    arguments += ["-device", _json(driver="tpm-crb", tpmdev="vtpm")]
    arguments += ["-object", _json(**{"qom-type": "rng-random"}, id="random", filename="/dev/urandom")]
    arguments += ["-device", _json(driver="virtio-rng-pci", rng="random")]
    arguments += _boot(machine, wiring)
    for number, descriptor in enumerate(wiring.disks):
        arguments += _disk(number, descriptor)
    for name, descriptor in wiring.secrets.items():
        arguments += ["-fw_cfg", f"name=opt/org.tccp/{name},file={_path(descriptor)}"]
    return arguments


def _accelerator(accelerator: Accelerator) -> list[str]:
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    # Two mappings of the translated code, so that no memory is both writable and executable.
    return ["-accel", f"tcg,split-wx=on,tb-size={TCG_BUFFER_MIB}", "-cpu", "max"]


def _boot(machine: VmDescription, wiring: Wiring) -> list[str]:
    if wiring.kernel is None:
        return []
    arguments = ["-kernel", _path(wiring.kernel), "-append", machine.cmdline]
    if wiring.initrd is not None:
        arguments += ["-initrd", _path(wiring.initrd)]
    return arguments


def _disk(number: int, descriptor: int) -> list[str]:
    server = {"type": "fd", "str": str(descriptor)}
    node = f"disk{number}"
    return [
        "-blockdev",
        # Of its status QEMU is told what the guest has changed: a move carries that, for the images are there already.
        _json(driver="nbd", server=server, discard="unmap", **{"node-name": node, "x-dirty-bitmap": "tccp:changed"}),
        "-device",
        _json(driver="virtio-blk-pci", drive=node, id=f"virtio-{node}"),
    ]


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _json(**options: Any) -> str:
    return json.dumps(options)
