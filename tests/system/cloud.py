"""A perimeter of real daemons with a tenant beside it, who has sealed a small system; the `tccp` command on both sides.

The guest's disk is a small sealed image; its kernel and initramfs are those of `tests.support.guest`.
"""

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.guest import CONSOLE, guest_kernel, make_initramfs
from tests.support.perimeter import SCRIPTS, Node, Perimeter
from tests.support.processes import command_lines

DISK_BYTES = 1 << 20
ROLES = ("kernel", "initrd", "disk", "data")
CANARY = b"canary of the tenant: nobody else may see this"
# Says what its disk begins with, writes a number there, and counts.
GUEST = """\
echo "disk: $(dd if=/dev/vda bs=16 count=1 2>/dev/null | tr -d '\\0')"
printf 'boot after boot.' | dd of=/dev/vda bs=16 count=1 conv=fsync 2>/dev/null
echo "data: $(wc -c < /sys/firmware/qemu_fw_cfg/by_name/opt/org.tccp/data/raw) bytes"
n=0; while true; do echo "still here: $n."; n=$((n + 1)); sleep 0.2; done
"""


class Cloud:
    """A perimeter with a tenant beside it, who has sealed a small system."""

    def __init__(self, perimeter: Perimeter, folder: Path) -> None:
        self.perimeter, self.folder = perimeter, folder

    def run(self, *words: object, socket: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """The `tccp` command."""
        environment = {**os.environ, "TCCP_SOCKET": str(socket or self.perimeter.control)}
        command = [str(SCRIPTS / "tccp"), *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def done(self, *words: object, socket: Path | None = None) -> dict[str, Any]:
        """The same, which must succeed and speak JSON."""
        finished = self.run(*words, "--json", socket=socket)
        assert finished.returncode == 0, finished.stderr + finished.stdout
        # A move says how far it is, a document a line; the last one is what has come of it.
        said = finished.stdout.splitlines()[-1] if "receive" in words else finished.stdout
        document: dict[str, Any] = json.loads(said)
        return document

    def prepare(self) -> None:
        """Trust, keys, images."""
        mine = self.folder
        finished = self.run("coordinator", "trust", "--tenant")
        (mine / "policy.toml").write_text(finished.stdout)
        address = f"127.0.0.1:{self.perimeter.tenants_port}"
        self.done("trust", "add", address, "--policy", mine / "policy.toml", "--store", mine / "trust")
        self.done("key", "generate", "--type", "tenant", mine / "tenant.key")
        self.done("key", "generate", mine / "me.key")
        self.done("coordinator", "tenant", "add", "acme", mine / "tenant.pub")
        (mine / "disk").write_bytes(
            b"as it was sealed" + CANARY + os.urandom(4096) + bytes(DISK_BYTES - 4112 - len(CANARY))
        )
        (mine / "data").write_bytes(CANARY)
        modules = ["qemu_fw_cfg"]
        sources = {
            "kernel": guest_kernel(),
            "initrd": make_initramfs(mine / "initrd", GUEST, modules=modules),
            "disk": mine / "disk",
            "data": mine / "data",
        }
        for name, source in sources.items():
            sealing = ("--to", mine / "me.pub", "--sign", mine / "tenant.key")
            self.done("image", "seal", source, mine / f"{name}.sealed", *sealing)

    def ticket(self, name: str, vm: str, *more: object, roles: Sequence[str] = ROLES) -> Path:
        """A ticket."""
        mine = self.folder
        images = [word for role in roles for word in (f"--{role}", mine / f"{role}.sealed")]
        terms = ("--cmdline", CONSOLE, "--memory", 192, "--policy", "tvmm")
        keys = ("--sign", mine / "tenant.key", "--key", mine / "me.key", "--store", mine / "trust")
        self.done("ticket", "create", mine / name, "--vm", mine / vm, *images, *terms, *keys, *more)
        return mine / name

    @property
    def images(self) -> list[Path]:
        """What the provider has of her."""
        return [self.folder / f"{role}.sealed" for role in ROLES]

    def launch(self, node: Node, ticket: Path, *more: object) -> dict[str, Any]:
        """Start a VM on *node*."""
        return self.done("vm", "launch", ticket, *self.images, *more, socket=node.daemon.control)

    def refused(self, node: Node, ticket: Path) -> str:
        """Be refused: the reason."""
        words = ("vm", "launch", ticket, *self.images, "--json")
        finished = self.run(*words, socket=node.daemon.control)
        assert finished.returncode != 0, finished.stdout
        return str(json.loads(finished.stdout)["error"])

    def record(self, vm_id: str) -> dict[str, Any]:
        """What the coordinator has of a VM."""
        return next(vm for vm in self.done("coordinator", "vms")["vms"] if vm["vm_id"] == vm_id)

    def show(self, node: Node, vm_id: str) -> dict[str, Any]:
        """What its node has."""
        return self.done("vm", "show", vm_id, socket=node.daemon.control)


def console_until(vm: dict[str, Any], wanted: bytes) -> bytes:
    """What the guest says, up to something."""
    said = b""
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(vm["console"])
        console.settimeout(60)
        while wanted not in said:
            more = console.recv(65_536)
            assert more, said
            said += more
    return said


def processes_of(vm_id: str) -> list[int]:
    """QEMU's."""
    return [pid for pid, words in command_lines() if any(vm_id in word for word in words)]
