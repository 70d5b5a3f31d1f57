"""Processes of this machine as /proc shows them; one that ends while we look is left out."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """Id and words of every process that has any."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if line := (folder / "cmdline").read_bytes():
                yield int(folder.name), line.decode(errors="replace").removesuffix("\0").split("\0")


def children_of(parent: int, word: str = "") -> dict[int, list[str]]:
    """The command lines of the children of a process, by id; with *word*, of those that have such a word."""
    found = {}
    for pid, words in command_lines():
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if int(stat.rpartition(")")[2].split()[1]) == parent and (not word or word in words):
                found[pid] = words
    return found
