"""What the doctor says of a machine that is to run VMs."""

from pathlib import Path

import pytest

from tccp.cli.doctor import vms
from tccp.cli.doctor.finding import Status

CLOSED = {
    "usr/bin/qemu-system-x86_64": "",
    "usr/bin/swtpm": "",
    "usr/share/OVMF/OVMF_CODE_4M.fd": "",
    "proc/sys/kernel/yama/ptrace_scope": "3\n",
    "sys/kernel/security/lockdown": "none integrity [confidentiality]\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "proc/sys/fs/suid_dumpable": "0\n",
    "proc/sys/user/max_user_namespaces": "1000\n",
}


def machine(root: Path, **changes: str | None) -> dict[str, Status]:
    for path, text in {**CLOSED, **changes}.items():
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    return {finding.check: finding.status for finding in vms.findings(root, landlock=5)}


def test_a_closed_box_is_well(tmp_path: Path) -> None:
    assert set(machine(tmp_path).values()) == {Status.OK}


@pytest.mark.parametrize(
    ("path", "text", "check"),
    [
        ("usr/bin/swtpm", None, "swtpm"),
        ("usr/bin/qemu-system-x86_64", None, "qemu"),
        ("usr/share/OVMF/OVMF_CODE_4M.fd", None, "ovmf"),
        ("proc/sys/kernel/yama/ptrace_scope", "1", "ptrace"),
        ("proc/sys/kernel/yama/ptrace_scope", None, "ptrace"),
        ("sys/kernel/security/lockdown", "[none] integrity confidentiality", "lockdown"),
        ("proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n", "swap"),
        ("proc/sys/fs/suid_dumpable", "2", "core_files"),
        ("proc/sys/user/max_user_namespaces", "0", "namespaces"),
    ],
)
def test_each_opening_is_named_with_what_closes_it(tmp_path: Path, path: str, text: str | None, check: str) -> None:
    found = machine(tmp_path, **{path: text})

    assert [name for name, status in found.items() if status is not Status.OK] == [check]
    assert next(finding for finding in vms.findings(tmp_path, landlock=5) if finding.check == check).mend.endswith(".")


def test_a_kernel_without_landlock_is_named(tmp_path: Path) -> None:
    machine(tmp_path)

    found = {finding.check: finding.status for finding in vms.findings(tmp_path, landlock=-1)}
    assert found["landlock"] is Status.WARN
    assert vms.landlock_version() > 0
