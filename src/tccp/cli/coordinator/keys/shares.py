"""``tccp coordinator keys backup``, ``restore``, ``hand-over``, ``share``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_output_file, name_value, number_from_zero
from tccp.cli.control import moment
from tccp.cli.coordinator.keys.common import add_authority, add_config, found_keys, load, now_ms
from tccp.cli.files import PUBLIC_MODE, read_file, refuse_existing, write_new_key
from tccp.cli.key_files import add_secret, secret_path
from tccp.cli.output import Screen, print_json
from tccp.errors import ConfigError

if TYPE_CHECKING:
    from tccp.coordinator.custody.key_set import KeySet
    from tccp.coordinator.custody.shares import Share


def add_parsers(commands: Commands) -> None:
    """Add the commands."""
    _add_backup(commands)
    _add_restore(commands)
    _add_hand_over(commands)
    _add_share(commands)


def _add_backup(commands: Commands) -> None:
    parser = add_command(
        commands,
        "backup",
        backup,
        summary="write the keys in shares, one for each officer",
        about="Any THRESHOLD of the shares restore the keys; fewer say nothing about them. Each is encrypted to its\n"
        "officer's own key (`tccp key generate`) and can be stored anywhere, or printed. The TPM must give the keys\n"
        "back for it, so the machine is in an approved state. It is logged. The database is a backup of its own.",
        examples=(
            "sudo tccp coordinator keys backup --officer ann=ann.pub --officer bob=bob.pub --threshold 2 --out shares",
        ),
    )
    parser.add_argument(
        "--officer",
        metavar="NAME=FILE",
        type=name_value,
        action="append",
        required=True,
        help="an officer and the file of her public key; once for each",
    )
    parser.add_argument("--threshold", metavar="N", type=number_from_zero, required=True, help="how many restore them")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the shares; made if missing")
    add_config(parser)


def _add_restore(commands: Commands) -> None:
    parser = add_command(
        commands,
        "restore",
        restore,
        summary="seal the keys of a lost coordinator to this machine's TPM",
        about="Needs as many shares as their threshold says, and for each the secret key that opens it: the officers'\n"
        "own, or one of this machine to which they handed their shares over (`hand-over`). Wants an empty state\n"
        "directory; the database is put back beside it. Nodes need a new trust file: this is another TPM.",
        examples=("sudo tccp coordinator keys restore ann.share bob.share --key ann.key --key bob.key",),
    )
    parser.add_argument("shares", metavar="SHARE", type=Path, nargs="+", help="from `tccp coordinator keys backup`")
    parser.add_argument(
        "--key",
        metavar="FILE",
        type=secret_path,
        action="append",
        required=True,
        help="a secret key that opens a share",
    )
    add_config(parser)
    add_authority(parser)


def _add_hand_over(commands: Commands) -> None:
    parser = add_command(
        commands,
        "hand-over",
        hand_over,
        summary="encrypt one's share to the machine that restores",
        about="An officer does it on her own machine, so that her key never leaves it.",
        examples=("tccp coordinator keys hand-over ann.share --key ann.key --to restoring.pub --out ann-handed.share",),
    )
    add_file(parser, "share", summary="one's own share")
    add_secret(parser, "--key", summary="one's secret key", required=True)
    add_file(parser, "--to", summary="public key of the machine that restores", required=True)
    add_output_file(parser, "--out", summary="where to write the share for it")


def _add_share(commands: Commands) -> None:
    parser = add_command(
        commands,
        "share",
        show,
        summary="verify a share, and show what it is",
        about="Whoever keeps a share can see without any key whether it is still as the coordinator made it.",
        examples=("tccp coordinator keys share ann.share",),
    )
    add_file(parser, "share", summary="the share")


def backup(args: argparse.Namespace) -> int:
    """Make the shares."""
    import trio

    from tccp.coordinator.custody.shares import write_share

    shares = trio.run(_make_shares, args)
    paths = [_share_path(args, share.statement.officer) for share in shares]
    args.out.mkdir(parents=True, exist_ok=True)
    for path, share in zip(paths, shares, strict=True):
        write_new_key(path, write_share(share), PUBLIC_MODE)
    if args.json:
        print_json({"threshold": args.threshold, "shares": [str(path) for path in paths]})
        return exit_codes.OK
    screen = Screen()
    for path, share in zip(paths, shares, strict=True):
        screen.line(f"{path}: {share.title}")
    screen.line(f"any {args.threshold} of them restore the keys; give each to its officer, and try a restore")
    return exit_codes.OK


def _share_path(args: argparse.Namespace, officer: str) -> Path:
    folder: Path = args.out
    return folder / f"{officer}.share"


async def _make_shares(args: argparse.Namespace) -> "list[Share]":
    from tccp.cli.key_files import recipient_public
    from tccp.coordinator.custody.journal import write_down
    from tccp.coordinator.custody.shares import backup_facts, check_officers, make_shares
    from tccp.coordinator.custody.vault import KEYS, read_vault, unseal_keys
    from tccp.store import EventKind
    from tccp.tpm import open_tpm

    config, state = load(args)
    officers = [(name, recipient_public(Path(path))) for name, path in args.officer]
    check_officers(officers, args.threshold)
    for name, _ in officers:
        # Now: later there would be some of the new shares beside the old ones, and a backup in the log that nobody has.
        refuse_existing(_share_path(args, name))
    sealed = read_vault(state)
    async with open_tpm(config.tpm.tcti) as tpm:
        keys = await unseal_keys(tpm, state, sealed)
    done_ms = now_ms()
    # Written down before the first share exists: no backup that the log does not know of.
    facts = backup_facts(officers, args.threshold)
    write_down(state / KEYS, EventKind.KEYS_BACKED_UP, done_ms, facts)
    return make_shares(keys, officers, args.threshold, made_ms=done_ms)


def restore(args: argparse.Namespace) -> int:
    """Put the keys together and seal them anew."""
    from tccp.coordinator.custody.vault import check_vacant
    from tccp.store import EventKind

    config, state = load(args)
    check_vacant(state)
    keys = _restored(args)
    found = found_keys(args, config, keys, EventKind.KEYS_RESTORED)
    if args.json:
        print_json({"coordinator_id": keys.coordinator_id.hex(), **found.document})
        return exit_codes.OK
    screen = Screen()
    screen.facts("coordinator restored", {"id": keys.coordinator_id.hex(), "keys": f"{state}/keys"})
    found.say(screen)
    screen.line(f"next: put the database back as {state}/coordinator.db, start, and give nodes the new trust file")
    return exit_codes.OK


def _restored(args: argparse.Namespace) -> "KeySet":
    from tccp.cli.key_files import recipient_secret
    from tccp.coordinator.custody.shares import restore_keys

    return restore_keys([_read_share(path) for path in args.shares], [recipient_secret(path) for path in args.key])


def hand_over(args: argparse.Namespace) -> int:
    """Wrap a share anew."""
    from tccp.cli.key_files import recipient_public, recipient_secret
    from tccp.coordinator.custody import shares as s

    out = args.out or args.share.with_name(f"{args.share.stem}-handed.share")
    handed = s.hand_over(_read_share(args.share), recipient_secret(args.key), recipient_public(args.to))
    write_new_key(out, s.write_share(handed), PUBLIC_MODE)
    if args.json:
        print_json({"out": str(out), "key_id": handed.key_id.hex()})
    else:
        Screen().line(f"{out}: {handed.title}, now for the key {handed.key_id.hex()[:16]}")
    return exit_codes.OK


def show(args: argparse.Namespace) -> int:
    """Verify and describe a share."""
    share = _read_share(args.share)
    facts = {
        "coordinator": share.coordinator_id.hex(),
        "number": str(share.statement.number),
        "count": str(share.count),
        "threshold": str(share.statement.threshold),
        "officer": share.statement.officer,
        "made": moment(share.statement.made_ms),
        "set": share.statement.set_id.hex(),
        "opened_by": share.key_id.hex(),
    }
    if args.json:
        print_json(facts)
    else:
        Screen().facts(share.title, facts)
    return exit_codes.OK


def _read_share(path: Path) -> "Share":
    """The share in a file; an error names the file."""
    from tccp.coordinator.custody.shares import FILE_BYTES_MAX, parse_share

    try:
        return parse_share(read_file(path, bytes_max=FILE_BYTES_MAX))
    except ConfigError as problem:
        hint = "Take another copy of this share, or restore without it if the others suffice."
        raise ConfigError(problem.reason, f"{path}: {problem.detail}", hint=hint) from None
