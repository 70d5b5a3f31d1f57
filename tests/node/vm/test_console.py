"""The console: kept, and given to everybody who may look."""

import grp
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tccp.node.vm import console as console_module
from tccp.node.vm.console import SCROLL_BACK_BYTES, Console, console_socket

UMASK = os.umask


@asynccontextmanager
async def a_console(path: Path, group: int | None = None) -> AsyncIterator[tuple[Console, trio.SocketStream]]:
    """A console whose guest the test plays."""
    ours, theirs = socket.socketpair()
    guest = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    console = Console(ours)
    async with console_socket(path, group) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(console.run)
        nursery.start_soon(console.serve, listener)
        yield console, guest
        nursery.cancel_scope.cancel()
    await guest.aclose()
    assert not path.exists()


async def read(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        some = await stream.receive_some(count - len(data))
        assert some
        data += some
    return data


async def test_everybody_sees_the_past_and_what_comes(vm_folder: Path) -> None:
    async with a_console(vm_folder / "c.sock") as (_, guest):
        await guest.send_all(b"before\n")
        first = await trio.open_unix_socket(vm_folder / "c.sock")
        assert await read(first, 7) == b"before\n"
        second = await trio.open_unix_socket(vm_folder / "c.sock")
        assert await read(second, 7) == b"before\n"
        await guest.send_all(b"after\n")
        assert await read(first, 6) == await read(second, 6) == b"after\n"
        await second.send_all(b"typed")
        assert await read(guest, 5) == b"typed"
        await first.aclose()
        await second.aclose()


async def test_the_past_has_a_size(vm_folder: Path) -> None:
    async with a_console(vm_folder / "c.sock") as (console, guest):
        await guest.send_all(b"old" + bytes(SCROLL_BACK_BYTES))
        await guest.send_all(b"new")
        while not console.scroll_back.endswith(b"new"):
            await trio.lowlevel.checkpoint()
        assert len(console.scroll_back) == SCROLL_BACK_BYTES
        assert b"old" not in console.scroll_back


async def test_who_does_not_read_is_cut_off_and_holds_up_nobody(
    vm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "BEHIND_MAX", 2)
    async with a_console(vm_folder / "c.sock") as (_, guest):
        idle = await trio.open_unix_socket(vm_folder / "c.sock")
        await guest.send_all(b"x")
        assert await read(idle, 1) == b"x"
        with trio.fail_after(60):
            for _ in range(200):
                await guest.send_all(bytes(16 << 10))
            while await idle.receive_some():
                pass
        await idle.aclose()


async def test_only_so_many_may_look_at_once(vm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "CLIENTS_MAX", 1)
    async with a_console(vm_folder / "c.sock") as (_, guest):
        await guest.send_all(b"x")
        one = await trio.open_unix_socket(vm_folder / "c.sock")
        assert await read(one, 1) == b"x"
        other = await trio.open_unix_socket(vm_folder / "c.sock")
        assert await other.receive_some() == b""
        await one.aclose()
        await other.aclose()


async def test_the_socket_is_for_us_and_one_group(vm_folder: Path) -> None:
    group = grp.getgrnam("tty").gr_gid
    path = vm_folder / "c.sock"
    async with a_console(path, group):
        status = path.stat()
        assert (status.st_mode & 0o777, status.st_gid) == (0o660, group)
    async with a_console(path):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_it_is_ours_alone_whatever_the_umask_which_is_left_alone_for_others_make_files_meanwhile(
    vm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that a thread made under a umask of ours could not be entered by anybody."""
    monkeypatch.setattr("tccp.node.vm.console.os.umask", lambda _mask: pytest.fail("not in a process of many threads"))
    before = UMASK(0)
    try:
        async with console_socket(vm_folder / "c.sock", None):
            assert (vm_folder / "c.sock").stat().st_mode & 0o777 == 0o600
    finally:
        UMASK(before)
