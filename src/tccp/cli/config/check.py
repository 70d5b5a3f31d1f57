"""``tccp config check``: all that is wrong with configuration files, before a daemon is started with them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_optional_files
from tccp.cli.config.example import NAMES
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.cli.config.finding import Finding
    from tccp.config.files import ConfigFile


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "check",
        run,
        summary="tell all that is wrong with configuration files",
        about="Without FILE those in /etc/tccp. Each mistake is told with its line, what is allowed, and what was\n"
        "meant perhaps; then the files, folders, users and groups that are named are looked at. Nothing is changed\n"
        "and nobody is called. As root it also knows what the daemons' own users may read. Exits with 4 when a daemon\n"
        "would not start or not work so; warnings alone exit with 0. `tccp doctor` looks at the machine.",
        examples=(
            "sudo tccp config check",
            "tccp config check node.toml",
            "tccp config check --as coordinator /tmp/new.toml --json | jq '.findings[] | select(.status == \"fail\")'",
        ),
    )
    parser.add_argument("--as", dest="name", choices=NAMES, help="what the files are, where their names do not say so")
    add_optional_files(
        parser, "files", summary="a configuration file; its name begins with coordinator, node or witness"
    )


def run(args: argparse.Namespace) -> int:
    """Check each file, and report."""
    from tccp.cli.doctor.finding import Status

    checked = _files(args.files, args.name)
    findings = [finding for path, file in checked for finding in _check(path, file)]
    failed = any(finding.status is Status.FAIL for finding in findings)
    warned = any(finding.status is Status.WARN for finding in findings)
    verdict = Status.FAIL if failed else Status.WARN if warned else Status.OK
    if args.json:
        files = [{"file": str(path), "kind": file.name} for path, file in checked]
        print_json({"verdict": verdict, "files": files, "findings": [each._asdict() for each in findings]})
    else:
        screen = Screen()
        screen.table(
            ("status", "place", "key", "found", "how to mend it"),
            [(each.status, each.place, each.key, each.found, each.mend) for each in findings],
            style_column=0,
        )
        screen.line(f"verdict: {verdict}", style=verdict)
    return exit_codes.CONFIG if failed else exit_codes.OK


def _files(paths: list[Path], name: str | None) -> list[tuple[Path, "ConfigFile"]]:
    """What to check, and as what.

    Raises:
        ConfigError: ``no_configuration``: nothing was named, and nothing is in /etc/tccp.
        UsageError: The name of a file does not say what it is.
    """
    from tccp.cli.exit_codes import UsageError
    from tccp.config.files import FILES, FOLDER
    from tccp.errors import ConfigError

    wanted = [file for file in FILES if name in (None, file.name)]
    if not paths:
        there = [(file.path, file) for file in wanted if file.path.exists()]
        if not there:
            hint = "`tccp coordinator init`, `tccp witness init` and `tccp config example node` begin one."
            raise ConfigError("no_configuration", f"there is no configuration file in {FOLDER}", hint=hint)
        return there
    found = []
    for path in paths:
        file = next((file for file in wanted if name or path.name.startswith(file.name)), None)
        if file is None:
            raise UsageError(
                "usage", f"{path}: the name does not say what it is", hint="Add --as, for example --as coordinator."
            )
        found.append((path, file))
    return found


def _check(path: Path, file: "ConfigFile") -> "list[Finding]":
    """The mistakes of a file, or when there are none, what its values lead to."""
    from tccp.cli.config import coordinator, node, witness
    from tccp.cli.config.finding import Finding, Report
    from tccp.cli.doctor.finding import Status
    from tccp.config import CoordinatorConfig, NodeConfig, WitnessConfig
    from tccp.config.loading import load_config, read_config
    from tccp.config.mistakes import find_mistakes
    from tccp.config.places import lines_of

    content = read_config(path, file.kind)
    mistakes = find_mistakes(content, file.kind)
    if mistakes:
        return [
            Finding(Status.FAIL, str(path), each.line, each.key, each.problem, each.suggestion) for each in mistakes
        ]
    report = Report(path, lines_of(content.decode().replace("\r\n", "\n")))
    match load_config(path, file.kind):
        case CoordinatorConfig() as config:
            coordinator.look(report, config)
        case NodeConfig() as config:
            node.look(report, config)
        case WitnessConfig() as config:
            witness.look(report, config)
    return sorted(report.findings, key=lambda each: each.line) or [
        Finding(Status.OK, str(path), 0, "", f"well: a {file.name} can work with it", "")
    ]
