"""A file system whose server does not answer, as one over a network may: whoever looks for a file in it waits.

with hanging_folder(folder) as server:      # nobody may look into it, not even to remove it
    ...
    await server.asked()                    # somebody waits
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

MNT_FORCE_AND_DETACH = 1 | 2
# A process of its own, which ends with ours: a process that waits for itself could not be killed.
SERVER = """
import ctypes, os, struct, sys
LOOKUP, INIT, PARALLEL_LOOKUPS = 1, 26, 1 << 18
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None).mount(b"hanging", os.fsencode(sys.argv[1]), b"fuse", 0, options) != 0:
    sys.exit("cannot mount")
os.write(1, b"+")
while True:
    request = os.read(device, 1 << 17)
    _, operation, number = struct.unpack_from("<IIQ", request)
    if operation == INIT:
        said = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, PARALLEL_LOOKUPS, 16, 12, 1 << 16, 1, 16, 0, 0)
        os.write(device, struct.pack("<IiQ", 16 + len(said), 0, number) + said)
    elif operation == LOOKUP:
        os.write(1, b"?")
"""

libc = ctypes.CDLL(None, use_errno=True)


class HangingServer:
    """Greets the kernel, and says nothing more."""

    def __init__(self, output: int) -> None:
        self._output = output

    async def asked(self) -> None:
        """Until somebody else looks for a file, and waits."""
        await trio.lowlevel.wait_readable(self._output)
        assert os.read(self._output, 1) == b"?"


@contextmanager
def hanging_folder(folder: Path) -> Iterator[HangingServer]:
    """Mount it at *folder*; at the end everybody who waits is let go, with an error."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.read(1) == b"+", "mounting needs root and /dev/fuse"
            yield HangingServer(process.stdout.fileno())
        finally:
            process.kill()
            libc.umount2(os.fsencode(folder), MNT_FORCE_AND_DETACH)
