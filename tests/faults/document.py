"""What docs/PROTOCOL.md says becomes of a VM when something breaks at a step: the table that the faults are held to."""

import re
from pathlib import Path

from tests.faults.breaking import DAEMONS, OF, PEERS, Fault
from tests.faults.steps import Step

DOCUMENT = Path(__file__).parents[2] / "docs" / "PROTOCOL.md"
HEADING = "## When something breaks"
STEP_COLUMN = "held at"


def column_of(fault: Fault) -> str:
    """The column of a fault."""
    if fault.whom.startswith(OF):
        return "process killed" if fault.what == "kill" else "a moment"
    if fault.whom == PEERS:
        return "nodes cut apart"
    assert fault.whom in DAEMONS
    if fault.what == "kill":
        return f"{fault.whom} killed"
    return f"{fault.whom} silent" if fault.is_long else "a moment"


def table() -> dict[str, dict[str, set[str]]]:
    """Step -> column -> where the VM may be afterwards."""
    section = DOCUMENT.read_text().partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")]
    header = next(row for row in rows if row[0] == STEP_COLUMN)
    return {
        row[0]: {column: set(cell.split(", ")) for column, cell in zip(header[1:], row[1:], strict=True)}
        for row in rows[rows.index(header) + 1 :]
    }


def unforeseen(fault: Fault, outcomes: dict[Step, set[str]]) -> dict[str, str]:
    """Where a VM is after *fault* and the document does not say so, by step."""
    found = {str(step): (there, table()[str(step)][column_of(fault)]) for step, there in outcomes.items()}
    return {step: f"{there}, not {said}" for step, (there, said) in found.items() if not there <= said}
