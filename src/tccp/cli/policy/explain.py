"""``tccp policy explain``: why a measured-boot policy refuses a host, and what to do."""

import argparse
from typing import TYPE_CHECKING, Any

from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.evidence.verdict import Report
from tccp.cli.policy.common import explain_log, read_boot_policy
from tccp.errors import EvidenceError, PolicyError

if TYPE_CHECKING:
    from tccp.attestation.boot_finding import Finding
    from tccp.cli.output import Screen


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "explain",
        run,
        summary="say what a measured-boot policy makes of an event log",
        about="Shows each event that the policy does not allow: what it expected, what was there, what to do. With\n"
        "--pcrs the log must lead to these values; without them it is taken at its word, and nothing is proved.",
        examples=("tccp policy explain tvmm.toml --log refused.log --pcrs refused.pcrs",),
    )
    add_file(parser, "policy", summary="the policy")
    add_file(parser, "--log", summary="the event log", required=True)
    add_file(parser, "--pcrs", summary="the PCR values: tpm2_pcrread, tpm2_quote -o, JSON")


def run(args: argparse.Namespace) -> int:
    """Judge and report."""
    from tccp.attestation.boot_judge import findings
    from tccp.attestation.boot_policy import Mode
    from tccp.model import IMA_PCR

    policy = read_boot_policy(args.policy)
    report = Report(f"{args.log} by {policy}")
    found: tuple[Finding, ...] = ()
    refusal: EvidenceError | None = None
    try:
        explained = explain_log(args.log, args.pcrs, policy.bank, set(policy.selection.indexes) - {IMA_PCR})
        found = findings(policy, explained)
        names = ", ".join(map(str, sorted(policy.boot_pcrs)))
        report.checked.append(f"every event in PCR {names}")
        enforced = [finding for finding in found if finding.mode is Mode.ENFORCE]
        if enforced:
            more = f"; and {len(enforced) - 1} more" if len(enforced) > 1 else ""
            refusal = PolicyError(enforced[0].reason, f"{enforced[0]}{more}", hint=enforced[0].hint)
    except EvidenceError as problem:
        refusal = problem
    if args.pcrs is None:
        report.not_proved.append("anything: without --pcrs, and a quote of them, a log is a story")
    else:
        report.not_proved.append("the PCR values themselves: tccp evidence quote does that")
    if policy.ima_sha256 is not None:
        report.not_proved.append("what was measured later: tccp evidence ima --policy does that")
    report.more["findings"] = [_document(finding) for finding in found]
    good_end = "accepted" if args.pcrs is not None else "allowed"
    return report.end(refusal, as_json=args.json, accepted=good_end, draw=lambda screen: _draw(screen, found))


def _document(finding: "Finding") -> dict[str, Any]:
    event = finding.event.event if finding.event is not None else None
    return {
        "section": finding.section,
        "mode": finding.mode.value,
        "event": event.number if event is not None else None,
        "pcr": event.pcr if event is not None else None,
        "expected": finding.expected,
        "found": finding.found,
        "hint": finding.hint,
    }


def _draw(screen: "Screen", found: "tuple[Finding, ...]") -> None:
    for finding in found:
        event = finding.event.event if finding.event is not None else None
        where = f"event {event.number}, PCR {event.pcr}" if event is not None else "nowhere"
        word = "refused" if finding.mode.value == "enforce" else "warn"
        screen.line(f"{finding.section}: {where}", style=word)
        screen.line(f"  mode        {finding.mode.value}")
        screen.line(f"  expected    {finding.expected}")
        screen.line(f"  found       {finding.found}")
        screen.line(f"  what to do  {finding.hint}")
