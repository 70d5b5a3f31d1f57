"""``tccp witness``: make a witness, say its key, run it."""

import argparse
import os
from pathlib import Path

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_group
from tccp.cli.output import Screen, print_json

CONFIG = Path("/etc/tccp/witness.toml")


def add_parser(commands: Commands) -> None:
    """Add ``tccp witness`` and what is below it."""
    group = add_group(
        commands,
        "witness",
        summary="cosign the heads of logs, so that nobody is shown another history",
        about="A witness is worth something when neither the coordinator's people nor the provider's run it.",
        examples=("sudo tccp witness init --name witness.example.net/w1", "tccp witness key"),
    )
    init = add_command(
        group,
        "init",
        run_init,
        summary="make a witness's configuration, key and memory",
        about="Writes the configuration if there is none. The key is made once and never overwritten. Give the line\n"
        "that is printed to the coordinator ([[witness]] key) and to tenants (for their policies).",
        examples=("sudo tccp witness init --name witness.example.net/w1",),
    )
    init.add_argument("--name", metavar="NAME", help="what it is called, where there is no configuration yet")
    key = add_command(
        group,
        "key",
        run_key,
        summary="print the public key of this witness",
        about="As name+id+key, which coordinators and tenants write into their files.",
        examples=("tccp witness key",),
    )
    serve = add_command(
        group,
        "serve",
        run_serve,
        summary="run the witness in the foreground",
        about="What tccp-witness.service runs. HTTP: POST /add-checkpoint, as C2SP tlog-witness says.",
        examples=("tccp witness serve --config ./witness.toml",),
    )
    for parser in (init, key, serve):
        parser.add_argument(
            "--config", metavar="FILE", type=Path, default=CONFIG, help=f"the configuration (default: {CONFIG})"
        )


def run_init(args: argparse.Namespace) -> int:
    """Write what is missing."""
    from tccp.cli.exit_codes import UsageError
    from tccp.config import WitnessConfig, load_config
    from tccp.transparency.note import is_key_name
    from tccp.witness.keys import create_witness

    if not args.config.exists():
        if not args.name or not is_key_name(args.name) or not args.name.isprintable() or '"' in args.name:
            raise UsageError(
                "usage", "--name: a new witness needs a name without blanks", hint="A host name, for example."
            )
        args.config.parent.mkdir(parents=True, exist_ok=True)
        args.config.write_text(_configuration(args.name), encoding="utf-8")
    config = load_config(args.config, WitnessConfig)
    if args.name and args.name != config.name:
        raise UsageError("usage", f"--name {args.name}: {args.config} says {config.name!r}", hint="Change one of them.")
    state = Path(config.state_directory)
    key = create_witness(state, config.name).key
    _give_to_the_owner_of(state)
    if args.json:
        print_json({"name": key.name, "key": str(key), "config": str(args.config), "state_directory": str(state)})
    else:
        Screen().facts("witness made", {"key": str(key), "configuration": str(args.config), "state": str(state)})
    return exit_codes.OK


def run_key(args: argparse.Namespace) -> int:
    """Print it."""
    from tccp.config import WitnessConfig, load_config
    from tccp.witness.keys import load_signer

    config = load_config(args.config, WitnessConfig)
    key = load_signer(Path(config.state_directory), config.name).key
    if args.json:
        print_json({"name": key.name, "key": str(key)})
    else:
        Screen().line(str(key))
    return exit_codes.OK


def run_serve(args: argparse.Namespace) -> int:
    """Become the daemon, whose own complaints are text, when its configuration is one."""
    from tccp.config import WitnessConfig, load_config
    from tccp.witness.daemon import main

    load_config(args.config, WitnessConfig)
    return main(["--config", str(args.config)])


def _configuration(name: str) -> str:
    from tccp.config.files import file_called
    from tccp.config.rendering import example_file
    from tccp.config.schema import toml

    lines = example_file(file_called("witness")).split("\n")
    return "\n".join(f"name = {toml(name)}" if line.startswith("name = ") else line for line in lines)


def _give_to_the_owner_of(state: Path) -> None:
    """Let the daemon read what root made in a directory that is the daemon's already."""
    owner = state.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        # What is a link there, or becomes one now, the daemon may have made: it would get the file of somebody else.
        for _, folders, files, folder in os.fwalk(state):
            for name in (*folders, *files):
                os.chown(name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)
