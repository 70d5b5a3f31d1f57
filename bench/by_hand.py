"""The peer of moves and suspensions: the same guest in QEMUs started by hand, without vTPM, disk or encryption."""

import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from bench.moves import Move
from tccp.node.vm.migration import Pace, send_out, take_in
from tccp.node.vm.qmp import Qmp
from tests.support.guest import CONSOLE, QEMU, guest_kernel
from tests.support.machines import GuestImages


class ByHand:
    """One guest, wherever it is just now; enter it before anything else.

    Args:
        accelerator: As our own host has chosen it.
    """

    def __init__(self, images: GuestImages, accelerator: str, memory_mib: int) -> None:
        self.command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", "-S"]
        self.command += ["-accel", accelerator, "-cpu", "max" if accelerator == "tcg" else "host"]
        self.command += ["-m", str(memory_mib), "-kernel", str(guest_kernel()), "-initrd", str(images.initramfs)]
        self.command += ["-append", CONSOLE, "-device", "virtio-rng-pci"]
        self._stack = AsyncExitStack()
        self.qmp: Qmp
        self._console: trio.socket.SocketType

    async def __aenter__(self) -> "ByHand":
        """Boot it."""
        await self._replace(await self._start())
        await self.qmp.execute("cont")
        await self._until(b"READY")
        return self

    async def __aexit__(self, *_error: object) -> None:
        """End it."""
        await self._stack.aclose()

    async def run(self, command: str) -> None:
        """In the guest."""
        await self._console.send(f"{command}; echo DO''NE\n".encode())
        await self._until(b"DONE")

    async def move(self, pace: Pace) -> Move:
        """To another QEMU, which waits already, over a socket pair."""
        stack, there, console = await self._start("-incoming", "defer")
        ours, theirs = socket.socketpair()
        start = time.perf_counter()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_in, there, theirs.fileno())
                sent = await send_out(self.qmp, ours.fileno(), pace)
        await there.execute("cont")
        took = time.perf_counter() - start
        await self._replace((stack, there, console))
        return Move(took, sent.downtime_ms / 1e3, sent.sent_bytes)

    async def suspend(self, path: Path) -> tuple[float, float]:
        """Into a plain synced file, and out of it, into another QEMU: seconds."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        start = time.perf_counter()
        await self.qmp.execute("stop")
        await send_out(self.qmp, file, Pace())
        await trio.to_thread.run_sync(os.fsync, file)
        took = time.perf_counter() - start
        os.close(file)
        start = time.perf_counter()
        stack, there, console = await self._start("-incoming", "defer")
        with path.open("rb") as saved:
            await take_in(there, saved.fileno())
        await there.execute("cont")
        again = time.perf_counter() - start
        await self._replace((stack, there, console))
        return took, again

    async def _replace(self, started: "tuple[AsyncExitStack, Qmp, trio.socket.SocketType]") -> None:
        await self._stack.aclose()
        self._stack, self.qmp, self._console = started

    async def _start(self, *options: str) -> "tuple[AsyncExitStack, Qmp, trio.socket.SocketType]":
        stack = AsyncExitStack()
        qmp, console = await stack.enter_async_context(self._qemu(*options))
        return stack, qmp, console

    @asynccontextmanager
    async def _qemu(self, *options: str) -> "AsyncIterator[tuple[Qmp, trio.socket.SocketType]]":
        """A paused QEMU: its monitor and console."""
        ours, theirs = socket.socketpair()
        console, console_end = socket.socketpair()
        command = [*self.command, "-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]
        command += ["-chardev", f"socket,id=console,fd={console_end.fileno()}", "-serial", "chardev:console", *options]
        with ours, theirs, console, console_end:
            process = await trio.lowlevel.open_process(command, pass_fds=[theirs.fileno(), console_end.fileno()])
            theirs.close()
            console_end.close()
            qmp = Qmp(ours, lambda _event: None)
            reader = trio.lowlevel.spawn_system_task(qmp.run)
            try:
                await qmp.negotiate()
                yield qmp, trio.socket.from_stdlib_socket(console)
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                del reader

    async def _until(self, words: bytes) -> None:
        said = b""
        while words not in said:
            said += await self._console.recv(4096)
