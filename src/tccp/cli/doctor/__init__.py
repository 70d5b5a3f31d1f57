"""``tccp doctor``: is this machine ready for tccp, and if not, how to mend it."""

import argparse
from pathlib import Path

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_tcti
from tccp.cli.control import COORDINATOR_SOCKET, NODE_SOCKET
from tccp.cli.output import Screen, print_json


def add_parser(commands: Commands) -> None:
    """Add ``tccp doctor``."""
    parser = add_command(
        commands,
        "doctor",
        run,
        summary="is this machine ready for tccp, and if not, how to mend it",
        about="Looks at the TPM, libraries, CPU, permissions, daemons, their configuration, the clock and what\n"
        "VMs need; changes nothing. (Only a TPM without resource manager forgets what clients left in its slots.)\n"
        "Exits with 3 when something must be mended; warnings alone exit with 0.",
        examples=(
            "tccp doctor",
            "tccp doctor --tcti swtpm:path=/run/swtpm.sock",
            "sudo tccp doctor --json | jq '.findings[] | select(.status != \"ok\")'",
        ),
    )
    add_tcti(parser)


def run(args: argparse.Namespace) -> int:
    """Look, and report."""
    from tccp.cli.doctor import clock, configuration, cpu, libraries, permissions, tpm, vms
    from tccp.cli.doctor.finding import Status, worst
    from tccp.cli.files import read_file

    findings = [
        *tpm.findings(args.tcti),
        *libraries.findings(),
        *cpu.findings(read_file(Path(cpu.CPUINFO), bytes_max=cpu.CPUINFO_BYTES_MAX).decode("utf-8", "replace")),
        *permissions.findings(
            kvm=Path("/dev/kvm"),
            sockets={
                "coordinator": COORDINATOR_SOCKET,
                "node": NODE_SOCKET,
            },
        ),
        *configuration.findings(coordinator=Path("/etc/tccp/coordinator.toml"), node=Path("/etc/tccp/node.toml")),
        *clock.findings(clock.read_clock()),
        *vms.findings(landlock=vms.landlock_version()),
    ]
    verdict = worst(findings)
    if args.json:
        print_json({"verdict": verdict, "findings": [finding._asdict() for finding in findings]})
    else:
        screen = Screen()
        screen.table(
            ("status", "area", "found", "how to mend it"),
            [(item.status, item.area, item.found, item.mend) for item in findings],
            style_column=0,
        )
        screen.line(f"verdict: {verdict}", style=verdict)
    return exit_codes.HOST if verdict is Status.FAIL else exit_codes.OK
