"""The units by systemd's own gates; each gate is shown to close, too."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
ALL = sorted(path.name for path in UNITS.iterdir() if path.is_file() and path.suffix in {".service", ".socket"})
# Tenths of systemd's "exposure", 0 (nothing) to 100. Who must call somebody pays 10 for that alone; a node runs VMs as
# users of their own in namespaces of their own, which costs 12 more.
EXPOSURE_MAX = {
    "tccp-coordinator.service": 4,
    "tccp-node.service": 25,
    "tccp-witness.service": 2,
    "tccp-feeder.service": 11,
    "tccp-notifier.service": 13,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units, and the commands that they name as they are named after an installation of ours."""
    for name in ALL:
        shutil.copy(UNITS / name, tmp_path)
    for service in SERVICES:
        command = tmp_path / service.removesuffix(".service")
        command.write_text("#!/bin/sh\n")
        command.chmod(0o755)
        drop_in = tmp_path / f"{service}.d" / "test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(f"[Service]\nExecStart=\nExecStart={command} --config /etc/tccp/x.toml\n")
    return tmp_path


def verify(folder: Path, *names: str) -> str:
    """What systemd says against the units, or nothing. Without --recursive-errors it would exit with 0 in any case."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *(folder / name for name in names)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_LOG_LEVEL": "warning"},
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "tccp-" in line or str(folder) in line]
    assert not ours or done.returncode != 0
    return done.stderr if done.returncode != 0 else ""


@pytest.mark.parametrize("unit", ALL)
def test_systemd_understands_every_line(folder: Path, unit: str) -> None:
    assert verify(folder, unit) == ""


@pytest.mark.parametrize("mistake", ["ProtectSytem=strict", "WatchdogSec=soon", "SystemCallFilter=@sytem-service"])
def test_a_mistake_in_a_unit_is_found(folder: Path, mistake: str) -> None:
    unit = folder / "tccp-coordinator.service"
    unit.write_text(unit.read_text().replace("[Service]", f"[Service]\n{mistake}"))

    assert verify(folder, unit.name) != ""


def exposure(path: Path, threshold: int) -> tuple[bool, str]:
    """Whether the unit stays under *threshold*, and what was said."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={threshold}", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Overall exposure level" in done.stdout, done.stderr
    return done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_the_sandbox_stays_as_tight_as_it_is(service: str) -> None:
    tight, report = exposure(UNITS / service, EXPOSURE_MAX[service])

    assert tight, report


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "protection", ["ProtectSystem=", "ProtectHome=", "NoNewPrivileges=", "CapabilityBoundingSet=", "PrivateDevices="]
)
def test_a_sandbox_with_a_hole_is_found(tmp_path: Path, service: str, protection: str) -> None:
    lines = (UNITS / service).read_text().splitlines(keepends=True)
    holed = [line for line in lines if not line.startswith(protection)]
    assert len(holed) == len(lines) - 1
    (tmp_path / service).write_text("".join(holed))

    assert not exposure(tmp_path / service, EXPOSURE_MAX[service])[0]
