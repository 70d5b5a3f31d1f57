"""``tccp coordinator trust``: what nodes, and tenants, must know of this coordinator."""

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
        summary="print the trust file for the nodes, or a policy for tenants",
        about="It names the coordinator's identity, its TPM's attestation key and PCR values, and holds the door\n"
        "key that lets a node knock. Carry it to the nodes by a way that you trust.\n"
        "With --tenant: the policy that this coordinator fulfils now, for `tccp trust add`; nothing in it is secret.",
        examples=(
            "tccp coordinator trust > coordinator-trust.toml",
            "tccp coordinator trust --tenant > tc-policy.toml",
        ),
    )
    parser.add_argument("--tenant", action="store_true", help="print a policy for tenants instead")
    add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from tccp.protocol.control import CoordinatorStatus, GetStatus, GetTrust, TrustFile

    body = ask(args, GetTrust(), TrustFile).body
    if args.tenant:
        body = tenant_policy(body, ask(args, GetStatus(), CoordinatorStatus).software)
    if args.json:
        print_json({"trust": body.decode("utf-8", "replace")})
    else:
        sys.stdout.buffer.write(body)
    return exit_codes.OK


def tenant_policy(trust_file: bytes, software: str) -> bytes:
    """The policy that the coordinator of this trust file fulfils."""
    from tccp.transport.trust import parse_trust

    trust = parse_trust(trust_file)
    pcrs = trust.pcrs
    lines = [
        "# What this coordinator is now. A tenant decides herself which of it she believes, and whose witnesses count.",
        f'identity = "{trust.identity_key.hex()}"',
        "# The key of its TPM. Instead of it, a folder of TPM makers that you trust has the TPM itself prove it:",
        '# ek_authorities = "ek-authorities"',
        f'ak = "{trust.ak_spki.hex()}"',
        f'software = ["{software}"]',
        f'bank = "{pcrs.selection.bank.hash_name}"',
        "",
        "[pcrs]",
        *(f'{index} = ["{pcrs.values[index].hex()}"]' for index in pcrs.selection.indexes),
        "",
        "# [[witness]]",
        '# key = "witness.example.net/w1+<id>+<key>"',
    ]
    return ("\n".join(lines) + "\n").encode("ascii")
