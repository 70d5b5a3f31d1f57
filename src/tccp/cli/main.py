"""The entry point of ``tccp``: parse the command line, run one command, turn what went wrong into an exit code."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tccp import __version__
from tccp.cli import exit_codes
from tccp.cli.arguments import HelpFormatter, Parser
from tccp.cli.output import complain, print_json
from tccp.errors import TccpError

ABOUT = """\
The Trusted Cloud Computing Platform: virtual machines run only on hosts that proved what they are.

Every command takes --json, and says by its exit code whose fault a failure is."""

EXAMPLES = """\
examples:
  tccp doctor                            is this machine ready, and if not, how to mend it
  tccp config check                      are the configuration files right, and if not, where
  tccp coordinator nodes                 who is admitted, and who was refused and why
  tccp top                               the whole perimeter at a glance, live
  tccp node status                       is this node admitted
  tccp image seal disk.qcow2 disk.sealed --to node.pub --sign tenant.key
  tccp trust add tc.example.net:7444 --policy tc-policy.toml
  tccp evidence quote --help             verify a quote that tpm2-tools wrote
  tccp policy explain --help             why does a policy refuse this host, and what to do
  eval "$(tccp completion bash)"         completion for this shell

environment:
  TCCP_SOCKET    control socket of the daemon, where --socket is not given
  TCCP_TCTI      where the TPM is, where --tcti is not given
  NO_COLOR       no colours, when set to anything"""

# In the order of the help; each is a module beside this one with an `add_parser`.
COMMANDS = (
    "evidence",
    "coordinator",
    "top",
    "watch",
    "node",
    "policy",
    "image",
    "key",
    "disk",
    "trust",
    "receipt",
    "log",
    "witness",
    "probe",
    "ticket",
    "vm",
    "config",
    "doctor",
    "completion",
)

# All others may come to hold a secret. `doctor` works even where the C core does not load, and says that it does not.
HOLD_NO_SECRETS = frozenset({"doctor", "completion"})


def build_parser(command: str = "") -> Parser:
    """The whole command line, or of its commands only *command* when that is one of them: the others cost 30 ms."""
    parser = Parser(
        prog="tccp",
        description=ABOUT,
        epilog=f"{EXAMPLES}\n\n{exit_codes.epilogue()}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tccp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in (command,) if command in COMMANDS else COMMANDS:
        importlib.import_module(f"tccp.cli.{name}").add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``tccp`` and return what to exit with.

    Args:
        arguments: The process's own by default; only then the process is ours, to be hardened for good.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    _ready_output()
    # Asked for before parsing, because a wrong command line is told in JSON too.
    as_json = "--json" in words
    try:
        code = _run(words, as_json=as_json, own_process=arguments is None)
        # What is still buffered can hit a broken pipe, too; the interpreter's own flush would complain loudly.
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return exit_codes.BROKEN_PIPE
    except OSError as error:  # there was no room for the last of it
        _discard_output()
        with contextlib.suppress(OSError):
            complain("os_error", error.strerror or str(error), "")
        return exit_codes.exit_code_of(error)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            print("tccp: interrupted", file=sys.stderr)
        return exit_codes.INTERRUPTED
    return code


def _run(words: list[str], *, as_json: bool, own_process: bool) -> int:
    try:
        args = build_parser(words[0] if words else "").parse_args(words)
        if own_process and words[0] not in HOLD_NO_SECRETS:
            from tccp.core.process import harden

            harden()
        return int(args.run(args))
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except BrokenPipeError:
        raise
    except TccpError as error:
        _report(error.reason, error.detail, error.hint, as_json=as_json)
        return exit_codes.exit_code_of(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _report("os_error", f"{where}{error.strerror or error}", "", as_json=as_json)
        return exit_codes.exit_code_of(error)
    except Exception as error:  # noqa: BLE001 - Python would exit with 1 here, which says "refused"
        import traceback

        traceback.print_exc()
        _report("bug", f"{type(error).__name__}: {error}", "Please report this with the lines above.", as_json=as_json)
        return exit_codes.BUG


def _report(reason: str, detail: str, hint: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"error": reason, "detail": detail, "hint": hint})
    else:
        complain(reason, detail, hint)


def _ready_output() -> None:
    """A closed descriptor swallows what is printed, and a character that a terminal cannot show becomes a number."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _discard_output() -> None:
    """Point standard output at nothing, so that the interpreter's flush at exit has nobody to complain to."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())
