"""``python -m tools.completion FOLDER``: completion scripts of all commands for bash and zsh, from their parsers.

FOLDER becomes what is below /usr/share: ``bash-completion/completions/tccp``, ``zsh/vendor-completions/_tccp``, ...
"""

import argparse
import sys
from pathlib import Path

import shtab

from tccp.cli.arguments import COMPLETE_FILES
from tccp.cli.main import build_parser
from tools.man.commands import DAEMONS

PLACES = {"bash": "bash-completion/completions/{}", "zsh": "zsh/vendor-completions/_{}"}


def scripts() -> dict[Path, str]:
    """Each file, below FOLDER, and what belongs into it."""
    parsers: dict[str, argparse.ArgumentParser] = {"tccp": build_parser()}
    for program in DAEMONS:
        parsers[program.command] = parser = program.parser()
        for action in parser._actions:
            if "--config" in action.option_strings:
                action.complete = COMPLETE_FILES  # type: ignore[attr-defined]
    return {
        Path(place.format(command)): shtab.complete(parser, shell=shell) + "\n"
        for shell, place in PLACES.items()
        for command, parser in parsers.items()
    }


if __name__ == "__main__":
    for name, script in scripts().items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf-8")
