"""``tccp evidence ima``: what a list of IMA says, whether it leads to a PCR value, and what a policy makes of it."""

import argparse
from typing import TYPE_CHECKING, Any

from tccp.cli.arguments import Commands, add_command, add_file, hex_bytes
from tccp.cli.evidence.verdict import Report
from tccp.cli.files import read_file
from tccp.errors import EvidenceError, PolicyError

if TYPE_CHECKING:
    from tccp.attestation.ima import ImaPolicy, Measurements
    from tccp.cli.output import Screen

IMA_LIST_BYTES_MAX = 256 << 20
POLICY_BYTES_MAX = 1 << 30
BANKS = ("sha256", "sha1")
SHOWN_ENTRIES = 20


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "ima",
        run,
        summary="replay a measurement list of IMA and judge it by a policy",
        about="With --pcr10 the list is accepted when its entries, or the first of them, lead to that value; what was\n"
        "measured later is left out. With --policy every entry must be one that the compiled policy allows\n"
        "(`tccp policy compile`). Without --pcr10 nothing is proved: anybody can write a list.",
        examples=(
            "sudo tccp evidence ima /sys/kernel/security/ima/binary_runtime_measurements",
            'tccp evidence ima list.bin --pcr10 "$PCR10" --policy tvmm.ima --json',
        ),
    )
    add_file(parser, "file", summary="the list, binary or in ASCII; - is standard input")
    parser.add_argument("--pcr10", metavar="HEX", type=hex_bytes, help="the value of PCR 10 that the list must lead to")
    parser.add_argument("--bank", choices=BANKS, help="bank to replay (default: that of --pcr10, else sha256)")
    add_file(parser, "--policy", summary="a compiled policy to judge the entries by")
    parser.add_argument("--all", action="store_true", help="show all entries, not the first few and those refused")


def run(args: argparse.Namespace) -> int:
    """Replay, compare, judge, and report."""
    report = Report(str(args.file))
    refusal: EvidenceError | None = None
    measurements: Measurements | None = None
    policy = _policy(args)
    verdicts = b""
    try:
        measurements = _measurements(report, read_file(args.file, bytes_max=IMA_LIST_BYTES_MAX), args)
        if policy is not None:
            verdicts, refusal = _judge(report, measurements, policy)
    except EvidenceError as problem:
        refusal = problem
    if measurements is not None and args.json:
        report.more["entries"] = [_document(measurements, at, verdicts) for at in range(len(measurements))]
    good_end = "accepted" if args.pcr10 is not None else "replayed"
    return report.end(
        refusal,
        as_json=args.json,
        accepted=good_end,
        draw=lambda screen: _draw(screen, measurements, verdicts, whole=args.all),
    )


def _policy(args: argparse.Namespace) -> "ImaPolicy | None":
    if args.policy is None:
        return None
    import hashlib

    from tccp.attestation.ima import ImaPolicy
    from tccp.mapped import map_file

    file = map_file(args.policy, bytes_max=POLICY_BYTES_MAX)
    return ImaPolicy(file, hashlib.sha256(file).digest())


def _measurements(report: Report, content: bytes, args: argparse.Namespace) -> "Measurements":
    from tccp.attestation.ima import ImaProgress, measurements_from_text, prove_measurements, replay_measurements
    from tccp.model import PcrSelection, PcrValues

    is_text = content[:1].isdigit()
    data = measurements_from_text(content) if is_text else content
    bank, wanted = _bank_and_value(args)
    report.found["format"] = "ASCII" if is_text else "binary"
    report.found["bank"] = bank.hash_name
    start = ImaProgress.start(bank)
    if wanted is None:
        measurements, value = replay_measurements(data, start)
        report.checked.append(f"the structure of {len(measurements)} entries, to the end of the list")
        report.not_proved.append("anything else: without --pcr10, and a quote of that value, a list is a story")
    else:
        proved = prove_measurements(data, start, PcrValues(PcrSelection.of(bank, [10]), {10: wanted}))
        measurements, value = proved, proved.progress.pcr
        later = len(data) - proved.progress.consumed_bytes
        report.checked.append(f"{len(proved)} entries lead to the value of PCR 10")
        report.not_proved.append("the PCR value itself: tccp evidence quote does that")
        if later:
            report.not_proved.append(f"the last {later} bytes of the list: measured later than PCR 10 was read")
    report.not_proved.append("templates, and what a violation was about: no hash covers them")
    report.found["entries"] = str(len(measurements))
    report.found["pcr 10"] = value.hex()
    report.more["pcr10"] = value
    return measurements


def _bank_and_value(args: argparse.Namespace) -> Any:
    from tccp.cli.exit_codes import UsageError
    from tccp.model import PcrBank

    if args.pcr10 is None:
        return PcrBank.from_name(args.bank or "sha256"), None
    value: bytes = args.pcr10
    banks = {PcrBank.from_name(name).digest_bytes: PcrBank.from_name(name) for name in BANKS}
    bank = PcrBank.from_name(args.bank) if args.bank else banks.get(len(value))
    if bank is None or len(value) != bank.digest_bytes:
        raise UsageError("usage", f"--pcr10: {len(value)} bytes are no PCR value of {args.bank or 'sha256 or sha1'}")
    return bank, value


def _judge(report: Report, measurements: "Measurements", policy: "ImaPolicy") -> tuple[bytes, EvidenceError | None]:
    """The verdicts, and the refusal if there is one."""
    from collections import Counter

    from tccp.attestation.ima import WHAT_TO_DO, Verdict, describe_entry

    verdicts = policy.verdicts(measurements)
    counts = {Verdict(number): count for number, count in sorted(Counter(verdicts).items())}
    report.found["policy"] = f"{len(policy)} digests, sha256 {policy.sha256.hex()}"
    report.found["verdicts"] = ", ".join(f"{count} {verdict.name.lower()}" for verdict, count in counts.items())
    report.more["verdicts"] = {verdict.name.lower(): count for verdict, count in counts.items()}
    bad = [at for at, number in enumerate(verdicts) if Verdict(number).refuses]
    if not bad:
        report.checked.append("the policy allows every entry")
        return verdicts, None
    first = Verdict(verdicts[bad[0]])
    more = f"; and {len(bad) - 1} more" if len(bad) > 1 else ""
    detail = f"{describe_entry(measurements.entry(bad[0]), first)}{more}"
    return verdicts, PolicyError("ima_entry_refused", detail, hint=WHAT_TO_DO[first])


def _document(measurements: "Measurements", at: int, verdicts: bytes) -> dict[str, Any]:
    from tccp.attestation.ima import Verdict

    entry = measurements.entry(at)
    return {
        "number": entry.number,
        "pcr": entry.pcr,
        "template": entry.template.name.lower().replace("_", "-"),
        "path": entry.path.decode("utf-8", "backslashreplace"),
        "digest": f"{entry.digest_name}:{entry.digest.hex()}" if entry.digest else "",
        "violation": entry.is_violation,
        **({"verdict": Verdict(verdicts[at]).name.lower()} if verdicts else {}),
    }


def _draw(screen: "Screen", measurements: "Measurements | None", verdicts: bytes, *, whole: bool) -> None:
    from tccp.attestation.ima import Verdict

    if measurements is None:
        return
    refused = [at for at, number in enumerate(verdicts) if Verdict(number).refuses]
    shown = (
        range(len(measurements)) if whole else refused[:SHOWN_ENTRIES] or range(min(len(measurements), SHOWN_ENTRIES))
    )
    rows = [_document(measurements, at, verdicts) for at in shown]
    columns = ("number", "template", "path", "digest") + (("verdict",) if verdicts else ())
    screen.table(columns, [[str(row[column]) for column in columns] for row in rows])
    if len(rows) < len(measurements):
        screen.line(f"... {len(measurements)} entries in all; --all shows them")
