"""A VM inside the sandbox of the node's unit: everything that it needs is left to it."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted_systemd import BootedSystemd
from tests.support.guest import guest_kernel, make_initramfs
from tests.support.machines import FIRST_USER, SHELL_SCRIPT
from tests.systemd.booted import UNITS, command

SERVICE = """
[Service]
Type=oneshot
ExecStart=
ExecStart=/usr/bin/tccp-vm-probe {folder}/kernel {folder}/initramfs /run/tccp/node/vms /var/lib/tccp/node {first_user}
Restart=no
WatchdogSec=0
TimeoutStartSec=120
Sockets=
StandardOutput=truncate:/run/tccp-vm-probe.json
StandardError=truncate:/run/tccp-vm-probe.err
"""

WAIT = """
sleep 1; while [ "$(systemctl is-active tccp-vm-probe.service)" = activating ]; do sleep 0.2; done
systemctl is-active tccp-vm-probe.service
"""


@pytest.fixture
def guest_files() -> Iterator[Path]:
    """A kernel and an initramfs where every service may read them."""
    with tempfile.TemporaryDirectory(dir="/opt", prefix="tccp-vm-probe-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        shutil.copy(guest_kernel(), path / "kernel")
        make_initramfs(path / "initramfs", SHELL_SCRIPT, modules=["qemu_fw_cfg", "button", "evdev"])
        yield path


def test_the_unit_of_the_node_leaves_vms_what_they_need(machine: BootedSystemd, guest_files: Path) -> None:
    command(machine, "tccp-vm-probe", "-m", "tests.support.vm_probe")
    unit = (UNITS / "tccp-node.service").read_text()
    lines = [line + "\n" for line in unit.splitlines() if not line.startswith(("Requires=", "After="))]
    service = SERVICE.format(folder=guest_files, first_user=FIRST_USER)
    machine.write("/run/systemd/system/tccp-vm-probe.service", "".join(lines) + service)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "--no-block", "tccp-vm-probe.service")
    for _ in range(5):  # a command in the machine has 30 s
        if "activating" not in machine.run("timeout", "25", "sh", "-c", WAIT, check=False):
            break

    said = machine.run("cat", "/run/tccp-vm-probe.json", "/run/tccp-vm-probe.err")
    answers = [line for line in said.splitlines() if line.startswith("{")]
    assert answers, said
    result = json.loads(answers[0])
    assert "error" not in result, result
    assert result == {
        "said": ["hello, disk!", "secret"],
        "user": FIRST_USER,
        "own_user": result["own_user"],
        "console_mode": "0o660",
        "end": "shut_down",
        "root": True,
    }
    assert result["own_user"] not in {0, FIRST_USER}
    # And the unit keeps the memory of VMs out of swap.
    assert machine.show("tccp-vm-probe.service", "MemorySwapMax") == "0"
    assert machine.show("tccp-vm-probe.service", "LimitMEMLOCK") == "infinity"
