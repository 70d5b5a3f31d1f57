"""Boot a VM inside a unit's sandbox and say how it went, as one JSON object on stdout.

python -m tests.support.vm_probe KERNEL INITRAMFS RUN STATE FIRST_USER
"""

import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from tccp.errors import TccpError
from tccp.node.identity import make_node_identity
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.description import VmDisk, VmImages
from tccp.node.vm.host import HostSettings, UserRange, open_host
from tccp.node.vm.keeper import boottime
from tests.support.machines import TIME_S, TestHost, booted, seal_file, secrets


async def probe(kernel: Path, initramfs: Path, run: Path, state: Path, first_user: int) -> dict[str, object]:
    """Boot, ask the guest, switch it off by the power button."""
    identity = make_node_identity("alpha")
    settings = HostSettings(run, state / "vms", UserRange(first_user, 4), "tccp-admin")
    (state / "disk").write_bytes(b"hello, disk!\n".ljust(1 << 20, b"\0"))
    disk = VmDisk(seal_file(state / "disk", state / "disk.sealed"), state / "live")
    images = VmImages(
        seal_file(kernel, state / "kernel.sealed"), seal_file(initramfs, state / "initrd.sealed"), (disk,)
    )
    issuer = VtpmIssuer("alpha", identity.signing_key, identity.statement)
    async with open_host(settings, issuer) as host, AsyncExitStack() as opened:
        await host.keeper.allow_until(boottime() + TIME_S)
        guest = await opened.enter_async_context(booted(TestHost(host, identity), images, keys=secrets(word=b"secret")))
        said = await guest.run("head -n 1 /dev/vda; cat /sys/firmware/qemu_fw_cfg/by_name/opt/org.tccp/word/raw")
        user = (settings.state / guest.vm.description.name / "vtpm").stat().st_uid
        console = guest.vm.console_path.stat()
        end = await guest.vm.shut_down()
        return {
            "said": said,
            "user": user,
            "own_user": os.getuid(),
            "console_mode": oct(console.st_mode & 0o777),
            "end": end.reason,
            "root": end.disk_roots[0] is not None,
        }


if __name__ == "__main__":
    try:
        result: object = trio.run(probe, *map(Path, sys.argv[1:5]), int(sys.argv[5]))
    except TccpError as problem:
        result = {"error": str(problem)}
    json.dump(result, sys.stdout)
