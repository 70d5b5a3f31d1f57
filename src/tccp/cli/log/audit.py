"""``tccp log audit``: read all of a log, and see whether its entries are those that were signed."""

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from tccp.cli.arguments import Commands, add_command
from tccp.cli.evidence.verdict import Report
from tccp.cli.log.common import OpenLog, add_log, open_log, root_text
from tccp.errors import EvidenceError, LogError

if TYPE_CHECKING:
    from tccp.transparency.checkpoint import Checkpoint


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "audit",
        run,
        summary="read all entries of a log, and check that they are those that were signed",
        about="The tree is made anew from the entries; its root must be the signed one, and on the way the one that\n"
        "was seen when the coordinator was looked at last.",
        examples=("tccp log audit", "tccp log audit --log ./copy --key 'NAME+ID+KEY'"),
    )
    add_log(parser)


def run(args: argparse.Namespace) -> int:
    """Audit, and report."""
    with open_log(args) as log:
        report = Report(log.key.name)
        try:
            _audit(log, report)
        except EvidenceError as refusal:
            return report.end(refusal, as_json=args.json)
    return report.end(None, as_json=args.json)


def _audit(log: OpenLog, report: Report) -> None:
    from tccp.tenant.log_source import Audit, read_entries
    from tccp.tenant.pinned_log import refuse_fork
    from tccp.transparency.entry import decode_entry

    head = log.head.checkpoint
    seen: Checkpoint | None = log.pinned.head if log.pinned else None
    report.checked.append("the head is signed by the key of this log")
    if seen is not None and seen.size > head.size:
        raise LogError("rollback", f"{head.size} entries, and {seen.size} were seen before")
    refuse_fork(head, seen)
    audit, kinds, at_ms = Audit(), Counter[str](), 0
    for index, data in read_entries(log.source, head.size):
        if seen is not None and index == seen.size:
            audit.compare(seen)
        entry = decode_entry(data)
        if entry.at_ms < at_ms:
            report.not_proved.append(f"the time of entry {index}: it is before that of the entry before")
        kinds[entry.kind] += 1
        at_ms = entry.at_ms
        audit.add(data)
    audit.compare(head)
    report.found = {"entries": str(head.size), "root": root_text(head.root)} | {
        f"kind {kind}": str(count) for kind, count in sorted(kinds.items())
    }
    report.checked.append(f"all {head.size} entries, in this order, lead to the signed root")
    if seen is not None:
        report.checked.append(f"the first {seen.size} of them are those under the head that was seen before")
    report.not_proved += ["that everything that happened has an entry", "what entries hide: receipts show it"]
    report.more = {"size": head.size, "root": head.root, "kinds": dict(kinds)}
