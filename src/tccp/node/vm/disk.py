"""One disk of a VM: a process of its own, which alone holds the disk's key, serving it over NBD on one connection."""

import contextlib
import functools
import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from tccp.core.child import UNLIMITED, ChildSpec
from tccp.disk.file import locked_file
from tccp.errors import DiskError, HostError
from tccp.node.vm.child import Child, start
from tccp.node.vm.description import VmDisk
from tccp.node.vm.foreign import abandonable, open_foreign
from tccp.node.vm.host import VmHost
from tccp.node.vm.sandbox import FILES_MAX, TASKS_MAX
from tccp.protocol.marks import MARK_BYTES

LINE_BYTES_MAX = 4096
ROOT_BYTES = 32
REASON = re.compile(r"[a-z0-9_]{1,64}")
# It runs from the very modules that we run from; the environment names nothing but the interpreter's library.
_CHILD = (
    "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from tccp.node.vm.disk_child import main; sys.exit(main())"
)
_INTERPRETER = frozenset({"LD_LIBRARY_PATH"})
CLOSE_S = 120.0
AS_IT_IS = "Put the newest copy in its place; or its tenant takes it as it is, by a ticket with --any-disk-state."
HINTS = {
    "wrong_disk_root": f"The disk was not left like this when the VM ended last. {AS_IT_IS}",
    "wrong_disk_mark": f"The disk is older than what was registered of it last, or of another history. {AS_IT_IS}",
}


class DiskProcess:
    """A running disk. `nbd` is QEMU's end of the connection; who passes it on closes it.

    Whoever cancels `mark` or `kept` is done with it: it is only closed, or killed, after that.

    Attributes:
        last_mark: The last moment that it has said to have come to; empty before that.
    """

    def __init__(self, child: Child, supervisor: socket.socket, asking: socket.socket, nbd: socket.socket) -> None:
        self.child = child
        self.nbd = nbd
        self.last_mark = b""
        self._supervisor = _Lines(child, supervisor)
        self._asking = _Lines(child, asking)

    async def ready(self) -> None:
        """Until it serves.

        Raises:
            DiskError: The disk is not the one that key, image and root say.
            HostError: This machine failed.
        """
        await self._supervisor.document(ready=None)

    async def mark(self) -> bytes:
        """The moment that its history has come to, to be demanded after a crash.

        Raises:
            HostError: The process has died.
            DiskError: It cannot say: it has no room to write, for example.
        """
        self.last_mark = await self._ask("mark")
        return self.last_mark

    async def kept(self, mark: bytes) -> None:
        """Have it remember *mark*, which is on record now.

        Raises:
            HostError: The process has died.
            DiskError: ``wrong_disk_mark``: it has given no such mark, or has forgotten it.
        """
        await self._ask("kept", mark.hex())

    async def _ask(self, word: str, argument: str = "") -> bytes:
        try:
            await self._asking.say(f"{word} {argument}")
            (mark,) = await self._asking.document(**{word: MARK_BYTES})
        except trio.Cancelled:
            # An answer that nobody read would be taken for the next one. Nor does a process that hangs keep its VM.
            self._asking.close()
            raise
        return mark

    async def close(self) -> bytes:
        """Write everything and end: the root to demand at the next start.

        Raises:
            HostError: The process has died before, or this machine failed: the root is unknown.
        """
        await self._supervisor.say("")
        with trio.move_on_after(CLOSE_S):
            root, self.last_mark = await self._supervisor.document(root=ROOT_BYTES, mark=MARK_BYTES)
            await self.child.wait()
            return root
        raise HostError("disk_timeout", f"the disk was not written within {CLOSE_S:.0f} s")


class _Lines:
    """Lines to the process of a disk, and documents from it."""

    def __init__(self, child: Child, end: socket.socket) -> None:
        self._child = child
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._buffer = b""

    async def say(self, line: str) -> None:
        """Nobody who hears it any more is noticed when there is no answer."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(line.encode() + b"\n")

    def close(self) -> None:
        """Say and hear nothing more."""
        self._stream.socket.close()

    async def document(self, **wanted: int | None) -> list[bytes]:
        """What is *wanted* of the next one: so many bytes each; None: whatever it says there.

        Raises:
            HostError: ``disk_process_died``; or ``disk_process_malformed``: it says nonsense, and is killed for that.
            HostError, DiskError: What it says has gone wrong.
        """
        while b"\n" not in self._buffer and len(self._buffer) < LINE_BYTES_MAX:
            try:
                data = await self._stream.receive_some(LINE_BYTES_MAX)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                status = await self._child.wait()
                raise HostError("disk_process_died", f"status {status}: {self._child.said[-300:]}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return _read_document(line, wanted)
        except (ValueError, TypeError, KeyError, RecursionError):
            self._child.send(signal.SIGKILL)  # what it says would be passed on, and held against the whole node
            raise HostError("disk_process_malformed", f"it says {line[:80]!r}") from None


def _read_document(line: bytes, wanted: Mapping[str, int | None]) -> list[bytes]:
    document = json.loads(line)
    if "error" in document:
        reason = document["error"]
        if not REASON.fullmatch(reason):
            raise ValueError(reason)
        kind = HostError if document.get("fault") == "HostError" else DiskError
        raise kind(reason, str(document["detail"]), hint=HINTS.get(reason, ""))
    found = [(document[name], count) for name, count in wanted.items()]
    values = [b"" if count is None else bytes.fromhex(value) for value, count in found]
    if any(count not in {None, len(value)} for value, (_, count) in zip(values, found, strict=True)):
        raise ValueError(document)
    return values


@contextlib.asynccontextmanager
async def open_disk_process(
    disk: VmDisk, host: VmHost, *, user: int | None, nursery: trio.Nursery
) -> AsyncGenerator[DiskProcess]:
    """Start the process of *disk*, and connect to it; killed at the end of the block unless it was closed.

    Raises:
        HostError: A file cannot be opened, is in use, or nothing can be started.
    """
    files = await abandonable(functools.partial(_open_files, disk), lambda found: found.close())
    with contextlib.ExitStack() as stack:
        stack.callback(files.close)
        supervisor, theirs = socket.socketpair()
        asking, asked = socket.socketpair()
        for end in (supervisor, asking):
            stack.callback(end.close)
        with theirs, asked, _listener() as (listener, nbd), _key_pipe(disk) as key:
            stack.callback(nbd.close)
            arguments = [sys.executable, "-I", "-B", "-c", _CHILD, os.pathsep.join(sys.path), str(os.getpid())]
            arguments += ["-" if user is None else str(user), disk.base.root.hex()]
            arguments += [value.hex() if value else "-" for value in (disk.live_root, disk.live_mark)]
            arguments += [str(disk.size_bytes) if disk.size_bytes else "-"]
            spec = ChildSpec(
                host.python,
                arguments,
                output=-1,
                descriptors=[theirs.fileno(), listener.fileno(), files.live, key, files.base, asked.fileno()],
                environment={name: value for name, value in os.environ.items() if name in _INTERPRETER},
                user=user,
                file_bytes_max=UNLIMITED,
                files_max=FILES_MAX,
                tasks_max=TASKS_MAX,
                keeps_privileges=True,
            )
            child = await start("disk", spec, nursery, host.keeper.guard)
        try:
            yield DiskProcess(child, supervisor, asking, nbd)
        finally:
            await child.kill()


@dataclass(frozen=True, slots=True)
class _Files:
    """What the process of a disk is given of the host's files."""

    live: int
    base: int
    close: Callable[[], None]


def _open_files(disk: VmDisk) -> _Files:
    """In a thread: nobody knows where they lie."""
    with contextlib.ExitStack() as opened:
        _make_if_new(disk)
        live = opened.enter_context(locked_file(disk.live))
        try:
            base = open_foreign(disk.base.path)
        except OSError as error:
            raise HostError("image_unreadable", f"{disk.base.path}: {error.strerror}") from error
        opened.callback(os.close, base)
        return _Files(live, base, opened.pop_all().close)


def _make_if_new(disk: VmDisk) -> None:
    """An empty file becomes a disk; where a root or a mark is known, there must be one already."""
    if disk.live_root is None and disk.live_mark is None:
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
