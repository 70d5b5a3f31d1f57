"""``tccp node ek``: take from the TPM what a coordinator needs to enrol this machine."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_output_file, add_tcti
from tccp.cli.files import PUBLIC_MODE, write_file
from tccp.cli.output import Screen, print_json
from tccp.errors import TpmError

if TYPE_CHECKING:
    from tccp.tpm import Ek


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "ek",
        run,
        summary="read the endorsement key and its certificate from the TPM",
        about="What it writes is for `tccp coordinator enrol`: --certificate for --ek-certificate, --public for\n"
        "--ek-public. Nothing of it is secret.",
        examples=(
            "tccp node ek --certificate rack1-07.der",
            "tccp node ek --public rack1-07.pub --tcti device:/dev/tpmrm0",
        ),
    )
    add_output_file(parser, "--certificate", summary="write the EK certificate there, DER")
    add_output_file(parser, "--public", summary="write the EK's public area there, TPMT_PUBLIC")
    add_tcti(parser)


def run(args: argparse.Namespace) -> int:
    """Read it, write what was asked for, and say what there is."""
    import trio

    from tccp.core.tpm_public import tpm_public_parse
    from tccp.model import spki_sha256

    ek = trio.run(_read, args.tcti)
    if args.certificate is not None:
        if ek.certificate is None:
            hint = "Enrol this node by its key: tccp node ek --public FILE."
            raise TpmError("no_ek_certificate", "the TPM holds no EK certificate", hint=hint)
        write_file(args.certificate, ek.certificate, PUBLIC_MODE)
    if args.public is not None:
        write_file(args.public, ek.public, PUBLIC_MODE)
    ek_id = spki_sha256(tpm_public_parse(ek.public).spki)
    if args.json:
        print_json({"ek_id": ek_id, "public": ek.public, "certificate": ek.certificate, "chain": list(ek.chain)})
        return exit_codes.OK
    written = {args.certificate: "certificate", args.public: "public area"}
    Screen().facts(
        f"endorsement key of {args.tcti}",
        {
            "EK id": ek_id.hex(),
            "certificate": f"{len(ek.certificate)} bytes" if ek.certificate is not None else "none in the TPM",
            "further certificates": str(len(ek.chain)),
            **{f"{what} written to": str(path) for path, what in written.items() if path is not None},
        },
    )
    return exit_codes.OK


async def _read(tcti: str) -> "Ek":
    from tccp.tpm import open_tpm

    async with open_tpm(tcti) as tpm:
        return await tpm.read_ek()
