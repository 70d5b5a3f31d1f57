"""``tccp evidence ek``: did a TPM maker that we trust certify this endorsement key?"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli.arguments import Commands, add_command, add_file, add_folder, utc_time
from tccp.cli.evidence.verdict import Report
from tccp.cli.files import read_file, read_folder
from tccp.errors import ConfigError, EnrolmentError

if TYPE_CHECKING:
    from tccp.attestation.enrolment import EkAuthorities, EkCertificate

CERTIFICATE_BYTES_MAX = 65_536
AUTHORITY_BYTES_MAX = 4 << 20


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "ek",
        run,
        summary="verify the certificate of an endorsement key",
        about="Looks for a chain from the certificate to one of the authorities, each valid now and issued for it.\n"
        "Of a folder, files called .pem, .crt, .cer and .der count, each with one certificate or many, and .crl\n"
        "with what an authority has revoked.",
        examples=(
            "tccp node ek --certificate ek.der && tccp evidence ek ek.der --authorities /etc/tccp/ek-authorities",
            "tccp evidence ek ek.pem --authorities roots --intermediates between --at 2026-11-01 --json",
        ),
    )
    add_file(parser, "certificate", summary="the EK certificate, DER or PEM, with or without the padding of NV")
    add_folder(parser, "--authorities", required=True, summary="certificates that are trusted to certify EKs")
    add_folder(parser, "--intermediates", summary="certificates that may stand between, trusted in nothing")
    parser.add_argument("--at", metavar="TIME", type=utc_time, help="judge as of then (ISO 8601, UTC) instead of now")


def run(args: argparse.Namespace) -> int:
    """Verify, and report."""
    from tccp.attestation.enrolment import verify_ek_certificate

    content = read_file(args.certificate, bytes_max=CERTIFICATE_BYTES_MAX)
    authorities = _load(args.authorities, args.intermediates)
    report = Report(str(args.certificate))
    at = args.at or datetime.now(UTC)
    try:
        certificate = verify_ek_certificate(content, (), authorities=authorities, now=at)
    except EnrolmentError as refusal:
        report.found = {"authorities": str(len(authorities)), "judged at": _moment(at)}
        return report.end(refusal, as_json=args.json)
    _describe(report, certificate, at)
    return report.end(None, as_json=args.json)


def _load(authorities: Path, intermediates: Path | None) -> "EkAuthorities":
    from tccp.attestation.enrolment import CERTIFICATE_SUFFIXES, REVOCATION_SUFFIXES, EkAuthorities

    def read(folder: Path | None, suffixes: frozenset[str]) -> dict[Path, bytes]:
        return read_folder(folder, suffixes=suffixes, bytes_max=AUTHORITY_BYTES_MAX) if folder is not None else {}

    files = {
        "certificates": read(authorities, CERTIFICATE_SUFFIXES),
        "intermediates": read(intermediates, CERTIFICATE_SUFFIXES),
        "revocations": read(authorities, REVOCATION_SUFFIXES) | read(intermediates, REVOCATION_SUFFIXES),
    }
    # One by one first, because together they do not say which one is bad.
    for kind, contents in files.items():
        for path, content in contents.items():
            try:
                EkAuthorities(**{"certificates": (), kind: (content,)})
            except EnrolmentError as error:
                raise ConfigError("bad_authority", f"{path}: {error}", hint="Take it out of the folder.") from error
    return EkAuthorities(**{kind: contents.values() for kind, contents in files.items()})


def _describe(report: Report, certificate: "EkCertificate", at: datetime) -> None:
    from tccp.model import spki_sha256

    ek_id = spki_sha256(certificate.spki)
    report.checked = [
        "a chain of signatures leads from the certificate to an authority that you trust",
        f"every certificate of the chain is valid at {_moment(at)}",
        "it was issued for an endorsement key, and is no authority itself",
    ]
    report.found = {
        "manufacturer": certificate.manufacturer,
        "model": certificate.model,
        "version": certificate.version,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "valid": f"{_moment(certificate.not_before)} to {_moment(certificate.not_after)}",
        "key": _key_kind(certificate.spki),
        "EK id": ek_id.hex(),
        "authority": certificate.authority_sha256.hex(),
    }
    report.not_proved = ["that a TPM with this key is anywhere near: credential activation proves that"]
    report.more = {
        "certificate": {
            "manufacturer": certificate.manufacturer,
            "model": certificate.model,
            "version": certificate.version,
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "serial": certificate.serial,
            "not_before": certificate.not_before.isoformat(),
            "not_after": certificate.not_after.isoformat(),
            "sha256": certificate.sha256,
            "authority_sha256": certificate.authority_sha256,
            "key": _key_kind(certificate.spki),
            "spki": certificate.spki,
            "ek_id": ek_id,
        }
    }


def _key_kind(spki: bytes) -> str:
    from tccp.attestation.quote import AkKey

    return AkKey.from_spki(spki).kind


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
