"""Manual pages in roff: macros of man(7), and text that can become none by accident."""

import re
from collections.abc import Iterable

_CHARACTERS = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)


def escape(text: str) -> str:
    """*text* as roff prints it, sign by sign: it can be copied out of the page, and begins no macro."""
    escaped = text.translate(_CHARACTERS)
    escaped = "".join(sign if sign.isascii() else f"\\[u{ord(sign):04X}]" for sign in escaped)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def inline(text: str) -> str:
    """Prose in which what stands between backticks is typed as it is: bold."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one that has no other is a sign
        return escape(text)
    return "".join(bold(part) if number % 2 else escape(part) for number, part in enumerate(parts))


def bold(text: str) -> str:
    """What is typed as it is."""
    return rf"\fB{escape(text)}\fR"


def italic(text: str) -> str:
    """What is replaced by something."""
    return rf"\fI{escape(text)}\fR"


def usage(text: str) -> str:
    """A line of a synopsis: names of commands and options bold, what stands for something italic."""
    words = re.findall(r"[A-Z][A-Z0-9_:=.]*(?![a-z])|[\w./-]+|.", text)
    return "".join(
        escape(word)
        if not re.match(r"[\w-]", word) or word == "..."
        else italic(word)
        if word.isupper()
        else bold(word)
        for word in words
    )


class Page:
    """A page in the making.

    Args:
        name: ``tccp-vm``; what it is about follows in *summary*, without a full stop.
        date: ``2026-11-27``.
        source: ``tccp 0.1.0``.
    """

    def __init__(self, name: str, section: int, *, summary: str, date: str, source: str) -> None:
        self.file_name = f"{name}.{section}"
        self._lines = [f'.TH "{escape(name.upper())}" "{section}" "{date}" "{source}" "Manual of tccp"']
        self.section("NAME")
        self._lines.append(rf"{escape(name)} \- {escape(summary)}")

    def section(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {title}")

    def subsection(self, title: str) -> None:
        """Begin a part of one; *title* is roff already."""
        self._lines.append(f".SS {title}")

    def line(self, text: str) -> None:
        """Roff, as it is."""
        self._lines.append(text)

    def prose(self, text: str) -> None:
        """Paragraphs with empty lines between them; one with indented lines stays as it was set."""
        for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
            if re.search(r"^  ", paragraph, re.MULTILINE):
                self.block(paragraph.splitlines())
            else:
                self._paragraph()
                self._lines.append(inline(" ".join(paragraph.split())))

    def block(self, lines: Iterable[str]) -> None:
        """Lines that stay as they are."""
        self._paragraph()
        self._lines += [".nf", ".RS 4", *(escape(line) for line in lines), ".RE", ".fi"]

    def item(self, term: str, text: str) -> None:
        """A term (roff already) and what it means."""
        self._lines += [".TP", term, inline(text or "...")]

    def items(self, items: Iterable[tuple[str, str]]) -> None:
        """Several of them."""
        for term, text in items:
            self.item(term, text)

    def _paragraph(self) -> None:
        """Begin one, unless a heading has."""
        if not self._lines[-1].startswith(".S"):
            self._lines.append(".PP")

    def render(self) -> str:
        """The page."""
        return "\n".join(self._lines) + "\n"
