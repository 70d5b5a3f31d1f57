"""What a translated guest writes while its memory is sent arrives. Plain QEMUs, nothing of ours but the way to send."""

import itertools
import mmap
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tccp.node.vm.migration import Pace, send_out, take_in
from tccp.node.vm.qmp import Qmp, object_of
from tests.support.guest import CONSOLE, QEMU, guest_kernel, make_initramfs

MEMORY_MIB = 160
PAGE_BYTES = mmap.PAGESIZE
BYTES_PER_S = 200 << 20  # slow enough for QEMU to look more than once what was written
TRIES = 5
# One process that writes to some hundred pages all the time: no switch to another has the processor look at them anew.
WRITER = 'echo READY\nexec awk "BEGIN { while (1) for (i = 0; i < 20000; i++) a[i] = n++ }"'

Send = Callable[[Qmp, int], Awaitable[object]]


@asynccontextmanager
async def plain_qemu(
    initramfs: Path, *options: str, client: type[Qmp] = Qmp
) -> AsyncIterator[tuple[Qmp, trio.SocketStream]]:
    """A paused QEMU that translates: its monitor and its console."""
    monitor, monitor_end = socket.socketpair()
    console, console_end = socket.socketpair()
    command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-M", "q35", "-S", "-accel", "tcg"]
    command += ["-cpu", "max", "-m", str(MEMORY_MIB), "-kernel", str(guest_kernel()), "-initrd", str(initramfs)]
    command += ["-append", CONSOLE, "-chardev", f"socket,id=qmp,fd={monitor_end.fileno()}"]
    command += ["-mon", "chardev=qmp,mode=control", "-chardev", f"socket,id=console,fd={console_end.fileno()}"]
    command += ["-serial", "chardev:console", *options]
    with monitor, monitor_end, console, console_end:
        process = await trio.lowlevel.open_process(command, pass_fds=[monitor_end.fileno(), console_end.fileno()])
        monitor_end.close()
        console_end.close()
        qmp = client(monitor, lambda _event: None)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(qmp.run)
                await qmp.negotiate()
                yield qmp, trio.SocketStream(trio.socket.from_stdlib_socket(console))
                nursery.cancel_scope.cancel()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def as_we_do(qmp: Qmp, descriptor: int) -> None:
    await send_out(qmp, descriptor, Pace(bytes_per_s=BYTES_PER_S, downtime_ms=1))


async def as_qemu_does(qmp: Qmp, descriptor: int) -> None:
    capabilities = [{"capability": name, "state": name == "events"} for name in ("events", "pause-before-switchover")]
    await qmp.execute("migrate-set-capabilities", {"capabilities": capabilities})
    await qmp.execute("migrate-set-parameters", {"max-bandwidth": BYTES_PER_S, "downtime-limit": 1})
    with qmp.listening("MIGRATION") as events:
        await qmp.execute("getfd", {"fdname": "plain"}, descriptor=descriptor)
        await qmp.execute("migrate", {"uri": "fd:plain"})
        async for event in events:
            if event.text("status") == "completed":
                return
    raise AssertionError("QEMU has ended")


async def pages_lost(source: Qmp, initramfs: Path, folder: Path, send: Send) -> int:
    """How many pages are not the same at both ends, once the guest stands still at both; it goes on at the source."""
    async with plain_qemu(initramfs, "-incoming", "defer") as (there, _):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_in, there, theirs.fileno())
                await send(source, ours.fileno())
        memories = []
        for name, qmp in (("here", source), ("there", there)):
            assert object_of(await qmp.execute("query-status"))["running"] is False
            whole = {"val": 0, "size": MEMORY_MIB << 20, "filename": str(folder / name)}
            await qmp.execute("pmemsave", whole)
            memories.append((folder / name).read_bytes())
    await source.execute("cont")
    starts = range(0, MEMORY_MIB << 20, PAGE_BYTES)
    return sum(memories[0][start : start + PAGE_BYTES] != memories[1][start : start + PAGE_BYTES] for start in starts)


async def test_what_a_translated_guest_writes_while_it_is_sent_arrives(tmp_path: Path) -> None:
    initramfs = make_initramfs(tmp_path / "initramfs", WRITER)
    async with plain_qemu(initramfs) as (source, console):
        await source.execute("cont")
        said = b""
        while b"READY" not in said:
            said += await console.receive_some()
        version = object_of(object_of(await source.execute("query-version"))["qemu"])
        if (version["major"], version["minor"]) < (8, 2):  # later ones lose too seldom for a control
            for tried in itertools.count(1):
                if await pages_lost(source, initramfs, tmp_path, as_qemu_does) > 0:
                    break
                assert tried < TRIES, "the control shows no loss"
        assert await pages_lost(source, initramfs, tmp_path, as_we_do) == 0


class LateMonitor(Qmp):
    """Has a guest that is sent go on as late as can be: when nothing more comes before we speak again."""

    last_status = "finish-migrate"
    pauses = True

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, descriptor: int | None = None
    ) -> Any:
        if command == "migrate-set-capabilities" and not self.pauses:
            arguments = {"capabilities": [{"capability": "events", "state": True}]}
        if command == "cont" and "status" in object_of(await super().execute("query-migrate")):
            while object_of(await super().execute("query-status"))["status"] != self.last_status:
                pass
        return await super().execute(command, arguments, descriptor=descriptor)


class LateMonitorWithoutPause(LateMonitor):
    """The control: QEMU does not wait for us at the end."""

    last_status = "postmigrate"
    pauses = False


@pytest.mark.parametrize(("monitor", "runs"), [(LateMonitor, False), (LateMonitorWithoutPause, True)])
async def test_no_guest_goes_on_whose_state_is_away_however_late_it_is_told_to(
    tmp_path: Path, monitor: type[Qmp], runs: bool
) -> None:
    """Nothing of it is kept in a stream that is read at once, so the whole of it may be over before QEMU hears us."""
    initramfs = make_initramfs(tmp_path / "initramfs", WRITER)
    async with (
        plain_qemu(initramfs, client=monitor) as (source, _),
        plain_qemu(initramfs, "-incoming", "defer") as (
            there,
            _,
        ),
    ):
        await source.execute("cont")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_in, there, theirs.fileno())
                await send_out(source, ours.fileno(), Pace())
        assert object_of(await source.execute("query-status"))["running"] is runs
