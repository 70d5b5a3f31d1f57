"""The serial console of one VM: what the guest says, kept and passed on to everybody who looks; what they type.

A client sees the last 64 KiB first, then what comes. One that reads too slowly is cut off; the guest never waits.
"""

import contextlib
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import trio

SCROLL_BACK_BYTES = 64 << 10
READ_BYTES = 16 << 10
CLIENTS_MAX = 16
BEHIND_MAX = 256
BACKLOG = 8


class Console:
    """The console behind our end of a socket pair."""

    def __init__(self, guest: socket.socket) -> None:
        self._guest = trio.socket.from_stdlib_socket(guest)
        self._typing = trio.Lock()
        self._said = bytearray()
        self._clients: set[trio.MemorySendChannel[bytes]] = set()
        self._more = trio.Event()

    @property
    def scroll_back(self) -> bytes:
        """The last of what the guest said."""
        return bytes(self._said)

    async def run(self) -> None:
        """Until the guest's end is closed."""
        with self._guest:
            while data := await self._receive():
                self._said += data
                del self._said[:-SCROLL_BACK_BYTES]
                for client in tuple(self._clients):
                    try:
                        client.send_nowait(data)
                    except trio.WouldBlock:
                        self._drop(client)
                self._more.set()
                self._more = trio.Event()
        for client in tuple(self._clients):
            self._drop(client)

    async def _receive(self) -> bytes:
        try:
            return await self._guest.recv(READ_BYTES)
        except OSError:
            return b""

    def _drop(self, client: trio.MemorySendChannel[bytes]) -> None:
        self._clients.discard(client)
        client.close()

    async def serve(self, listener: socket.socket) -> None:
        """Take clients until cancelled."""
        own = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        await trio.serve_listeners(self._serve_client, [own])

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        async with stream:
            if len(self._clients) >= CLIENTS_MAX:
                return
            ours, theirs = trio.open_memory_channel[bytes](BEHIND_MAX)
            before = self.scroll_back
            self._clients.add(ours)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._take_typing, stream)
                    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                        await stream.send_all(before)
                        async for data in theirs:
                            await stream.send_all(data)
                    nursery.cancel_scope.cancel()
            finally:
                self._drop(ours)

    async def _take_typing(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in stream:
                await self.type(bytes(data))

    async def type(self, data: bytes) -> None:
        """Type *data* at the guest's console; nothing when the guest has ended."""
        async with self._typing:
            with contextlib.suppress(OSError, trio.ClosedResourceError):
                while data:
                    data = data[await self._guest.send(data) :]


@contextlib.asynccontextmanager
async def console_socket(path: Path, group: int | None) -> AsyncGenerator[socket.socket]:
    """A listener at *path* for our own user and the members of *group*; the name goes with the block."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        # The name gets the mode of the socket. The umask is the whole process's, and other threads make files.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        try:
            if group is not None:
                os.chown(path, -1, group)
                path.chmod(0o660)
            listener.listen(BACKLOG)
            yield listener
        finally:
            path.unlink(missing_ok=True)
