"""A machine of its own for commands that speak of `/etc/tccp`, `/run/tccp` and well-known ports.

The mounts and the network are those of a namespace: `/etc` is an overlay, `/run` and `/var/lib` are empty, the only
interface is the loopback one. Processes, users and everything else are the host's. Needs root.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SCRIPTS = Path(sys.executable).parent
PATIENCE_S = 60
SET_UP = """\
set -e
mount -t tmpfs -o mode=755 tccp-test /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
mount -t tmpfs -o mode=755 tccp-test /var/lib
ip link set lo up
echo ready
exec sleep infinity
"""


class PrivateMachine:
    """Commands run in *folder*, which is also the home of whoever runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Make the namespaces."""
        assert os.geteuid() == 0, "a machine of its own needs root: it mounts over /etc, in a namespace"
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "bash", "-c", SET_UP],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything in them."""
        for name in list(self._daemons):
            self.stop(name)
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def run(self, command: str, *, home: str = "", timeout_s: float = PATIENCE_S) -> "subprocess.CompletedProcess[str]":
        """What a person types into a shell there; *home*: somebody else's, a folder in ours."""
        return subprocess.run(
            [*self._inside, "bash", "-c", command],
            env=self._environment(home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def start(self, name: str, command: str) -> None:
        """Leave a process running there; its output goes to ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._inside, "bash", "-c", f"exec {command}"],
                env=self._environment(""),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def stop(self, name: str) -> int:
        """SIGTERM to one of them; its exit code."""
        process = self._daemons.pop(name)
        process.terminate()
        try:
            return process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def log(self, name: str) -> str:
        """What it said last."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    @property
    def _inside(self) -> Sequence[str]:
        namespaces = ["nsenter", "--mount", "--net", f"--target={self._holder.pid}"]
        return [*namespaces, "env", f"--chdir={self.folder}"]

    def _environment(self, home: str) -> dict[str, str]:
        mine = {"HOME": str(self.folder / home), "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "COLUMNS": "120"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "TCCP_"))}
        return {**kept, **mine}
