"""``tccp image verify``: whether a sealed image is as its tenant sealed it."""

import argparse

from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.evidence.verdict import Report
from tccp.cli.image.arguments import add_checks, check_identity, sealed_image, unlock
from tccp.cli.key_files import add_secret
from tccp.errors import SealedImageError


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "verify",
        run,
        summary="check a sealed image, with its key or without",
        about="Without --key it reads the header and the tags: the root, and the signature over it. With --key it\n"
        "also reads every chunk and writes nothing.",
        examples=(
            "tccp image verify disk.sealed --tenant tenant.pub",
            "tccp image verify disk.sealed --tenant tenant.pub --key recipient.key",
        ),
    )
    add_file(parser, "image", summary="the sealed image; - is standard input")
    add_secret(parser, "--key", summary="secret key of a recipient")
    add_checks(parser)


def run(args: argparse.Namespace) -> int:
    """Check, and report."""
    report = Report(str(args.image))
    try:
        _check(report, args)
    except SealedImageError as problem:
        return report.end(problem, as_json=args.json)
    return report.end(None, as_json=args.json)


def _check(report: Report, args: argparse.Namespace) -> None:
    from tccp.cli.image.describe import facts
    from tccp.cli.image.progress import progress_bar
    from tccp.image.sealed import verify_chunks, verify_tags

    with sealed_image(args.image) as image:
        report.checked.append("the form of the header, and the length of the file")
        key = None
        if args.key is not None:
            key = unlock(image, args)
            report.checked.append("header and recipients, with the image key")
        signature = check_identity(image, args)
        if args.root is not None:
            report.checked.append("the root is the one asked for")
        if image.info.tenant is not None:
            report.checked.append(f"the signature: {signature}")
        with progress_bar("verifying", as_json=args.json) as watch:
            if key is None:
                verify_tags(image, watch=watch)
            else:
                verify_chunks(image, key, watch=watch)
        report.checked.append("the tags of all chunks lead to the root")
        if key is None:
            report.not_proved.append("the chunks, the commitment and the recipients: that needs --key")
        else:
            report.checked.append("every chunk against its tag")
        if args.tenant is None and args.root is None:
            report.not_proved.append("whose image it is: that needs --tenant, or --root from somebody who knows")
        report.found = facts(image.info, image.recipients)
        report.more["root"] = image.info.root
