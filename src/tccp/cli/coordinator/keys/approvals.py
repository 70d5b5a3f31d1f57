"""``tccp coordinator keys request``, ``approve``, ``install-approval``, ``end-approvals``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_output_file, name_value
from tccp.cli.coordinator.keys.common import add_config, load, now_ms
from tccp.cli.files import PUBLIC_MODE, read_file, write_file
from tccp.cli.key_files import add_secret
from tccp.cli.output import Screen, print_json
from tccp.errors import ConfigError

if TYPE_CHECKING:
    from tccp.coordinator.custody.approval import Request


def add_parsers(commands: Commands) -> None:
    """Add the commands."""
    _add_request(commands)
    _add_approve(commands)
    _add_install(commands)
    _add_end(commands)


def _add_request(commands: Commands) -> None:
    parser = add_command(
        commands,
        "request",
        request,
        summary="write what the authority has to approve in the machine's present state",
        about="Reads the PCRs of [tpm] pcrs. Nothing of it is secret; the authority's owner must know that the state\n"
        "is a good one, for instance because he made the update.",
        examples=("sudo tccp coordinator keys request --out request.toml",),
    )
    add_config(parser)
    add_output_file(parser, "--out", summary="where to write it (default: standard output)")
    parser.add_argument(
        "--next-generation", action="store_true", help="have the approval outlive the next `end-approvals`"
    )


def _add_approve(commands: Commands) -> None:
    parser = add_command(
        commands,
        "approve",
        approve,
        summary="sign a request, on the authority's machine",
        about="--pcr replaces values of the request: what the machine will show after an update.",
        examples=(
            "tccp coordinator keys approve request.toml --authority update-authority.key --out approval.toml",
            "tccp coordinator keys approve request.toml --authority update-authority.key --pcr 4=9f86d0...",
        ),
    )
    add_file(parser, "request", summary="from `tccp coordinator keys request`")
    add_secret(parser, "--authority", summary="the secret key of the authority, PEM", required=True)
    parser.add_argument(
        "--pcr", metavar="INDEX=HEX", type=name_value, action="append", default=[], help="another value of a PCR"
    )
    add_output_file(parser, "--out", summary="where to write the approval (default: standard output)")


def _add_install(commands: Commands) -> None:
    parser = add_command(
        commands,
        "install-approval",
        install,
        summary="let the coordinator use its keys in one more state",
        about="The approval counts at each start from now on; the daemon need not be stopped for it.",
        examples=("sudo tccp coordinator keys install-approval approval.toml",),
    )
    add_file(parser, "approval", summary="from `tccp coordinator keys approve`")
    add_config(parser)


def _add_end(commands: Commands) -> None:
    parser = add_command(
        commands,
        "end-approvals",
        end,
        summary="end all approvals but those of the next generation, for good",
        about="A counter in the TPM passes them: no copy of an approval opens the keys again. Do it when a state that\n"
        "was approved turns out to be a bad one. An approval of the present state by `request --next-generation`\n"
        "must be installed before.",
        examples=("sudo tccp coordinator keys end-approvals",),
    )
    add_config(parser)


def request(args: argparse.Namespace) -> int:
    """Write a request."""
    import trio

    from tccp.coordinator.custody.approval import write_request

    _write(args, write_request(trio.run(_present, args)))
    return exit_codes.OK


async def _present(args: argparse.Namespace) -> "Request":
    from tccp.coordinator.custody.vault import read_vault, request_approval
    from tccp.tpm import open_tpm

    config, state = load(args)
    sealed = read_vault(state)
    async with open_tpm(config.tpm.tcti) as tpm:
        ahead = int(args.next_generation)
        return await request_approval(tpm, sealed, config.tpm.selection, generations_ahead=ahead)


def approve(args: argparse.Namespace) -> int:
    """Sign a request."""
    from tccp.cli.key_files import authority_secret
    from tccp.coordinator.custody import approval as ap

    asked = ap.parse_request(read_file(args.request, bytes_max=ap.FILE_BYTES_MAX))
    secret = authority_secret(args.authority)
    _write(args, ap.write_approval(ap.approve(_with_values(asked, args.pcr), secret)))
    return exit_codes.OK


def _with_values(asked: "Request", replaced: list[tuple[str, str]]) -> "Request":
    """*asked* with other values of some of its PCRs.

    Raises:
        ConfigError: ``bad_pcr``.
    """
    from dataclasses import replace

    from tccp.model import PcrValues

    pcrs = asked.approved.pcrs
    try:
        values = {int(index): bytes.fromhex(value) for index, value in replaced}
        approved = replace(asked.approved, pcrs=PcrValues(pcrs.selection, {**pcrs.values, **values}))
    except ValueError as problem:
        raise ConfigError("bad_pcr", str(problem), hint="For instance --pcr 4=9f86d0...; one of the request.") from None
    return replace(asked, approved=approved)


def install(args: argparse.Namespace) -> int:
    """Put an approval beside the keys."""
    from tccp.coordinator.custody import approval as ap
    from tccp.coordinator.custody.vault import install_approval, read_vault

    _config, state = load(args)
    signed = ap.parse_approval(read_file(args.approval, bytes_max=ap.FILE_BYTES_MAX))
    path = install_approval(state, read_vault(state), signed, now_ms=now_ms())
    generation = signed.request.approved.generation
    if args.json:
        print_json({"installed": str(path), "generation": generation})
    else:
        Screen().line(f"installed as {path}, of generation {generation}")
    return exit_codes.OK


def end(args: argparse.Namespace) -> int:
    """Have the counter pass all older approvals."""
    import trio

    ended = trio.run(_end, args)
    if args.json:
        print_json({"ended": [str(path) for path in ended]})
    else:
        Screen().list(f"{len(ended)} approvals ended, and were removed", [str(path) for path in ended])
    return exit_codes.OK


async def _end(args: argparse.Namespace) -> list[Path]:
    from tccp.coordinator.custody.vault import end_approvals, read_vault
    from tccp.tpm import open_tpm

    config, state = load(args)
    sealed = read_vault(state)
    async with open_tpm(config.tpm.tcti) as tpm:
        return await end_approvals(tpm, state, sealed, now_ms=now_ms())


def _write(args: argparse.Namespace, content: bytes) -> None:
    if args.out is not None:
        write_file(args.out, content, PUBLIC_MODE)
    if args.json:
        print_json({"out": None if args.out is None else str(args.out), "content": content.decode("ascii")})
    elif args.out is None:
        sys.stdout.buffer.write(content)
    else:
        Screen().line(f"{args.out}: written")
