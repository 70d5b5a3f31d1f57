"""``tccp coordinator init``: make a coordinator's configuration and its keys, once."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.coordinator.keys.common import add_authority, add_config, found_keys
from tccp.cli.output import Screen, print_json


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "init",
        run,
        summary="make a coordinator's configuration and keys",
        about="Writes the configuration if there is none, then makes the keys in its state_directory, once: they are\n"
        "who the coordinator is. They are sealed to this machine's TPM, which gives them back in the states that the\n"
        "update authority approves. Without --authority a new one is made beside the configuration, and approves the\n"
        "present state: take its secret key off this machine. Backups are made by `tccp coordinator keys backup`.",
        examples=("sudo tccp coordinator init", "sudo tccp coordinator init --authority update-authority.pub"),
    )
    add_config(parser)
    add_authority(parser)


def run(args: argparse.Namespace) -> int:
    """Write what is missing."""
    from tccp.config import CoordinatorConfig, load_config
    from tccp.coordinator.custody.key_set import fresh_key_set
    from tccp.store import EventKind

    written = _write_template(args.config)
    config = load_config(args.config, CoordinatorConfig)
    keys = fresh_key_set(now=datetime.now(UTC))
    found = found_keys(args, config, keys, EventKind.KEYS_SEALED)
    if args.json:
        print_json(
            {
                "config": str(args.config),
                "config_written": written,
                "state_directory": config.state_directory,
                "coordinator_id": keys.coordinator_id.hex(),
                **found.document,
            }
        )
        return exit_codes.OK
    screen = Screen()
    screen.facts(
        "coordinator made",
        {
            "id": keys.coordinator_id.hex(),
            "configuration": f"{args.config} ({'written' if written else 'was there'})",
            "keys": f"{config.state_directory}/keys, sealed to the TPM at {config.tpm.tcti}",
        },
    )
    found.say(screen)
    screen.line("next: name the EK authorities in the configuration, then `systemctl enable --now tccp-coordinator`")
    return exit_codes.OK


def _write_template(path: Path) -> bool:
    from tccp.config.files import file_called
    from tccp.config.rendering import example_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(example_file(file_called("coordinator")))
    except FileExistsError:
        return False
    return True
