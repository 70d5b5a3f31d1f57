"""``tccp policy sign``: an operator's signature under a policy."""

import argparse
import sys

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.files import read_file
from tccp.cli.key_files import add_secret
from tccp.cli.output import print_json

POLICY_BYTES_MAX = 256 << 10


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "sign",
        run,
        summary="sign a policy",
        about="Prints the policy with a head that carries the signature (Ed25519).\n"
        "`tccp key generate --type operator` makes the key.",
        examples=("tccp policy sign tvmm.toml --key operator.key > tvmm.signed",),
    )
    add_file(parser, "policy", summary="the policy")
    add_secret(parser, "--key", summary="secret key of the operator", required=True)


def run(args: argparse.Namespace) -> int:
    """Check, sign, print."""
    from tccp.attestation.boot_policy import parse_any_policy
    from tccp.attestation.signed_policy import sign_policy
    from tccp.cli.key_files import operator_secret

    body = read_file(args.policy, bytes_max=POLICY_BYTES_MAX)
    policy = parse_any_policy(body)
    key = operator_secret(args.key)
    signed = sign_policy(body, key)
    if args.json:
        print_json(
            {
                "name": policy.name,
                "version": policy.version,
                "sha256": policy.sha256,
                "key": bytes(key.verify_key),
                "signed": signed.decode("utf-8"),
            }
        )
    else:
        sys.stdout.buffer.write(signed)
    return exit_codes.OK
