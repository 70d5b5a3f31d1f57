"""How the daemons run: arguments, logs, foreseen failures as one line and a hint, exit codes."""

import argparse
import gc
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from tccp import __version__, logs
from tccp.config import CoordinatorConfig, NodeConfig, WitnessConfig, load_config
from tccp.core.process import harden
from tccp.errors import ConfigError, TccpError

EXIT_HOST_ERROR = 3
EXIT_CONFIG_ERROR = 4


@dataclass(frozen=True)
class Program:
    """A daemon as its command line shows it.

    Args:
        name: ``node``: the command is `tccp-node`.
        kind: What its configuration file is.
        about: What it does, in one sentence.
        config: Where that file is unless the command line says otherwise.
    """

    name: str
    kind: type[CoordinatorConfig] | type[NodeConfig] | type[WitnessConfig]
    about: str
    config: Path

    @property
    def command(self) -> str:
        """What one types."""
        return f"tccp-{self.name}"

    def parser(self) -> argparse.ArgumentParser:
        """Its command line."""
        parser = argparse.ArgumentParser(
            prog=self.command, description=self.about, epilog=f"example: {self.command} --config {self.config}"
        )
        parser.add_argument(
            "--config", metavar="FILE", type=Path, default=self.config, help="its configuration (default: %(default)s)"
        )
        parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        return parser


def run_daemon(program: Program, serve: Callable[[Path], Awaitable[None]], arguments: list[str] | None) -> int:
    """Run the daemon until it ends; the exit code.

    A foreseen failure is told in two lines, a bug with its trace.
    """
    config = program.parser().parse_args(arguments).config
    try:
        harden()
        logged = load_config(config, program.kind).log
        logs.configure(log_format=logged.format, level=logged.level)
        calm_the_garbage_collector()
        trio.run(serve, config)
    except TccpError as problem:
        return _report(problem)
    except BaseExceptionGroup as group:
        # What fails in one of the daemon's tasks arrives in a group; a group with anything unforeseen is a bug.
        foreseen, unforeseen = group.split(TccpError)
        if foreseen is None or unforeseen is not None:
            raise
        return _report(_first_leaf(foreseen))
    return 0


def calm_the_garbage_collector() -> None:
    """A daemon holds many small objects for long, and makes few cycles.

    With Python's defaults a collection walks through all sessions several times a second: a tenth of the time of a
    busy coordinator.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _report(problem: TccpError) -> int:
    print(f"tccp: error: {logs.escape(str(problem))}", file=sys.stderr)
    if problem.hint:
        print(f"tccp: hint: {logs.escape(problem.hint)}", file=sys.stderr)
    return EXIT_CONFIG_ERROR if isinstance(problem, ConfigError) else EXIT_HOST_ERROR


def _first_leaf(group: BaseExceptionGroup[TccpError]) -> TccpError:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first
