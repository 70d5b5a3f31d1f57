"""What all commands share that talk to a local daemon over its Unix control socket."""

import argparse
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tccp.cli.arguments import Parser

if TYPE_CHECKING:
    import msgspec

COORDINATOR_SOCKET = Path("/run/tccp/coordinator/control.sock")
NODE_SOCKET = Path("/run/tccp/node/control.sock")
SOCKET_VARIABLE = "TCCP_SOCKET"
LAST_MS = 253_402_300_799_000  # the last second that a datetime can be

A = TypeVar("A", bound="msgspec.Struct")


def add_socket(parser: Parser, default: Path) -> None:
    """The option that says which daemon is meant."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        type=Path,
        default=None,
        help=f"control socket of the daemon (default: ${SOCKET_VARIABLE}, or {default})",
    )
    parser.set_defaults(default_socket=default)


def socket_of(args: argparse.Namespace) -> Path:
    """The control socket that the command line, the environment or custom names."""
    if args.socket is not None:
        return Path(args.socket)
    return Path(os.environ.get(SOCKET_VARIABLE) or args.default_socket)


def ask(args: argparse.Namespace, request: "msgspec.Struct", answer: type[A]) -> A:
    """The daemon's *answer* to *request*.

    Raises:
        RefusedError: It said no.
        HostError: It went away or did not answer.
        ConfigError: There is none, or we may not speak to it.
    """
    from tccp.control.client import ControlClient

    with ControlClient(socket_of(args)) as daemon:
        return daemon.ask(request, answer)


def stream(args: argparse.Namespace, request: "msgspec.Struct", answer: type[A]) -> Iterator[A]:
    """The daemon's *answer*s to *request* as they come."""
    from tccp.control.client import ControlClient

    with ControlClient(socket_of(args)) as daemon:
        yield from daemon.stream(request, answer)


def plain(message: "msgspec.Struct") -> dict[str, Any]:
    """A message as JSON shows it: the keys are the names of its fields."""
    return {name: _plain(getattr(message, name)) for name in message.__struct_fields__}


def _plain(value: Any) -> Any:
    if hasattr(value, "__struct_fields__"):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def moment(at_ms: int) -> str:
    """A time as people read it, whoever says it; a dash for never."""
    if at_ms <= 0:
        return "-"
    if at_ms > LAST_MS:
        return "after the year 9999"
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def remaining(until_ms: int) -> str:
    """How long it is until then; a dash for never."""
    if not until_ms:
        return "-"
    left_s = until_ms / 1000 - datetime.now(UTC).timestamp()
    return f"{left_s:.0f} s" if left_s > 0 else "over"
