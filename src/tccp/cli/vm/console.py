"""``tccp vm console``: the serial console of a VM."""

import argparse
import contextlib
import os
import select
import socket
import sys
from collections.abc import Iterator

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command
from tccp.cli.control import NODE_SOCKET, add_socket
from tccp.cli.exit_codes import UsageError
from tccp.cli.vm.common import add_vm, find_vm
from tccp.errors import ConfigError, HostError

LEAVE = b"\x1d"  # Ctrl-]
READ_BYTES = 65_536


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "console",
        run,
        summary="open the serial console of a VM",
        about="What the guest said last comes first. On a terminal Ctrl-] leaves; from a pipe, its end does not: what\n"
        "the guest says goes on until it has ended. The guest's console is no secret of the tenant's.",
        examples=("tccp vm console 5d4c", "tccp vm console 5d4c | tee console.log"),
    )
    add_vm(parser)
    add_socket(parser, NODE_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Relay between this terminal and the guest's."""
    if args.json:
        raise UsageError("usage", "a console is no JSON document")
    vm = find_vm(args)
    if not vm.console:
        raise ConfigError("no_console", f"{vm.vm_id.hex()} is {vm.state}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        try:
            console.connect(vm.console)
        except OSError as problem:
            raise HostError("console_unreachable", f"{vm.console}: {problem.strerror}") from None
        with _raw_terminal():
            _relay(console)
    return exit_codes.OK


def _relay(console: socket.socket) -> None:
    """Until the guest has ended, or the person leaves."""
    watched = [console.fileno()]
    if sys.stdin is not None:
        watched.append(sys.stdin.fileno())
    while True:
        ready, _, _ = select.select(watched, [], [])
        if watched[0] in ready:
            said = console.recv(READ_BYTES)
            if not said:
                return
            while said:
                said = said[os.write(sys.stdout.fileno(), said) :]
        if len(watched) > 1 and watched[1] in ready:
            typed = os.read(sys.stdin.fileno(), READ_BYTES)
            before, leaves, _ = typed.partition(LEAVE) if sys.stdin.isatty() else (typed, b"", b"")
            with contextlib.suppress(BrokenPipeError):
                console.sendall(before)
            if leaves:
                return
            if not typed:
                watched.pop()


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the guest, and comes back as the guest shows it."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
