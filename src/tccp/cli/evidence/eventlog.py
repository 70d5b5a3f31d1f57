"""``tccp evidence eventlog``: what a firmware event log says, and whether it explains PCR values."""

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.evidence.verdict import Report
from tccp.cli.files import EVENT_LOG_BYTES_MAX, read_file
from tccp.errors import EvidenceError

if TYPE_CHECKING:
    from tccp.attestation.event_log import Event, EventLog
    from tccp.cli.output import Screen
    from tccp.model import PcrBank, PcrValues

BANKS = ("sha1", "sha256", "sha384", "sha512")
# Without --bank, the first of these that the log has.
BANKS_BY_CHOICE = ("sha256", "sha384", "sha512", "sha1")
DIGEST_CHARACTERS = 12
# What the operating system extends long after the firmware's log has ended: IMA 10, systemd 11 to 15.
OPERATING_SYSTEM_PCRS = frozenset(range(10, 16))


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "eventlog",
        run,
        summary="show a firmware event log and replay it",
        about="With --pcrs it says which of these values the log explains: it is accepted when it leads to all of\n"
        "them. PCR 10 to 15 may differ where the log does not mention them (the operating system extends them\n"
        "later); PCR 16 and 23 never count. Without --pcrs nothing is proved: anybody can write a log.",
        examples=(
            "sudo tccp evidence eventlog /sys/kernel/security/tpm0/binary_bios_measurements",
            "tpm2_pcrread sha256 | tccp evidence eventlog log.bin --pcrs - --json | jq .explained",
        ),
    )
    add_file(parser, "file", summary="the log, binary, crypto-agile or of SHA-1 alone; - is standard input")
    parser.add_argument("--bank", choices=BANKS, help="PCR bank to show (default: sha256 if the log has it)")
    add_file(parser, "--pcrs", summary="PCR values to explain: tpm2_pcrread, tpm2_quote -o, JSON")


def run(args: argparse.Namespace) -> int:
    """Replay, compare, and report."""
    from tccp.attestation.event_log import salvage_event_log

    report = Report(str(args.file))
    content = read_file(args.file, bytes_max=EVENT_LOG_BYTES_MAX)
    try:
        log = salvage_event_log(content)
        bank = _choose_bank(log, args.bank)
    except EvidenceError as problem:
        return report.end(problem, as_json=args.json)
    refusal = _judge(report, content, bank, args)
    report.found = _summary(log, bank)
    if args.json:
        report.more |= _document(log, bank)
    good_end = "accepted" if args.pcrs is not None else "replayed"
    return report.end(refusal, as_json=args.json, accepted=good_end, draw=lambda screen: _draw(screen, log, bank))


def _choose_bank(log: "EventLog", name: str | None) -> "PcrBank":
    from tccp.model import PcrBank

    if name is not None:
        bank = PcrBank.from_name(name)
        if bank not in log.banks:
            has = ", ".join(known.hash_name for known in log.banks) or "none that is known"
            raise EvidenceError("event_log_bank_missing", f"the log has no {name} digests; it has {has}")
        return bank
    for known in BANKS_BY_CHOICE:
        if PcrBank.from_name(known) in log.banks:
            return PcrBank.from_name(known)
    raise EvidenceError("event_log_bank_missing", "the log has digests of no known bank")


def _judge(report: Report, content: bytes, bank: "PcrBank", args: argparse.Namespace) -> EvidenceError | None:
    """Why the log is refused, if it is; what holds goes into *report*."""
    from tccp.attestation.event_log import replay_event_log

    try:
        log = replay_event_log(content)
        report.checked.append(f"the structure of {len(log)} events, to the end of the log")
        report.not_proved.append("event types: no digest covers them")
        if args.pcrs is not None:
            _explain(report, log, bank, args)
        else:
            report.not_proved.append("anything else: without --pcrs, and a quote of these values, a log is a story")
    except EvidenceError as refusal:
        return refusal
    return None if len(log) else EvidenceError("malformed", "there is no event in it")


def _explain(report: Report, log: "EventLog", bank: "PcrBank", args: argparse.Namespace) -> None:
    from tccp.attestation.event_log import explain, explain_incomplete
    from tccp.cli.evidence.pcr_file import PCR_FILE_BYTES_MAX, parse_pcr_file
    from tccp.model import EXIT_BOOT_SERVICES_PCR

    pcrs = parse_pcr_file(read_file(args.pcrs, bytes_max=PCR_FILE_BYTES_MAX)).whole_bank(bank)
    comparison = _compare(log, bank, pcrs)
    report.more |= {
        "explained": comparison.explained,
        "unexplained": comparison.unexplained,
        "left_out": comparison.left_out,
    }
    report.not_proved.append("the PCR values themselves: tccp evidence quote --pcrs does that")
    if comparison.left_out:
        report.not_proved.append(
            f"PCR {_names(comparison.left_out)}: the log does not mention them, or they never count"
        )
    if missing := sorted(set(log.extended(bank)) - set(pcrs.values)):
        report.not_proved.append(f"PCR {_names(missing)}: the log extends them, and the file has no value")
    wanted = sorted(comparison.explained + comparison.unexplained)
    if not wanted:
        raise EvidenceError("event_log_mismatch", "the file has no PCR that the log could explain")
    if EXIT_BOOT_SERVICES_PCR in wanted:
        explain(log, pcrs, wanted)
        report.checked.append("the log reaches the point where firmware handed over to the operating system")
    else:
        explain_incomplete(log, pcrs, wanted)
        report.not_proved.append("that the log is complete: there is no value of PCR 5, where firmware hands over")
    report.checked.append(f"the log leads to the values of PCR {_names(wanted)}")


class Comparison(NamedTuple):
    """PCRs whose value the log leads to, those where it leads elsewhere, and those that need no explanation."""

    explained: list[int]
    unexplained: list[int]
    left_out: list[int]


def _compare(log: "EventLog", bank: "PcrBank", pcrs: "PcrValues") -> Comparison:
    from tccp.model import RESETTABLE_PCRS

    comparison = Comparison([], [], [])
    for index, value in pcrs.values.items():
        if index in RESETTABLE_PCRS:
            comparison.left_out.append(index)
        elif log.pcr(bank, index) == value:
            comparison.explained.append(index)
        elif index in OPERATING_SYSTEM_PCRS and index not in log.extended(bank):
            comparison.left_out.append(index)
        else:
            comparison.unexplained.append(index)
    return comparison


def _names(indexes: list[int]) -> str:
    return ", ".join(map(str, indexes))


def _summary(log: "EventLog", bank: "PcrBank") -> dict[str, str]:
    return {
        "format": "crypto-agile" if log.is_crypto_agile else "SHA-1 only",
        "banks": ", ".join(known.hash_name for known in log.banks),
        "shown": bank.hash_name,
        "startup locality": str(log.startup_locality),
        "end of the log": log.ending.name.lower().replace("_", " "),
        "firmware handed over": "yes" if log.is_complete else "no: the log does not show it",
        **({"kind": "of a confidential VM: indices are measurement registers"} if log.is_confidential else {}),
        **({"dynamic launch": "yes"} if log.has_dynamic_launch else {}),
    }


def _draw(screen: "Screen", log: "EventLog", bank: "PcrBank") -> None:
    from tccp.attestation.event_data import event_type_name
    from tccp.cli.evidence.event_text import event_text

    screen.table(
        ("event", "pcr", "type", bank.hash_name, "data", "content"),
        [
            (
                str(event.number),
                _pcr_name(event.pcr),
                event_type_name(event.claimed_type),
                _digest_text(event, bank, whole=not screen.is_terminal),
                _coverage(event, bank),
                event_text(event),
            )
            for event in log.events
        ],
    )
    screen.table(("pcr", f"replayed {bank.hash_name}"), [(str(i), value.hex()) for i, value in log.pcrs(bank).items()])


def _digest_text(event: "Event", bank: "PcrBank", *, whole: bool) -> str:
    """Whole where nothing has to fit; on a terminal the beginning is enough to tell digests apart."""
    if bank not in event.digests:
        return "-"
    digest = event.digests[bank].hex()
    return digest if whole else f"{digest[:DIGEST_CHARACTERS]}..."


def _pcr_name(pcr: int) -> str:
    return str(pcr) if pcr != 0xFFFFFFFF else "-"


def _coverage(event: "Event", bank: "PcrBank") -> str:
    """How much of the data the digest covers."""
    if not event.extends:
        return "extends nothing"
    measured = event.measured(bank)
    if measured is None:
        return "a claim"
    return "measured" if measured == event.claimed_data else "measured in part"


def _document(log: "EventLog", bank: "PcrBank") -> dict[str, Any]:
    from tccp.attestation.event_data import event_type_name
    from tccp.cli.evidence.event_text import event_document

    return {
        "bank": bank.hash_name,
        "banks": [known.hash_name for known in log.banks],
        "crypto_agile": log.is_crypto_agile,
        "confidential": log.is_confidential,
        "startup_locality": log.startup_locality,
        "ending": log.ending.name.lower(),
        "consumed_bytes": log.consumed_bytes,
        "complete": log.is_complete,
        "pcrs": {known.hash_name: {str(i): value for i, value in log.pcrs(known).items()} for known in log.banks},
        "events": [
            {
                "number": event.number,
                "pcr": event.pcr,
                "type": event.claimed_type,
                "type_name": event_type_name(event.claimed_type),
                "digests": {known.hash_name: digest for known, digest in event.digests.items()},
                "extends": event.extends,
                "measured": event.measured(bank),
                "data": event.claimed_data,
                "content": event_document(event),
            }
            for event in log.events
        ],
    }
