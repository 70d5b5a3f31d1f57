"""What is found where in a file, and a sheet to note it on."""

from pathlib import Path
from typing import NamedTuple

from tccp.cli.doctor.finding import Status
from tccp.config.places import Place


class Finding(NamedTuple):
    """One line of the report.

    Args:
        line: From 1 on; 0 when the file as a whole is meant.
        key: ``tpm.tcti``; empty when it is about none.
        found: What was found.
        mend: What to do about it, a full sentence; empty when nothing need be done.
    """

    status: Status
    file: str
    line: int
    key: str
    found: str
    mend: str

    @property
    def place(self) -> str:
        """``/etc/tccp/node.toml:7``."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Report:
    """Findings about one file.

    Args:
        path: The file.
        lines: The line of each of its keys.
    """

    def __init__(self, path: Path, lines: dict[Place, int]) -> None:
        self.path = path
        self._lines = lines
        self.findings: list[Finding] = []

    def fail(self, place: Place, found: str, mend: str) -> None:
        """Note what keeps a daemon from starting, or from working."""
        self._note(Status.FAIL, place, found, mend)

    def warn(self, place: Place, found: str, mend: str) -> None:
        """Note what works, and is probably not what somebody wants; or what could not be seen."""
        self._note(Status.WARN, place, found, mend)

    def _note(self, status: Status, place: Place, found: str, mend: str) -> None:
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
        while place and place not in self._lines:
            place = place[:-1]
        self.findings.append(Finding(status, str(self.path), self._lines.get(place, 0), key, found, mend))
