"""Manual pages: every command, option and key has its place in one, and two formatters find no fault."""

import argparse
import subprocess
from pathlib import Path

import pytest

from tccp.cli.main import COMMANDS, build_parser
from tccp.config.files import FILES
from tccp.config.schema import describe
from tools.man.__main__ import pages
from tools.man.commands import DAEMONS, commands_of
from tools.man.roff import Page, bold, escape, inline, usage

PAGES = {page.file_name: page for page in pages("2026-11-27")}


def shown(page: Page, folder: Path) -> str:
    """The page as a reader sees it, without emphasis and on long lines."""
    path = folder / page.file_name
    path.write_text(page.render(), encoding="ascii")
    formatted = subprocess.run(
        ["groff", "-ww", "-man", "-Tascii", "-P-cbou", "-rLL=300n", "-rHY=0", path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert formatted.stderr == ""
    return formatted.stdout


@pytest.mark.parametrize("name", PAGES)
def test_two_formatters_find_nothing_to_complain_about(name: str, tmp_path: Path) -> None:
    shown(PAGES[name], tmp_path)
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", tmp_path / name], capture_output=True, text=True, check=False
    )

    assert (lint.returncode, lint.stdout) == (0, "")


def test_a_fault_in_a_page_is_found(tmp_path: Path) -> None:
    page = Page("wrong", 1, summary="x", date="2026-11-27", source="tccp")
    page.line(".NOSUCHMACRO x")

    with pytest.raises(AssertionError, match="NOSUCHMACRO"):
        shown(page, tmp_path)


def test_there_is_a_page_for_each_command_daemon_and_file() -> None:
    commands = {"tccp.1", *(f"tccp-{name}.1" for name in COMMANDS)}
    daemons = {f"{program.command}.8" for program in DAEMONS}

    assert set(PAGES) == commands | daemons | {f"tccp-{file.name}.toml.5" for file in FILES}


def options(parser: argparse.ArgumentParser) -> set[str]:
    own = {name for action in parser._actions for name in action.option_strings} - {"-h", "--help"}
    return own.union(*(options(command.parser) for command in commands_of(parser)))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_below_its_command(name: str, tmp_path: Path) -> None:
    text = shown(PAGES[f"tccp-{name}.1"], tmp_path)
    (command,) = [each for each in commands_of(build_parser(name)) if each.name == name]

    assert not [option for option in options(command.parser) if option not in text]
    assert "EXAMPLES" in text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_page_has_every_key_with_what_it_means(file: object, tmp_path: Path) -> None:
    assert hasattr(file, "kind")
    text = " ".join(shown(PAGES[f"tccp-{file.name}.toml.5"], tmp_path).split())

    for table in describe(file.kind):
        for key in table.keys:
            assert f"{key.name} ({key.allowed}; " in text
            assert key.about.replace("`", "") in text


def test_text_never_becomes_a_macro_or_another_sign(tmp_path: Path) -> None:
    nasty = ".SH 'x' \\fB -- ~^`\" \N{EM DASH}"
    page = Page("nasty", 1, summary="x", date="2026-11-27", source="tccp")
    page.prose(f"{nasty}\n\n{nasty}")
    page.block([nasty])

    assert shown(page, tmp_path).count(nasty.replace("\N{EM DASH}", "--")) == 3


def test_what_is_typed_is_bold_and_what_is_replaced_is_not() -> None:
    assert inline("say `tccp top` now") == r"say \fBtccp top\fR now"
    assert inline("one ` alone") == r"one \(ga alone"
    assert usage("tccp x [--to FILE]") == rf"{bold('tccp')} {bold('x')} [{bold('--to')} \fIFILE\fR]"
    assert escape(".x") == r"\&.x"
