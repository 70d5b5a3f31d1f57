"""What a VM's own processes say and leave, and what another node says, costs that VM at most, and no other.

Whoever has broken out of one of them says whatever he likes.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa
from nacl.signing import SigningKey

from tccp.core.child import ChildSpec
from tccp.errors import DiskError, HostError
from tccp.node.vm import vtpm_state
from tccp.node.vm.certificates import VtpmIssuer
from tccp.node.vm.child import Child, start
from tccp.node.vm.disk import DiskProcess
from tccp.node.vm.manufacture import certify_vtpm
from tccp.node.vm.opening import open_vm
from tccp.node.vm.state import state_key
from tccp.node.vm.streams import streams_of
from tccp.node.vm.talk import Talk
from tccp.node.vm.vm import Vm
from tccp.node.vm.vtpm_state import FILES_MAX, VtpmState
from tccp.protocol.transfer import SourceWord, TransferProgress
from tccp.transport.bulk_stream import BulkStream
from tests.fuzz.tpm_targets import handles, made
from tests.support.machines import GuestImages, TestHost, describe, secrets
from tests.support.public_areas import ak_area
from tests.support.reserved import free_users
from tests.support.wires import tls_wire, tls_wires
from tests.tpm.fake_tpm import answering, serve

USER = free_users()
DEADLINE_S = 60.0
MARK = "00" * 40

# ---- a disk's process


@contextlib.asynccontextmanager
async def a_process() -> AsyncIterator[Child]:
    """That does nothing."""
    program = os.open("/bin/busybox", os.O_PATH | os.O_CLOEXEC)
    async with trio.open_nursery() as nursery:
        child = await start("disk", ChildSpec(program, ["busybox", "sleep", "600"], -1), nursery)
        os.close(program)
        try:
            yield child
        finally:
            await child.kill()


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[1, 2]",
        '"error"',
        "{}",
        '{"mark": 7}',
        '{"mark": "00"}',
        f'{{"mark": "{MARK * 9}"}}',
        '{"error": "Not A Reason", "detail": ""}',
        f'{{"error": "{"r" * 65}", "detail": ""}}',
        '{"error": ["r"], "detail": ""}',
        '{"error": "r"}',
        "[" * 4000,
    ],
)
async def test_a_disks_process_that_says_nonsense_is_killed(line: str) -> None:
    """What it says goes to the coordinator, which closes the connection of a node that says what it may not."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as unused:
        async with a_process() as child:
            disk = DiskProcess(child, unused, ours, unused)
            theirs.sendall(line.encode() + b"\n")

            with pytest.raises(HostError, match="disk_process_malformed"):
                await disk.mark()

            assert await child.wait() == -9


async def test_what_it_may_say_is_passed_on() -> None:
    """The control."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as unused:
        async with a_process() as child:
            disk = DiskProcess(child, unused, ours, unused)
            theirs.sendall(f'{{"mark": "{MARK}"}}\n{{"error": "no_memory", "detail": "none"}}\n'.encode())

            assert await disk.mark() == bytes(40)
            with pytest.raises(DiskError, match="no_memory: none"):
                await disk.mark()

            assert child.status is None


async def test_a_bug_in_watching_a_vm_ends_it_and_nobody_waits_for_ever(
    host: TestHost, images: GuestImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(_vm: Vm) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Vm, "_close_disks", bug)
    with trio.fail_after(DEADLINE_S):
        async with open_vm(describe(), images.diskless, secrets(), host=host.vms) as vm:
            end = await vm.kill()
    assert (end.reason, end.detail) == ("bug", "ValueError: a bug")
    assert None not in (vm.qemu.status, vm.vtpm.child.status)


# ---- a vTPM


def vtpm_of(parent: Path) -> VtpmState:
    """Whose VM has run once."""
    state = VtpmState(parent)
    state.prepare(demanded=None, anew=True)
    (state.place / "tpm2-00.permall").write_bytes(b"state")
    state.begin()
    return VtpmState(parent)


async def test_a_vtpm_whose_keys_are_none_of_a_vtpm_fails_its_start(nursery: trio.Nursery) -> None:
    """Whoever sits in swtpm chooses its keys; of others than ours the library would not make a certificate."""
    public = ak_area(rsa.generate_private_key(65537, 2048))
    ours, theirs = socket.socketpair()
    peer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    nursery.start_soon(serve, peer, answering(handles(), made(public, 0x80000000), made(public, 0x80000001)))
    async with peer, a_process() as maker:
        await maker.kill()
        with pytest.raises(HostError, match="vtpm_failed: the keys"):
            await certify_vtpm(ours, maker, bytes(16), (), VtpmIssuer("alpha", SigningKey(bytes(32)), b"statement"))


def test_a_vtpm_that_leaves_files_without_number_does_not_have_us_read_them_all(tmp_path: Path) -> None:
    state = vtpm_of(tmp_path / "vm")
    digest = state.digest()
    for number in range(FILES_MAX):
        (state.parent / "vtpm" / f"{number}").touch()

    with pytest.raises(OSError, match="more than"):
        state.digest()
    with pytest.raises(HostError, match="more than"):
        state.prepare(demanded=None, anew=False)

    for number in range(FILES_MAX):
        (state.parent / "vtpm" / f"{number}").unlink()
    assert state.digest() == digest


def test_a_file_may_be_called_what_it_likes(tmp_path: Path) -> None:
    state = vtpm_of(tmp_path / "vm")
    before = state.digest()
    (state.parent / "vtpm" / os.fsdecode(b"\xff")).touch()

    assert state.digest() != before


def test_a_state_that_could_not_take_its_place_leaves_the_former_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = vtpm_of(tmp_path / "vm")
    before, rename = state.digest(), Path.rename
    state.prepare(demanded=before, anew=False)
    (state.place / "tpm2-00.permall").write_bytes(b"newer")

    def fail(path: Path, target: Path) -> Path:
        if path.name == "vtpm.next":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        with pytest.raises(HostError, match="state_unwritable"):
            state.begin()

    assert state.digest() == before  # which is what is registered of it
    VtpmState(state.parent).prepare(demanded=before, anew=False)
    assert state.digest() == before


REMOVE = """
import sys
from pathlib import Path
from tccp.node.vm_folder import remove_all
remove_all(Path(sys.argv[1]))
"""
# The unit leaves the daemon without these: it is nobody who may look into another's folder.
WITHOUT = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]


@pytest.mark.parametrize("name", ["vtpm", "vtpm.next"])
def test_what_a_daemon_that_died_has_lent_to_a_vtpm_can_still_be_removed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "vm"
    lent = folder / name
    lent.mkdir(parents=True, mode=0o700)
    (lent / "tpm2-00.permall").write_bytes(b"state")
    vtpm_state.give(lent, USER)

    # The control: it is not enough to remove what is there.
    plainly = [*WITHOUT, sys.executable, "-c", f"import shutil; shutil.rmtree({str(folder)!r})"]
    rmtree = subprocess.run(plainly, check=False, capture_output=True)
    assert (rmtree.returncode, lent.exists()) == (1, True)

    subprocess.run([*WITHOUT, sys.executable, "-c", REMOVE, str(folder)], check=True)

    assert not folder.exists()


# ---- QEMU


async def test_a_qemu_that_says_more_than_a_state_has_fills_no_disk_and_the_guest_goes_on(
    host: TestHost, images: GuestImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tccp.node.vm.state.STATE_SHARE_MAX", 0)
    monkeypatch.setattr("tccp.node.vm.state.STATE_BYTES_MORE", -1)  # so that an honest one does
    keys = secrets()
    async with open_vm(describe(), images.diskless, keys, host=host.vms) as vm:
        await vm.run()
        with pytest.raises(HostError, match="state_too_large"):
            await vm.suspend(tmp_path / "state", state_key(keys.vm_key, 1))
        assert (await vm.qmp.execute("query-status"))["running"]
    assert not list(tmp_path.iterdir())


# ---- another node


async def test_a_source_that_talks_without_end_keeps_nobody_else_from_running() -> None:
    """What was said faster than it was heard kept the loop of the daemon, and so the lease from being renewed."""
    words, turns = 500, 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with tls_wire() as (here, there), trio.open_nursery() as nursery:
        talk = Talk(here)
        for _ in range(words):  # all of it is there before anybody listens
            await talk.say(TransferProgress(0, 0, 0, 0, 0, 0, 0))
        nursery.start_soon(take_turns)
        await trio.lowlevel.checkpoint()
        before = turns
        listening = Talk(there)
        for _ in range(words):
            await listening.hear(SourceWord)
        assert turns - before >= words
        nursery.cancel_scope.cancel()


async def test_a_destination_that_takes_the_last_of_a_guest_for_ever_lets_it_go_on_where_it_was(
    host: TestHost, images: GuestImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never silent, and never says that it has all of it."""
    monkeypatch.setattr("tccp.node.vm.sending.STILL_S", 0.5)

    async def swallow(stream: BulkStream) -> None:
        while await stream.receive_some(1 << 16):
            pass

    with trio.fail_after(DEADLINE_S):
        async with open_vm(describe(), images.diskless, secrets(), host=host.vms) as vm:
            await vm.run()
            async with tls_wires() as wires, trio.open_nursery() as nursery:
                for stream in wires.there:
                    nursery.start_soon(swallow, stream)
                with pytest.raises(HostError, match="peer_slow"):
                    await vm.send(streams_of(wires.here))
                nursery.cancel_scope.cancel()
            assert (await vm.qmp.execute("query-status"))["running"]
