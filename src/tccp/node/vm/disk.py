"""One disk of a VM: a process of its own, which alone holds the disk's key, serving it over NBD on one connection."""

import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from tccp.core.child import UNLIMITED, ChildSpec
from tccp.disk.file import locked_file
from tccp.errors import DiskError, HostError
from tccp.node.vm.child import Child, start
from tccp.node.vm.description import VmDisk
from tccp.node.vm.host import VmHost
from tccp.node.vm.sandbox import FILES_MAX, TASKS_MAX

LINE_BYTES_MAX = 4096
# It runs from the very modules that we run from; the environment names nothing but the interpreter's library.
_CHILD = (
    "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from tccp.node.vm.disk_child import main; sys.exit(main())"
)
_INTERPRETER = frozenset({"LD_LIBRARY_PATH"})
CLOSE_S = 120.0


class DiskProcess:
    """A running disk. `nbd` is QEMU's end of the connection; who passes it on closes it."""

    def __init__(self, child: Child, supervisor: socket.socket, nbd: socket.socket) -> None:
        self.child = child
        self.nbd = nbd
        self._supervisor = trio.SocketStream(trio.socket.from_stdlib_socket(supervisor))
        self._buffer = b""

    async def ready(self) -> None:
        """Until it serves.

        Raises:
            DiskError: The disk is not the one that key, image and root say.
            HostError: This machine failed.
        """
        await self._document("ready")

    async def close(self) -> bytes:
        """Write everything and end: the root to demand at the next start.

        Raises:
            HostError: The process has died before, or this machine failed: the root is unknown.
        """
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._supervisor.send_all(b"\n")
        with trio.move_on_after(CLOSE_S):
            root = bytes.fromhex((await self._document("root"))["root"])
            await self.child.wait()
            return root
        raise HostError("disk_timeout", f"the disk was not written within {CLOSE_S:.0f} s")

    async def _document(self, wanted: str) -> dict[str, Any]:
        while b"\n" not in self._buffer and len(self._buffer) < LINE_BYTES_MAX:
            try:
                data = await self._supervisor.receive_some(LINE_BYTES_MAX)
            except trio.BrokenResourceError:
                data = b""
            if not data:
                status = await self.child.wait()
                raise HostError("disk_process_died", f"status {status}: {self.child.said[-300:]}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        if "error" in document:
            kind = HostError if document["fault"] == "HostError" else DiskError
            raise kind(document["error"], document["detail"])
        assert wanted in document
        return document


@contextlib.asynccontextmanager
async def open_disk_process(
    disk: VmDisk, host: VmHost, *, user: int | None, nursery: trio.Nursery
) -> AsyncGenerator[DiskProcess]:
    """Start the process of *disk*, and connect to it; killed at the end of the block unless it was closed.

    Raises:
        HostError: A file cannot be opened, is in use, or nothing can be started.
    """
    with contextlib.ExitStack() as stack:
        supervisor, theirs = socket.socketpair()
        stack.callback(supervisor.close)
        _make_if_new(disk)
        live = stack.enter_context(locked_file(disk.live))
        with theirs, _listener() as (listener, nbd), _key_pipe(disk) as key, _base(disk.base.path) as base:
            stack.callback(nbd.close)
            arguments = [sys.executable, "-I", "-B", "-c", _CHILD, os.pathsep.join(sys.path), str(os.getpid())]
            arguments += ["-" if user is None else str(user), disk.base.root.hex()]
            arguments += [disk.live_root.hex() if disk.live_root else "-"]
            arguments += [str(disk.size_bytes) if disk.size_bytes else "-"]
            spec = ChildSpec(
                host.python,
                arguments,
                output=-1,
                descriptors=[theirs.fileno(), listener.fileno(), live, key, base],
                environment={name: value for name, value in os.environ.items() if name in _INTERPRETER},
                user=user,
                file_bytes_max=UNLIMITED,
                files_max=FILES_MAX,
                tasks_max=TASKS_MAX,
                keeps_privileges=True,
            )
            child = await start("disk", spec, nursery, host.keeper.guard)
        try:
            yield DiskProcess(child, supervisor, nbd)
        finally:
            await child.kill()


def _make_if_new(disk: VmDisk) -> None:
    """An empty file becomes a disk; where a root is known, there must be one already."""
    if disk.live_root is None:
        try:
            os.close(os.open(disk.live, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise HostError("disk_unreadable", f"{disk.live}: {error.strerror}") from error


@contextmanager
def _listener() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A listening socket, and a connection to it. Its name, in a folder of our own, has gone on return."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with tempfile.TemporaryDirectory(prefix="tccp-nbd-") as folder:  # mode 0700
                listener.bind(f"{folder}/nbd")
                listener.listen(1)
                connection.connect(f"{folder}/nbd")
        except OSError as error:
            connection.close()
            raise HostError("cannot_listen", str(error)) from error
        yield listener, connection


@contextmanager
def _key_pipe(disk: VmDisk) -> Iterator[int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writer, disk.base.key.buffer)
    finally:
        os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)


@contextmanager
def _base(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("image_unreadable", f"{path}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
