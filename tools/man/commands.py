"""Manual pages of commands, made from the parsers that read their command lines."""

import argparse
import re
from collections.abc import Iterator
from typing import NamedTuple

from tccp import __version__
from tccp.cli import exit_codes
from tccp.cli.main import build_parser
from tccp.coordinator.daemon import PROGRAM as COORDINATOR
from tccp.node.daemon import PROGRAM as NODE
from tccp.notifier.daemon import PROGRAM as NOTIFIER
from tccp.service import Program
from tccp.witness.daemon import PROGRAM as WITNESS
from tccp.witness.feeder import PROGRAM as FEEDER
from tools.man.roff import Page, bold, usage

DAEMONS = (COORDINATOR, NODE, WITNESS, FEEDER, NOTIFIER)
SOURCE = f"tccp {__version__}"
# What `tccp` may exit with and a daemon does, too.
DAEMON_EXITS = (exit_codes.OK, exit_codes.USAGE, exit_codes.HOST, exit_codes.CONFIG)


class Command(NamedTuple):
    """A command below another one."""

    name: str
    summary: str
    parser: argparse.ArgumentParser


def commands_of(parser: argparse.ArgumentParser) -> list[Command]:
    """The commands right below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {each.dest: each.help or "" for each in action._choices_actions}
            return [Command(name, summaries[name], below) for name, below in action.choices.items()]
    return []


def command_pages(date: str) -> Iterator[Page]:
    """tccp(1), a page for each command right below it, and one for each daemon."""
    parser = build_parser()
    groups = commands_of(parser)
    yield _page_of_tccp(parser, groups, date)
    for group in groups:
        yield _page_of_command(group, date)
    for program in DAEMONS:
        yield _page_of_daemon(program, date)


def _page_of_tccp(parser: argparse.ArgumentParser, groups: list[Command], date: str) -> Page:
    page = Page("tccp", 1, summary="trusted cloud computing platform", date=date, source=SOURCE)
    _synopsis(page, parser)
    page.section("DESCRIPTION")
    page.prose(parser.description or "")
    page.section("COMMANDS")
    for group in groups:
        page.item(_reference(f"tccp-{group.name}", 1), _sentence(group.summary))
    _options(page, parser, title="OPTIONS")
    _epilogue(page, parser)
    page.section("FILES")
    page.item(bold("/etc/tccp"), "Configuration of the daemons, and keys of their operators.")
    page.item(bold("/var/lib/tccp"), "What the daemons keep.")
    daemons = [(f"tccp-{program.name}", 8) for program in DAEMONS]
    _see_also(page, [*daemons, ("tccp-coordinator.toml", 5), ("tccp-node.toml", 5), ("tccp-witness.toml", 5)])
    return page


def _page_of_command(command: Command, date: str) -> Page:
    page = Page(f"tccp-{command.name}", 1, summary=command.summary, date=date, source=SOURCE)
    below = commands_of(command.parser)
    _synopsis(page, command.parser)
    page.section("DESCRIPTION")
    page.prose(_without_summary(command))
    if below:
        page.section("COMMANDS")
        for each in below:
            _subcommands(page, each)
    _options(page, command.parser, title="OPTIONS")
    _epilogue(page, command.parser)
    page.section("EXIT STATUS")
    page.line(f"As {_reference('tccp', 1)} says.")
    same = [(program.command, 8) for program in DAEMONS if program.name == command.name]
    files = [(f"tccp-{command.name}.toml", 5) for _ in same]
    _see_also(page, [("tccp", 1), *same, *files])
    return page


def _subcommands(page: Page, command: Command) -> None:
    """A command below a group, or all of those below it."""
    below = commands_of(command.parser)
    if below:
        for each in below:
            _subcommands(page, each)
        return
    page.subsection(usage(_usage(command.parser)))
    page.prose(command.parser.description or "")
    _options(page, command.parser)
    for title, lines in _blocks(command.parser.epilog or ""):
        page.line(".PP")
        page.line(f"{title.capitalize()}:")
        page.block(lines)


def _page_of_daemon(program: Program, date: str) -> Page:
    page = Page(program.command, 8, summary=_lower(program.about).rstrip("."), date=date, source=SOURCE)
    parser = program.parser()
    _synopsis(page, parser)
    page.section("DESCRIPTION")
    page.prose(
        f"{program.about}\n\nsystemd runs it as `{program.command}.service`: it takes its sockets from there, if it "
        "has any, says when it is ready, and answers the watchdog. In a terminal it opens its sockets itself."
    )
    _options(page, parser, title="OPTIONS")
    page.section("SIGNALS")
    page.item(bold("SIGTERM, SIGINT"), "Stop in order.")
    if program.name in {"coordinator", "node"}:
        page.item(bold("SIGHUP"), "Read the configuration again; a wrong one changes nothing, and the log says so.")
    page.section("EXIT STATUS")
    page.items((bold(str(code)), _sentence(exit_codes.MEANINGS[code])) for code in DAEMON_EXITS)
    page.section("FILES")
    page.item(bold(str(program.config)), "The configuration; `tccp config check` tells what is wrong with it.")
    _see_also(page, [("tccp", 1), ("tccp-config", 1), (f"tccp-{program.config.stem}.toml", 5)])
    return page


def _synopsis(page: Page, parser: argparse.ArgumentParser) -> None:
    page.section("SYNOPSIS")
    page.line(usage(_usage(parser)))


def _usage(parser: argparse.ArgumentParser) -> str:
    return " ".join(parser.format_usage().removeprefix("usage: ").split()).replace(" [-h]", "")


def _options(page: Page, parser: argparse.ArgumentParser, *, title: str = "") -> None:
    """What stands on the command line, but commands and --help; nothing at all where there is nothing."""
    shown = [
        action
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
        and action.help != argparse.SUPPRESS
    ]
    if shown and title:
        page.section(title)
    formatter = parser._get_formatter()
    for action in shown:
        text = formatter._expand_help(action) if action.help else ""
        page.item(_term(action, formatter), _sentence(text))


def _term(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    value = formatter._format_args(action, action.dest.upper()) if action.nargs != 0 else ""
    if not action.option_strings:
        return usage(value)
    names = ", ".join(bold(name) for name in action.option_strings)
    return f"{names} {usage(value)}".rstrip()


def _epilogue(page: Page, parser: argparse.ArgumentParser) -> None:
    for title, lines in _blocks(parser.epilog or ""):
        heading = {"exit codes": "EXIT STATUS"}.get(title, title.upper())
        page.section(heading)
        if title == "examples":
            page.block(lines)
        else:
            page.items((bold(term), _sentence(text)) for term, text in (line.split(None, 1) for line in lines))


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """``examples:`` and the indented lines below it, and whatever follows in the same way."""
    for block in re.findall(r"^(\w[\w ]*):\n((?: .*\n?)+)", text, re.MULTILINE):
        yield block[0], [line.strip() for line in block[1].splitlines()]


def _without_summary(command: Command) -> str:
    """A description without the summary that it begins with; of a group that has no other, the summary."""
    description = command.parser.description or ""
    return description.partition("\n\n")[2] or description


def _sentence(text: str) -> str:
    """``who is admitted`` -> ``Who is admitted.``."""
    text = " ".join(text.split())
    return text and f"{text[0].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _reference(name: str, section: int) -> str:
    return f"{bold(name)}({section})"


def _see_also(page: Page, others: list[tuple[str, int]]) -> None:
    page.section("SEE ALSO")
    page.line(", ".join(_reference(*other) for other in sorted(others, key=lambda other: (other[1], other[0]))))
