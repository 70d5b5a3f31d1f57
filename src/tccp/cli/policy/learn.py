"""``tccp policy learn``: a measured-boot policy from the logs of good hosts."""

import argparse
import sys
from typing import Any

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_files, number_from_zero, unicode_text
from tccp.cli.output import print_json
from tccp.cli.policy.common import explain_log


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "learn",
        run,
        summary="write a measured-boot policy from the event logs of good hosts",
        about="Prints a policy that allows what these hosts measured, and nothing else: read and shorten it before it\n"
        "is put in force. Give --pcrs once for each log, in the same order, with values that a quote covers\n"
        "(`tccp evidence quote`): without them the logs are taken at their word. Where a log has only the digest of\n"
        "the kernel's command line, --command-line gives the text, which is /proc/cmdline on that host.",
        examples=(
            "tccp policy learn host.log --pcrs host.pcrs --name tvmm > tvmm.toml",
            "tccp policy learn a.log b.log --name tvmm --require lockdown=integrity",
        ),
    )
    add_files(parser, "logs", summary="event logs")
    add_files(parser, "--pcrs", summary="their PCR values: tpm2_pcrread, tpm2_quote -o, JSON")
    parser.add_argument("--name", metavar="NAME", required=True, help="name of the policy")
    parser.add_argument("--version", metavar="N", type=number_from_zero, default=1, help="its version (default: 1)")
    parser.add_argument("--bank", choices=("sha256", "sha384", "sha512"), default="sha256", help="PCR bank")
    several: dict[str, Any] = {"type": unicode_text, "action": "append", "default": []}
    parser.add_argument("--command-line", metavar="TEXT", help="a kernel command line", **several)
    parser.add_argument("--require", metavar="WORD", help="a word that it must have", **several)


def run(args: argparse.Namespace) -> int:
    """Learn and print."""
    from tccp.attestation.boot_learn import LEARNED_PCRS, learn_policy
    from tccp.cli.exit_codes import UsageError
    from tccp.model import PcrBank

    if args.pcrs and len(args.pcrs) != len(args.logs):
        raise UsageError("usage", "--pcrs is needed once for each log, or never")
    bank = PcrBank.from_name(args.bank)
    pcrs = args.pcrs or [None] * len(args.logs)
    logs = [explain_log(log, of, bank, set(LEARNED_PCRS)) for log, of in zip(args.logs, pcrs, strict=True)]
    policy = learn_policy(
        logs, name=args.name, version=args.version, command_lines=args.command_line, required=args.require
    )
    if args.json:
        print_json({"name": policy.name, "version": policy.version, "body": policy.body.decode()})
    else:
        sys.stdout.write(policy.body.decode("ascii"))
    return exit_codes.OK
