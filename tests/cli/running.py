"""The real ``tccp`` command as a child process: what it printed and how it ended."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tccp.cli.main import main

TCCP = str(Path(sys.executable).parent / "tccp")
# Far longer than any command takes; only there so that a hang fails.
PATIENCE_S = 60


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


def tccp(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
    """Run ``tccp`` without a terminal."""
    done = subprocess.run(
        [TCCP, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def tccp_on_a_terminal(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run ``tccp`` with a terminal as its standard output; returns every byte that the terminal got."""
    terminal, child_end = pty.openpty()
    base = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    with subprocess.Popen(
        [TCCP, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=child_end,
        stderr=subprocess.PIPE,
        env={**base, "TERM": "xterm-256color", "COLUMNS": "200", **(env or {})},
    ) as child:
        os.close(child_end)
        received = bytearray()
        while True:
            try:
                block = os.read(terminal, 65_536)
            except OSError:  # Linux says EIO when the last writer has gone
                break
            if not block:
                break
            received += block
        os.close(terminal)
        assert child.stderr is not None
        complaint = child.stderr.read()
        code = child.wait(PATIENCE_S)
    return Ended(code, received.decode(), complaint.decode())


def tccp_in_process(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str | Path) -> Ended:
    """Run ``tccp`` in this process, which is quicker; what it printed goes through the real descriptors."""
    capfdbinary.readouterr()
    code = main([str(argument) for argument in arguments])
    sys.stdout.flush()
    shown = capfdbinary.readouterr()
    return Ended(code, shown.out.decode(), shown.err.decode())
