"""The real process that serves a disk, for tests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.disk.opening import KEY


class ServedDisk:
    """`tccp disk serve` as a child."""

    def __init__(self, disk: Path, socket: Path, *arguments: str, key: bytes = KEY) -> None:
        reader, writer = os.pipe()
        os.write(writer, key)
        os.close(writer)
        command = [sys.executable, "-m", "tccp.cli.main", "disk", "serve", str(disk), "--socket", str(socket)]
        command += ["--key-fd", str(reader), "--json", *arguments]
        self.socket = socket
        self.uri = f"nbd+unix:///?socket={socket}"
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[reader], text=True
        )
        os.close(reader)
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first.startswith('{"ready"'):
            said = first + self.process.stdout.read()
            self.kill()
            raise AssertionError(said)

    def stop(self) -> bytes | None:
        """End it as a supervisor does; the root it reports."""
        self.process.terminate()
        assert self.process.stdout is not None
        output = self.process.stdout.read()
        assert self.process.wait() == 0, output
        root = json.loads(output)["root"]
        return bytes.fromhex(root) if root else None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def served_disk(disk: Path, *arguments: str) -> Iterator[ServedDisk]:
    """A served disk, killed at the end of the block unless it was stopped. The socket stands beside the disk."""
    served = ServedDisk(disk, disk.with_suffix(".sock"), *arguments)
    try:
        yield served
    finally:
        served.kill()
