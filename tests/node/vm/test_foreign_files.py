"""No file that somebody names holds up the daemon, or a VM that is to end."""

import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tccp.errors import HostError
from tccp.node.launch import root_of_state
from tccp.node.vm.description import SealedFile
from tccp.node.vm.foreign import abandonable, open_foreign
from tccp.node.vm.memory_file import open_in_memory
from tccp.node.vm.opening import open_vm
from tccp.node.vm.state import ResumedState, state_key
from tests.support.hanging_files import HangingServer, hanging_folder
from tests.support.machines import GuestImages, TestHost, describe, secrets

DEADLINE_S = 60


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[HangingServer, Path]]:
    """A server that does not answer, and a file there."""
    folder = tmp_path / "hanging"
    folder.mkdir()
    with hanging_folder(folder) as server:
        yield server, folder / "file"


@asynccontextmanager
async def given_up_while_it_hangs(server: HangingServer) -> AsyncIterator[trio.Nursery]:
    """What is started in it is cancelled once it waits for the server, and has to end then."""
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            yield nursery
            await server.asked()
            nursery.cancel_scope.cancel()


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, pipe: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (pipe, tmp_path, tmp_path / "socket", Path("/dev/zero")):
            with pytest.raises(OSError, match=r"no regular file|No such device"):
                open_foreign(path)

    # The control: who just opens a pipe waits until somebody writes to it.
    waiting = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_RDONLY)))
    waiting.start()
    os.close(os.open(pipe, os.O_WRONLY))
    waiting.join()


async def test_what_comes_of_work_that_was_given_up_is_undone() -> None:
    go, undone = threading.Event(), threading.Event()
    results: list[int] = []

    def work() -> int:
        go.wait()
        return 7

    def undo(result: int) -> None:
        results.append(result)
        undone.set()

    with trio.CancelScope() as scope:
        scope.cancel()
        await abandonable(work, undo)
    assert results == []  # it was not even begun
    async with trio.open_nursery() as nursery:
        nursery.start_soon(abandonable, work, undo)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    go.set()
    await trio.to_thread.run_sync(undone.wait)
    assert results == [7]
    assert await abandonable(work, undo) == 7
    assert results == [7]


async def test_an_image_that_became_a_pipe_is_not_waited_for(host: TestHost, images: GuestImages, pipe: Path) -> None:
    """Since it was looked at last."""
    disk = images.with_disk(pipe.with_name("live"))
    (first,) = disk.disks
    exchanged = [
        replace(images.diskless, kernel=replace(images.kernel, path=pipe)),
        replace(disk, disks=(replace(first, base=replace(first.base, path=pipe)),)),
    ]
    for machine in exchanged:
        with trio.fail_after(DEADLINE_S), pytest.raises(HostError, match="no regular file") as refused:
            async with open_vm(describe(), machine, secrets(), host=host.vms):
                pass
        assert refused.value.reason == "image_unreadable"
    keys = secrets()
    state = ResumedState(pipe, bytes(32), state_key(keys.vm_key, 1))
    with trio.fail_after(DEADLINE_S), pytest.raises(HostError, match="no regular file"):
        async with open_vm(describe(), images.diskless, keys, host=host.vms, resume=state):
            pass


@pytest.mark.parametrize("what", ["kernel", "disk", "state"])
async def test_a_vm_whose_file_does_not_come_can_be_given_up(
    host: TestHost, images: GuestImages, live: Path, hanging: tuple[HangingServer, Path], what: str
) -> None:
    server, path = hanging
    keys, machine, resume = secrets(), images.diskless, None
    if what == "kernel":
        machine = replace(machine, kernel=replace(images.kernel, path=path))
    elif what == "disk":
        machine = images.with_disk(live)
        (disk,) = machine.disks
        machine = replace(machine, disks=(replace(disk, base=replace(disk.base, path=path)),))
    else:
        resume = ResumedState(path, bytes(32), state_key(keys.vm_key, 1))

    async def start() -> None:
        async with open_vm(describe(), machine, keys, host=host.vms, resume=resume):
            raise AssertionError("it started")

    async with given_up_while_it_hangs(server) as nursery:
        nursery.start_soon(start)


async def test_nobody_else_waits_for_a_file_that_does_not_come(
    images: GuestImages, hanging: tuple[HangingServer, Path]
) -> None:
    server, path = hanging
    ways: list[Callable[[], Awaitable[object]]] = [
        lambda: abandonable(lambda: root_of_state(path.with_name("another"))),
        lambda: open_in_memory(SealedFile(path, images.kernel.key, bytes(32)), "kernel"),
    ]
    for way in ways:
        async with given_up_while_it_hangs(server) as nursery:
            nursery.start_soon(way)
            os.close(await open_in_memory(images.kernel, "another"))
