"""What is sealed: a raw disk image, a pipe, or any format that QEMU reads.

Other formats than raw are served by ``qemu-nbd``, read-only, on a socket in a folder that only we can enter; a thread
asks for one piece after the other and splices the answers into a pipe: no plaintext passes through Python or a file.
Where zeros are, the server says so instead of sending them.
Source of the protocol: the NBD project's doc/proto.md (fixed newstyle negotiation, structured replies).
"""

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from tccp.errors import ConfigError, HostError

STDIN = Path("-")
RAW = "raw"
FORMATS = (RAW, "qcow2", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc")
QCOW2_MAGIC = b"QFI\xfb"
QCOW2_HEADER = struct.Struct(">4sIQ")

NBD_GREETING = struct.Struct(">8s8sH")
NBD_CLIENT_FLAGS = struct.Struct(">I")
NBD_OPTION = struct.Struct(">8sII")
NBD_OPTION_REPLY = struct.Struct(">QIII")
NBD_EXPORT = struct.Struct(">QH")
NBD_REQUEST = struct.Struct(">IHHQQI")
NBD_CHUNK = struct.Struct(">IHHQI")
NBD_DATA = struct.Struct(">Q")
NBD_HOLE = struct.Struct(">QI")
NBD_ERROR = struct.Struct(">I")
NBD_REQUEST_MAGIC, NBD_CHUNK_MAGIC, NBD_OPTION_REPLY_MAGIC = 0x25609513, 0x668E33EF, 0x0003E889045565A9
NBD_FIXED_NEWSTYLE, NBD_NO_ZEROES = 1, 2
NBD_OPT_EXPORT_NAME, NBD_OPT_STRUCTURED_REPLY = 1, 8
NBD_REP_ACK = 1
NBD_CMD_READ, NBD_CMD_DISC = 0, 2
NBD_CHUNK_DONE = 1
NBD_CHUNK_NONE, NBD_CHUNK_DATA, NBD_CHUNK_HOLE, NBD_CHUNK_ERRORS = 0, 1, 2, 1 << 15

PIECE_BYTES = 1 << 20
# Each connection has one piece under way: the server may answer one connection's questions in any order.
CONNECTIONS = 4
ZEROS = bytes(PIECE_BYTES)


class Source:
    """Something to seal, behind a descriptor."""

    def __init__(self, descriptor: int) -> None:
        """A file or a pipe whose end is its end."""
        self.descriptor = descriptor

    def check(self, sealed_bytes: int) -> None:
        """Whether *sealed_bytes* was all there is; to be asked after sealing and before anybody believes it.

        Raises:
            HostError: Reading had ended early.
        """


def detect_format(descriptor: int) -> str:
    """``"qcow2"`` when a file begins as one, ``"raw"`` otherwise; nothing but the magic is looked at.

    Raises:
        ConfigError: A qcow2 file that draws on another file: whoever made it chose which one.
    """
    header = os.pread(descriptor, QCOW2_HEADER.size, 0)
    if not header.startswith(QCOW2_MAGIC):
        return RAW
    if len(header) == QCOW2_HEADER.size and QCOW2_HEADER.unpack(header)[2] != 0:
        raise ConfigError(
            "backing_file",
            "the qcow2 image has a backing file, whose content would be sealed with it",
            hint="Say --format=qcow2 if that is what you want, or --format=raw to seal the file as it is.",
        )
    return "qcow2"


@contextlib.contextmanager
def open_source(path: Path, image_format: str | None = None) -> Iterator[Source]:
    """Open what is to be sealed.

    Args:
        path: ``-`` is standard input.
        image_format: One of `FORMATS`; None looks at the beginning of the file.

    Raises:
        ConfigError: See `detect_format`; or qemu-nbd is missing.
        HostError: It cannot be read.
    """
    try:
        descriptor = os.dup(0) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("file_unreadable", f"{path}: {error.strerror}") from error
    try:
        chosen = image_format or detect_format_of_any(descriptor)
        if chosen == RAW:
            yield Source(descriptor)
        else:
            with _served_by_qemu(path, chosen) as source:
                yield source
    finally:
        os.close(descriptor)


def detect_format_of_any(descriptor: int) -> str:
    """`detect_format`, and raw for what cannot be read at a place."""
    try:
        return detect_format(descriptor)
    except OSError:
        return RAW


class NbdSource(Source):
    """An export of ``qemu-nbd``, pumped into a pipe by a thread."""

    def __init__(self, connections: list[socket.socket]) -> None:
        self.size = max([_negotiate(connection) for connection in connections])  # all of one export
        descriptor, self._inlet = os.pipe()
        super().__init__(descriptor)
        with contextlib.suppress(OSError):  # a small pipe is only slower
            fcntl.fcntl(self._inlet, fcntl.F_SETPIPE_SZ, PIECE_BYTES)
        self._connections = connections
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="tccp-nbd", daemon=True)
        self._thread.start()

    def check(self, sealed_bytes: int) -> None:
        """As `Source.check`: whether the server answered everything, and all of it was sealed."""
        self._thread.join()
        if self._problem or sealed_bytes != self.size:
            raise HostError("source_failed", self._problem or f"{sealed_bytes} of {self.size} bytes were read")

    def stop(self) -> None:
        """Let the thread end, whatever it waits for."""
        os.close(self.descriptor)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._pump()
        except (OSError, EOFError, struct.error) as error:
            self._problem = f"qemu-nbd: {error}"
        finally:
            os.close(self._inlet)

    def _pump(self) -> None:
        offsets = range(0, self.size, PIECE_BYTES)
        for number in range(len(offsets) + CONNECTIONS):
            connection = self._connections[number % CONNECTIONS]
            if number >= CONNECTIONS:
                self._receive(connection, offsets[number - CONNECTIONS])
            if number < len(offsets):
                self._ask(connection, offsets[number])
        for connection in self._connections:
            connection.sendall(NBD_REQUEST.pack(NBD_REQUEST_MAGIC, 0, NBD_CMD_DISC, 0, 0, 0))

    def _length(self, offset: int) -> int:
        return min(PIECE_BYTES, self.size - offset)

    def _ask(self, connection: socket.socket, offset: int) -> None:
        request = NBD_REQUEST.pack(NBD_REQUEST_MAGIC, 0, NBD_CMD_READ, offset, offset, self._length(offset))
        connection.sendall(request)

    def _receive(self, connection: socket.socket, offset: int) -> None:
        """The answer to one question: chunks of data and holes, in order."""
        at, end, flags = offset, offset + self._length(offset), 0
        while not flags & NBD_CHUNK_DONE:
            magic, flags, kind, cookie, length = NBD_CHUNK.unpack(_receive_exactly(connection, NBD_CHUNK.size))
            if magic != NBD_CHUNK_MAGIC or cookie != offset:
                raise EOFError("an answer that is none to our question")
            if kind & NBD_CHUNK_ERRORS:
                (error,) = NBD_ERROR.unpack(_receive_exactly(connection, NBD_ERROR.size))
                raise OSError(error, f"{os.strerror(error)} at byte {offset}")
            if kind == NBD_CHUNK_DATA and length >= NBD_DATA.size:
                (place,) = NBD_DATA.unpack(_receive_exactly(connection, NBD_DATA.size))
                count = length - NBD_DATA.size
            elif kind == NBD_CHUNK_HOLE and length == NBD_HOLE.size:
                place, count = NBD_HOLE.unpack(_receive_exactly(connection, NBD_HOLE.size))
            elif kind == NBD_CHUNK_NONE and length == 0:
                continue
            else:
                raise EOFError("an answer of an unknown kind")
            if place != at or count > end - at:
                raise EOFError("an answer with other bytes than those that we asked for")
            if kind == NBD_CHUNK_DATA:
                self._pass_on(connection, count)
            else:
                self._pass_on_zeros(count)
            at += count
        if at != end:
            raise EOFError("an answer that ends too early")

    def _pass_on(self, connection: socket.socket, count: int) -> None:
        while count:
            moved = os.splice(connection.fileno(), self._inlet, count)
            if moved == 0:
                raise EOFError("ended in the middle of the image")
            count -= moved

    def _pass_on_zeros(self, count: int) -> None:
        while count:
            count -= os.write(self._inlet, memoryview(ZEROS)[:count])


def _negotiate(connection: socket.socket) -> int:
    """Come to the default export; returns its size."""
    magic, option_magic, flags = NBD_GREETING.unpack(_receive_exactly(connection, NBD_GREETING.size))
    if magic != b"NBDMAGIC" or option_magic != b"IHAVEOPT" or not flags & NBD_FIXED_NEWSTYLE:
        raise HostError("source_failed", "qemu-nbd speaks another protocol")
    connection.sendall(NBD_CLIENT_FLAGS.pack(flags & (NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)))
    connection.sendall(NBD_OPTION.pack(b"IHAVEOPT", NBD_OPT_STRUCTURED_REPLY, 0))
    answer = NBD_OPTION_REPLY.unpack(_receive_exactly(connection, NBD_OPTION_REPLY.size))
    if answer != (NBD_OPTION_REPLY_MAGIC, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, 0):
        raise HostError("source_failed", "qemu-nbd speaks another protocol")
    connection.sendall(NBD_OPTION.pack(b"IHAVEOPT", NBD_OPT_EXPORT_NAME, 0))
    size, _ = NBD_EXPORT.unpack(_receive_exactly(connection, NBD_EXPORT.size))
    if not flags & NBD_NO_ZEROES:
        _receive_exactly(connection, 124)
    return int(size)


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        block = connection.recv(count - len(received))
        if not block:
            raise EOFError("it hung up")
        received += block
    return bytes(received)


@contextlib.contextmanager
def _served_by_qemu(path: Path, image_format: str) -> Iterator[Source]:
    if shutil.which("qemu-nbd") is None:
        raise ConfigError(
            "qemu_missing",
            f"qemu-nbd is needed to read {image_format} images",
            hint="On Debian: apt install qemu-utils.",
        )
    with contextlib.ExitStack() as stack:
        address = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tccp-"))) / "nbd")
        _start_server(path, image_format, address)
        connections = [
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(CONNECTIONS)
        ]
        try:
            for connection in connections:
                connection.connect(address)
            source = NbdSource(connections)
        except (OSError, EOFError) as error:
            raise HostError("source_failed", f"qemu-nbd: {error}") from error
        stack.callback(source.stop)
        yield source


def _start_server(path: Path, image_format: str, address: str) -> None:
    """Returns when it listens; it ends when its last client hangs up."""
    command = ["qemu-nbd", "--read-only", f"--format={image_format}", f"--socket={address}"]
    command += [f"--shared={CONNECTIONS}", "--fork", "--"]
    with tempfile.TemporaryFile() as complaints:
        done = subprocess.run(
            [*command, str(path.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=complaints,
            stderr=complaints,
            check=False,
        )
        if done.returncode != 0:
            complaints.seek(0)
            raise HostError("source_failed", complaints.read(1000).decode("utf-8", "replace").strip())
