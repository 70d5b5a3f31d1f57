"""``tccp policy compile``: a compiled IMA policy from lists of files, patterns and keys."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_files
from tccp.cli.files import PUBLIC_MODE, read_file, write_file
from tccp.cli.output import Screen, print_json
from tccp.errors import ConfigError

if TYPE_CHECKING:
    from tccp.attestation.ima_import import Imported

LIST_BYTES_MAX = 1 << 30
PUBLIC_KEY_BYTES_MAX = 8192


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compile",
        run,
        summary="compile an IMA policy from lists of files",
        about="Lists are what sha256sum, `tccp policy from-packages` or a query of rpm print (docs/POLICIES.md), or a\n"
        "runtime policy of Keylime (JSON). In patterns * stands for any run of characters, / too, and ? for one.\n"
        'Prints the sha256 of the compiled file, by which a measured-boot policy names it: [ima] sha256 = "...".',
        examples=(
            "tccp policy compile tvmm.ima --list files.sha256 --exclude '/var/log/*'",
            "tccp policy compile tvmm.ima --list runtime-policy.json",
            "tccp policy compile tvmm.ima --measured good-host.ima",
            "tccp policy compile tvmm.ima --signed '/usr/*' --key vendor.pem",
        ),
    )
    add_file(parser, "out", summary="where to write the compiled policy")
    add_files(parser, "--list", summary="known files")
    add_files(parser, "--measured", summary="IMA lists of good hosts, all files of which are known")
    parser.add_argument("--any-path", action="store_true", help="files are known wherever they lie")
    parser.add_argument("--exclude", metavar="PATTERN", action="append", default=[], help="paths not to judge")
    parser.add_argument("--signed", metavar="PATTERN", action="append", default=[], help="paths that may be signed")
    add_files(parser, "--key", summary="who signs, PEM or DER")
    parser.add_argument("--buffer", metavar="PATTERN", action="append", default=[], help="buffers of any contents")
    parser.add_argument("--allow-violations", action="store_true", help="files may change while they are measured")


def run(args: argparse.Namespace) -> int:
    """Import, compile, write."""
    import hashlib

    from tccp.attestation.ima import ImaPolicy
    from tccp.attestation.ima_rules import ImaRules, compile_rules
    from tccp.cli.keys import public_key_bytes

    imported = [_import(path, any_path=args.any_path) for path in args.list]
    imported += [_measured(path, any_path=args.any_path) for path in args.measured]
    keys = [public_key_bytes(read_file(path, bytes_max=PUBLIC_KEY_BYTES_MAX)) for path in args.key]
    rules = ImaRules(
        digests=[digest for one in imported for digest in one.rules.digests],
        excludes=[*args.exclude, *(pattern for one in imported for pattern in one.rules.excludes)],
        signed=[*args.signed, *(pattern for one in imported for pattern in one.rules.signed)],
        keys=[*keys, *(key for one in imported for key in one.rules.keys)],
        buffers=[*args.buffer, *(pattern for one in imported for pattern in one.rules.buffers)],
        allow_violations=args.allow_violations,
    )
    file = compile_rules(rules)
    sha256 = hashlib.sha256(file).digest()
    policy = ImaPolicy(file, sha256)  # which also looks at the keys
    # Whoever has the old file mapped keeps it: the new one only takes its name.
    write_file(args.out, file, PUBLIC_MODE)
    weak = sum(one.weak for one in imported)
    if args.json:
        print_json({"sha256": sha256, "digests": len(policy), "bytes": len(file), "left_out": weak})
        return exit_codes.OK
    screen = Screen()
    screen.line(f"{args.out}: {len(policy)} digests, {len(file)} bytes")
    screen.line(f"sha256 {sha256.hex()}")
    if weak:
        screen.line(f"left out: {weak} digests of MD5, SHA-1 or SHA-224, which can be made to collide", style="warn")
    return exit_codes.OK


def _import(path: Path, *, any_path: bool) -> "Imported":
    from tccp.attestation.ima_import import import_digest_list, import_keylime

    content = read_file(path, bytes_max=LIST_BYTES_MAX)
    try:
        if content.lstrip()[:1] == b"{":
            return import_keylime(content)
        return import_digest_list(content, any_path=any_path)
    except ConfigError as problem:
        raise ConfigError(problem.reason, f"{path}: {problem.detail}", hint=problem.hint) from None


def _measured(path: Path, *, any_path: bool) -> "Imported":
    from tccp.attestation.ima import ImaProgress, measurements_from_text, replay_measurements
    from tccp.attestation.ima_import import import_measurements

    content = read_file(path, bytes_max=LIST_BYTES_MAX)
    data = measurements_from_text(content) if content[:1].isdigit() else content
    return import_measurements(replay_measurements(data, ImaProgress.start())[0], any_path=any_path)
