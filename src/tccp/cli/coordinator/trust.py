"""``tccp coordinator trust``: what nodes must know of this coordinator."""

import argparse
import sys

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask
from tccp.cli.output import print_json


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "trust",
        run,
        summary="print the trust file for the nodes",
        about="It names the coordinator's identity, its TPM's attestation key and PCR values, and holds the door\n"
        "key that lets a node knock. Carry it to the nodes by a way that you trust.",
        examples=("tccp coordinator trust > coordinator-trust.toml",),
    )
    add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from tccp.protocol.control import GetTrust, TrustFile

    trust = ask(args, GetTrust(), TrustFile)
    if args.json:
        print_json({"trust": trust.body.decode("utf-8", "replace")})
    else:
        sys.stdout.buffer.write(trust.body)
    return exit_codes.OK
