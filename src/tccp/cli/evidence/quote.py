"""``tccp evidence quote``: what a quote proves, and what it does not."""

import argparse
from typing import TYPE_CHECKING

from tccp.cli.arguments import Commands, add_command, add_file, hex_bytes
from tccp.cli.evidence.verdict import Report
from tccp.cli.files import read_file
from tccp.cli.keys import PUBLIC_KEY_BYTES_MAX, is_spki, public_key_bytes
from tccp.errors import EnrolmentError, EvidenceError, QuoteError

if TYPE_CHECKING:
    from tccp.attestation.quote import AkKey, InspectedQuote
    from tccp.model import PcrValues

QUOTE_BYTES_MAX = 65_536
# A TPMT_SIGNATURE begins with its scheme and hash (TCG Algorithm Registry, table 3); of a bare one neither is known.
SCHEMES = {b"\x00\x14": 1, b"\x00\x16": 1, b"\x00\x18": 2}
HASHES = ("sha256", "sha384", "sha512")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "quote",
        run,
        summary="verify a TPM quote that tpm2-tools or a cloud wrote",
        about="Checks the signature first, then the structure, then what you give: the nonce, the PCR values.\n"
        "What you do not give is not proved, and is said so.",
        examples=(
            "tpm2_quote -c ak.ctx -l sha256:0,4,7 -q $NONCE -m quote.msg -s quote.sig -o quote.pcrs",
            "tccp evidence quote --ak ak.pem --message quote.msg --signature quote.sig \\",
            "    --nonce $NONCE --pcrs quote.pcrs",
        ),
    )
    add_file(parser, "--ak", required=True, summary="attestation key: PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC")
    add_file(parser, "--message", required=True, summary="the quote: TPMS_ATTEST, or TPM2B_ATTEST (tpm2_quote -m)")
    add_file(
        parser,
        "--signature",
        required=True,
        summary="its signature: TPMT_SIGNATURE, or bare as from tpm2_quote -f plain",
    )
    parser.add_argument("--nonce", metavar="HEX", type=hex_bytes, help="what the quote must answer (tpm2_quote -q)")
    add_file(parser, "--pcrs", summary="claimed PCR values: tpm2_quote -o, tpm2_pcrread, JSON")


def run(args: argparse.Namespace) -> int:
    """Verify, and report."""
    report = Report(str(args.message))
    attest = _without_size(read_file(args.message, bytes_max=QUOTE_BYTES_MAX))
    signature = read_file(args.signature, bytes_max=QUOTE_BYTES_MAX)
    try:
        ak = _load_ak(report, args)
        quote, signature = _inspect(report, attest, signature, ak)
        _describe(report, quote, ak)
        fresh = _check_nonce(report, quote, args.nonce)
        pcrs = _check_pcrs(report, quote, args)
        if fresh and pcrs is not None:
            _verify_as_a_coordinator(report, attest, signature, pcrs, ak, args.nonce)
    except EvidenceError as refusal:
        return report.end(refusal, as_json=args.json)
    return report.end(None, as_json=args.json)


def _without_size(message: bytes) -> bytes:
    return message[2:] if int.from_bytes(message[:2], "big") == len(message) - 2 else message


def _load_ak(report: Report, args: argparse.Namespace) -> "AkKey":
    from tccp.attestation.quote import AkKey

    report.not_proved.append("whose TPM it is: credential activation binds an AK to an endorsement key")
    try:
        key = public_key_bytes(read_file(args.ak, bytes_max=PUBLIC_KEY_BYTES_MAX))
        if is_spki(key):
            report.not_proved.append("that the AK signs nothing but what its TPM made: only its public area can say so")
            return AkKey.from_spki(key)
        ak = AkKey.from_tpm_public(key)
    except EvidenceError as error:
        hint = error.hint or "An AK is a restricted signing key, RSA, P-256 or P-384: tpm2_createak -u writes it."
        raise EnrolmentError(error.reason, f"{args.ak}: {error.detail}", hint=hint) from error
    report.checked.append("by its public area the AK is a restricted signing key that never leaves its TPM")
    return ak


def _inspect(report: Report, attest: bytes, signature: bytes, ak: "AkKey") -> "tuple[InspectedQuote, bytes]":
    """The quote, and its signature as a TPMT_SIGNATURE; of a bare one each hash that it could be with is tried."""
    from tccp.attestation.quote import inspect_quote

    problem = QuoteError("bad_signature")
    for candidate in _candidates(signature, ak):
        try:
            quote = inspect_quote(attest, candidate, ak=ak)
        except QuoteError as error:
            if error.reason != "bad_signature":
                raise
            problem = error
            continue
        report.checked.append(f"the signature ({quote.scheme}, {quote.hash_name}) is by this AK over the whole message")
        report.checked.append("the message is a quote that a TPM made, with nothing left over")
        return quote, candidate
    raise QuoteError(problem.reason, "the message was not signed by this AK", hint="Is it the AK that quoted?")


def _candidates(signature: bytes, ak: "AkKey") -> list[bytes]:
    from tccp.attestation.quote import wrap_signature

    if _is_tpmt(signature):
        return [signature]
    schemes = (False, True) if ak.kind.startswith("rsa") else (False,)
    return [wrap_signature(signature, ak=ak, hash_name=name, pss=pss) for name in HASHES for pss in schemes]


def _is_tpmt(signature: bytes) -> bool:
    """Whether the sizes in a TPMT_SIGNATURE add up: one number of RSA, two of ECDSA (Part 2, 11.3.4)."""
    at = 4
    for _ in range(SCHEMES.get(signature[:2], 0)):
        at += 2 + int.from_bytes(signature[at : at + 2], "big")
    return at > 4 and at == len(signature)


def _describe(report: Report, quote: "InspectedQuote", ak: "AkKey") -> None:
    selections = [(_bank_name(bank), list(indexes)) for bank, indexes in quote.selections]
    report.found = {
        "AK": f"{ak.kind}, name {ak.name.hex() or 'unknown'}",
        "nonce": quote.extra_data.hex() or "none",
        "PCRs": "; ".join(f"{bank}: {', '.join(map(str, indexes))}" for bank, indexes in selections) or "none",
        "PCR digest": f"{quote.pcr_digest.hex()} ({quote.hash_name})",
        "clock": f"{quote.clock_ms} ms{'' if quote.safe else ', not safe: it may have gone back'}",
        "resets": str(quote.reset_count),
        "restarts": str(quote.restart_count),
        "firmware": f"0x{quote.firmware_version:016x}",
    }
    report.more["quote"] = {
        "scheme": quote.scheme,
        "hash": quote.hash_name,
        "ak_kind": ak.kind,
        "ak_name": ak.name,
        "ak_spki": ak.spki,
        "nonce": quote.extra_data,
        "selections": [{"bank": bank, "pcrs": indexes} for bank, indexes in selections],
        "pcr_digest": quote.pcr_digest,
        "clock_ms": quote.clock_ms,
        "reset_count": quote.reset_count,
        "restart_count": quote.restart_count,
        "safe": quote.safe,
        "firmware_version": f"{quote.firmware_version:016x}",
        "qualified_signer": quote.qualified_signer,
    }


def _bank_name(algorithm: int) -> str:
    from tccp.model import PcrBank

    try:
        return PcrBank(algorithm).hash_name
    except ValueError:
        return f"0x{algorithm:04x}"


def _check_nonce(report: Report, quote: "InspectedQuote", nonce: bytes | None) -> bool:
    """Whether the quote answers a nonce that was given."""
    import hmac

    if not nonce:
        report.not_proved.append("freshness: without --nonce the quote may be of any age")
        return False
    if not hmac.compare_digest(nonce, quote.extra_data):
        raise QuoteError(
            "nonce_mismatch",
            f"the quote answers {quote.extra_data.hex() or 'no nonce'}, not {nonce.hex()}",
            hint="It is a genuine quote, made for somebody else or at another time.",
        )
    report.checked.append(f"it answers the nonce of {len(nonce)} bytes")
    return True


def _check_pcrs(report: Report, quote: "InspectedQuote", args: argparse.Namespace) -> "list[PcrValues] | None":
    """The PCR values, when a file with them was given."""
    from tccp.cli.evidence.pcr_file import PCR_FILE_BYTES_MAX, parse_pcr_file
    from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection

    if resettable := sorted({i for _, indexes in quote.selections for i in indexes} & RESETTABLE_PCRS):
        report.not_proved.append(f"PCR {', '.join(map(str, resettable))}: any software may reset them at any time")
    if args.pcrs is None:
        report.not_proved.append("PCR values: without --pcrs there is only their digest")
        return None
    file = parse_pcr_file(read_file(args.pcrs, bytes_max=PCR_FILE_BYTES_MAX))
    try:
        selections = [PcrSelection.of(PcrBank(bank), indexes) for bank, indexes in quote.selections]
    except ValueError as error:
        raise QuoteError("wrong_pcr_selection", f"the quote selects what has no values: {error}") from error
    values = file.select_all(selections)
    if not quote.covers(*values):
        raise QuoteError(
            "pcr_digest_mismatch",
            "the PCR values of the file do not hash to the quoted digest",
            hint="A PCR may have been extended between reading it and the quote; tpm2_quote -o reads them for you.",
        )
    report.checked.append("the PCR values of the file hash to the quoted digest")
    report.more["pcrs"] = {
        some.selection.bank.hash_name: {str(index): some.values[index] for index in some.selection.indexes}
        for some in values
    }
    return values


def _verify_as_a_coordinator(  # noqa: PLR0917 - exactly what verify_quote takes
    report: Report, attest: bytes, signature: bytes, pcrs: "list[PcrValues]", ak: "AkKey", nonce: bytes
) -> None:
    """Ask the very function that admits nodes; it is stricter about what may be asked at all."""
    from tccp.attestation.quote import verify_quote

    if len(pcrs) != 1:
        report.not_proved.append("that a coordinator would take it: it asks for PCRs of one bank")
        return
    try:
        verify_quote(attest, signature, pcrs[0], ak=ak, qualifying_data=nonce)
    except ValueError as reason:
        report.not_proved.append(f"that a coordinator would take it: {reason}")
    else:
        report.checked.append("a coordinator that had asked for just this would take it")
