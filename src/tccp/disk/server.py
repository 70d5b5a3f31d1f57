"""Serving one disk: what happens between the start of the process and its end, in order.

1. give up core dumps, debuggers and privileges by executing;
2. read the key from a descriptor into locked memory, open and lock the file, bring the disk up;
3. make the sockets, become another user, refuse all system calls that are not needed from here on;
4. serve, and answer who asks (`tccp.disk.asking`), until SIGTERM or SIGINT;
5. write everything, and say which root the disk has now.
"""

import contextlib
import os
import pwd
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tccp.core.disk import DiskKey, confine, serve_nbd
from tccp.core.process import harden
from tccp.disk.asking import answering, socket_for_asking
from tccp.disk.file import open_live_disk
from tccp.errors import ConfigError, HostError

BACKLOG = 16


@dataclass(frozen=True, slots=True)
class DiskService:
    """What to serve, where, and as whom."""

    disk: Path
    key_descriptor: int
    socket: Path
    base: Path | None = None
    root: bytes | None = None
    not_before: bytes | None = None
    read_only: bool = False
    user: str | None = None


def serve_disk(service: DiskService, ready: Callable[[], None]) -> bytes | None:
    """Serve until SIGTERM or SIGINT; *ready* is called when clients may connect. Only for a process of its own.

    Returns:
        The root to demand at the next start; None when the disk was served for reading only.

    Raises:
        DiskError: The disk is not what it was, or the key is another; see `LiveDisk`.
        HostError: The disk is in use, or this machine failed.
        ConfigError: There is no such user.
    """
    user = _find_user(service.user)
    harden()
    key = DiskKey(service.key_descriptor)
    os.close(service.key_descriptor)
    with (
        open_live_disk(
            service.disk,
            key,
            base=service.base,
            root=service.root,
            not_before=service.not_before,
            read_only=service.read_only,
        ) as disk,
        _listener(service.socket, user) as listener,
        _listener(socket_for_asking(service.socket), user) as asked,
        _stop_signals() as stop,
    ):
        key.wipe()
        if user is not None:
            _become(user)
        confine()
        with answering(disk, asked, stop, read_only=service.read_only):
            ready()
            serve_nbd(disk, listener.fileno(), stop)
        return None if service.read_only else disk.close()


def _find_user(name: str | None) -> pwd.struct_passwd | None:
    if name is None:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigError("no_such_user", name) from None


def _become(user: pwd.struct_passwd) -> None:
    try:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as error:
        raise HostError("cannot_change_user", f"{user.pw_name}: {error.strerror}") from error


@contextmanager
def _listener(path: Path, user: pwd.struct_passwd | None) -> Iterator[socket.socket]:
    """A socket that only its owner can connect to; a name that a dead process left is taken over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        before = os.umask(0o177)
        try:
            if path.is_socket():
                path.unlink()
            listener.bind(str(path))
            if user is not None:
                os.chown(path, user.pw_uid, user.pw_gid)
            listener.listen(BACKLOG)
        except OSError as error:
            raise HostError("cannot_listen", f"{path}: {error.strerror or error}") from error
        finally:
            os.umask(before)
        try:
            yield listener
        finally:
            # As another user we may not be allowed to, and the next start takes the name over.
            with contextlib.suppress(OSError):
                path.unlink()


@contextmanager
def _stop_signals() -> Iterator[int]:
    """A descriptor that can be read after SIGTERM or SIGINT."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    stops = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, _note) for number in stops}
    wakeup = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _note(_number: int, _frame: FrameType | None) -> None:
    """Python writes the number of the signal into the pipe; there is nothing else to do."""
