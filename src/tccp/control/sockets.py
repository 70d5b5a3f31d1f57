"""The listening end of a control socket: from systemd, or made here."""

import errno
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tccp import systemd
from tccp.errors import ConfigError

BACKLOG = 64


@asynccontextmanager
async def control_listeners(
    path: Path, given: Sequence[socket.socket] | None
) -> AsyncIterator[list[trio.SocketListener]]:
    """Listeners for the control socket; a socket made here is removed at the end, one *given* by systemd stays.

    Everybody may connect: who may ask what is decided by the credentials that the kernel gives for each connection.

    Raises:
        ConfigError: Another daemon listens there, or the path cannot be used.
    """
    if given:
        yield systemd.trio_listeners(given)
        return
    listener = _listen(path)
    inode = path.stat().st_ino
    try:
        yield [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
    finally:
        listener.close()
        if path.exists() and path.stat().st_ino == inode:
            path.unlink()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(path)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(BACKLOG)
    except ConfigError:
        listener.close()
        raise
    except OSError as problem:
        listener.close()
        hint = "set control.socket to a path in a folder that the daemon may write"
        raise ConfigError("control_socket", f"{path}: {os.strerror(problem.errno or 0)}", hint=hint) from None
    return listener


def _remove_stale(path: Path) -> None:
    """A daemon that was killed leaves its socket behind; one that lives answers on it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        problem = probe.connect_ex(str(path))
    if problem == 0:
        raise ConfigError(
            "already_running", f"{path}: another daemon listens there", hint="stop it, or set control.socket"
        )
    if problem == errno.ECONNREFUSED and path.is_socket():
        path.unlink()
