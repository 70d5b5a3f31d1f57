"""``tccp coordinator init``: make a coordinator's configuration and its keys, once."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.output import Screen, print_json

CONFIG = Path("/etc/tccp/coordinator.toml")
TEMPLATE = """\
# The coordinator of a perimeter. Every key that is not here has the value shown behind a '#'.
# Nobody is admitted until there are EK authorities (or pinned keys), enrolled nodes and policies.

state_directory = "/var/lib/tccp/coordinator"

[listen]
# address = "0.0.0.0"
# port = 7443

[tpm]
# tcti = "device:/dev/tpmrm0"
# bank = "sha256"
# pcrs = [0, 2, 4, 7]

[enrolment]
# ek_authorities = "/etc/tccp/ek-authorities"      # folder of TPM makers' certificates, PEM or DER
# ek_intermediates = "/etc/tccp/ek-intermediates"  # helps to build chains, is not trusted by itself

[leases]
# seconds = 300
"""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "init",
        run,
        summary="make a coordinator's configuration and keys",
        about="Writes the configuration if there is none, then makes the keys in its state_directory. Keys are\n"
        "made once and never overwritten: they are who the coordinator is.",
        examples=("sudo tccp coordinator init", "tccp coordinator init --config ./coordinator.toml"),
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, default=CONFIG, help=f"the configuration (default: {CONFIG})"
    )


def run(args: argparse.Namespace) -> int:
    """Write what is missing."""
    from tccp.config import CoordinatorConfig, load_config
    from tccp.coordinator.identity import create_keys

    written = _write_template(args.config)
    state = Path(load_config(args.config, CoordinatorConfig).state_directory)
    keys = create_keys(state, now=datetime.now(UTC))
    _give_to_the_owner_of(state)
    if args.json:
        print_json(
            {
                "config": str(args.config),
                "config_written": written,
                "state_directory": str(state),
                "coordinator_id": keys.coordinator_id.hex(),
            }
        )
        return exit_codes.OK
    screen = Screen()
    screen.facts(
        "coordinator made",
        {
            "id": keys.coordinator_id.hex(),
            "configuration": f"{args.config} ({'written' if written else 'was there'})",
            "keys": str(state),
        },
    )
    screen.line("next: name the EK authorities in the configuration, then `systemctl enable --now tccp-coordinator`")
    return exit_codes.OK


def _write_template(path: Path) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        return False
    return True


def _give_to_the_owner_of(state: Path) -> None:
    """Let the daemon read its keys when root made them in a directory that is the daemon's already."""
    owner = state.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in (state / "keys", *(state / "keys").iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)
