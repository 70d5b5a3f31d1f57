"""What an evidence command found out: for a program one document, for a person the same in sentences."""

from collections.abc import Callable
from typing import Any

from tccp.cli import exit_codes
from tccp.cli.output import Screen, complain, print_json
from tccp.errors import TccpError


class Report:
    """Filled while checking; what is not in `checked` was not checked.

    Attributes:
        subject: What is judged, for the first line.
        checked: What held, in the order in which it was checked.
        found: Names and what the evidence says; proved only as far as `checked` goes.
        not_proved: What a reader might believe, and must not.
        more: Further keys of the JSON document.
    """

    def __init__(self, subject: str) -> None:
        """Nothing was checked yet."""
        self.subject = subject
        self.checked: list[str] = []
        self.found: dict[str, str] = {}
        self.not_proved: list[str] = []
        self.more: dict[str, Any] = {}

    def end(
        self,
        refusal: TccpError | None,
        *,
        as_json: bool,
        accepted: str = "accepted",
        draw: Callable[[Screen], None] | None = None,
    ) -> int:
        """Print everything; returns the exit code.

        Args:
            refusal: Why it is refused, if it is.
            accepted: The word for a good end.
            draw: Prints a table of its own between the verdict's line and the lists.
        """
        verdict = "refused" if refusal is not None else accepted
        if as_json:
            problem = (
                {"error": refusal.reason, "detail": refusal.detail, "hint": refusal.hint} if refusal is not None else {}
            )
            print_json(
                {
                    "verdict": verdict,
                    **problem,
                    "checked": self.checked,
                    "found": self.found,
                    "not_proved": self.not_proved if refusal is None else ["anything: it is refused"],
                    **self.more,
                }
            )
        else:
            screen = Screen()
            screen.line(f"{self.subject}: {verdict}", style=verdict)
            if draw is not None:
                draw(screen)
            screen.facts("found", self.found)
            screen.list("checked", self.checked)
            if refusal is None:
                screen.list("not proved", self.not_proved, style="warn")
            else:
                complain(refusal.reason, refusal.detail, refusal.hint)
        return exit_codes.OK if refusal is None else exit_codes.exit_code_of(refusal)
