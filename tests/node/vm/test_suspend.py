"""A guest stands still in a sealed file and goes on from there, with its memory, vTPM and disk; from no other file."""

import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from tccp.errors import DiskError, HostError, TccpError
from tccp.model import SecretBytes
from tccp.node.vm.child import Child
from tccp.node.vm.description import VmDescription, VmImages, VmSecrets
from tccp.node.vm.migration import Pace
from tccp.node.vm.opening import open_vm
from tccp.node.vm.state import ResumedState, SuspendedState, state_key
from tests.support.machines import Guest, GuestImages, TestHost, a_host, booted, describe, secrets

# TPM2_PCR_Extend of PCR 16 in the bank of SHA-256, with 32 bytes of 0x41; the answer is read on the same descriptor.
EXTEND = (
    r"printf '\x80\x02\x00\x00\x00\x41\x00\x00\x01\x82\x00\x00\x00\x10\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00"
    r"\x00\x00\x00\x00\x01\x00\x0bAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' >&3; dd bs=4096 count=1 <&3 2>/dev/null | wc -c"
)
DEADLINE_S = 60.0
PCR_16 = "cat /sys/class/tpm/tpm0/pcr-sha256/16"


@asynccontextmanager
async def resumed(
    host: TestHost, images: VmImages, description: VmDescription, keys: VmSecrets, state: ResumedState
) -> AsyncIterator[Guest]:
    """The guest goes on."""
    async with open_vm(description, images, keys, host=host.vms, resume=state) as vm:
        await vm.run()
        yield Guest(vm)


async def suspended(
    host: TestHost, images: VmImages, description: VmDescription, keys: VmSecrets, path: Path
) -> tuple[ResumedState, bytes | None]:
    """A guest that was suspended as generation 1, and its disk's root."""
    async with booted(host, images, description=description, keys=keys) as guest:
        await guest.run("CANARY=in-memory; head -c 1000000 /dev/urandom > /tmp/random")
        state = await guest.vm.suspend(path, state_key(keys.vm_key, 1))
        end = await guest.vm.ended()
    return ResumedState(path, state.root, state_key(keys.vm_key, 1)), (end.disk_roots or (None,))[0]


async def test_a_suspended_guest_goes_on_with_its_memory_its_vtpm_and_its_disk(
    host: TestHost, images: GuestImages, live: Path, tmp_path: Path
) -> None:
    description, keys, path = describe(), secrets(word=b"secret"), tmp_path / "state"
    async with booted(host, images.with_disk(live), description=description, keys=keys) as guest:
        await guest.run("WORD=canary-in-memory; head -c 3000000 /dev/urandom > /tmp/random")
        assert await guest.run(f"exec 3<>/dev/tpm0; {EXTEND}; exec 3>&-") != ["0"]
        before = await guest.run(f"sha256sum /tmp/random; {PCR_16}; cat /proc/sys/kernel/random/boot_id")
        await guest.run("echo 'on the disk' | dd of=/dev/vda conv=notrunc")  # in the guest's cache, perhaps
        first = guest.vm.vtpm.certificates
        state = await guest.vm.suspend(path, state_key(keys.vm_key, 1))
        end = await guest.vm.ended()
    assert (end.reason, state.size_bytes) == ("suspended", path.stat().st_size)
    (root,) = end.disk_roots
    assert before[1] != "0" * 64

    assert b"canary-in-memory" not in path.read_bytes()
    again = ResumedState(path, state.root, state_key(keys.vm_key, 1))
    async with resumed(host, images.with_disk(live, root), description, keys, again) as guest:
        after = await guest.run(f"sha256sum /tmp/random; {PCR_16}; cat /proc/sys/kernel/random/boot_id; echo $WORD")
        assert after == [*before, "canary-in-memory"]
        assert await guest.run("sync; head -n 1 /dev/vda") == ["on the disk"]
        assert guest.vm.vtpm.certificates != first
        assert guest.vm.vtpm.certificates.keys == first.keys
        # The guest still has its vTPM, and what it is told at a reboot.
        assert await guest.run(f"exec 3<>/dev/tpm0; {EXTEND}; exec 3>&-") != ["0"]
        assert (await guest.run(PCR_16)) != before[1:2]
        assert (await guest.vm.shut_down()).reason == "shut_down"


async def test_a_guest_goes_on_at_another_host(
    host: TestHost, images: GuestImages, vm_folder: Path, tmp_path: Path
) -> None:
    description, keys = describe(), secrets()
    state, _ = await suspended(host, images.diskless, description, keys, tmp_path / "state")
    (vm_folder / "another").mkdir(mode=0o711)
    async with (
        a_host(vm_folder / "another") as other,
        resumed(other, images.diskless, description, keys, state) as guest,
    ):
        assert await guest.run("echo $CANARY") == ["in-memory"]
        assert len(await guest.run(PCR_16)) == 1


async def test_a_resumed_guest_is_paused_until_it_is_run(host: TestHost, images: GuestImages, tmp_path: Path) -> None:
    description, keys = describe(), secrets()
    state, _ = await suspended(host, images.diskless, description, keys, tmp_path / "state")
    async with open_vm(description, images.diskless, keys, host=host.vms, resume=state) as vm:
        (vm.vtpm.state.parent / "vtpm.old").write_bytes(b"in the way")
        with pytest.raises(HostError, match="state_unwritable"):
            await vm.run()
        assert (await vm.qmp.execute("query-status"))["running"] is False
    assert (await vm.ended()).has_run is False


async def test_a_guest_goes_on_from_no_other_state(
    host: TestHost, images: GuestImages, live: Path, tmp_path: Path
) -> None:
    description, keys = describe(), secrets()
    state, root = await suspended(host, images.with_disk(live), description, keys, tmp_path / "state")
    whole = bytearray(state.path.read_bytes())
    late = len(whole) * 9 // 10
    late = next(at for at in range(late, 0, -1) if whole[at])  # not in a hole
    whole[late] ^= 1
    (tmp_path / "altered").write_bytes(whole)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    attempts = {
        "chunk_altered": replace(state, path=tmp_path / "altered"),
        "truncated": replace(state, path=tmp_path / "cut"),
        "wrong_root": replace(state, root=bytes(32)),
        "wrong_key": replace(state, key=state_key(keys.vm_key, 2)),
        "state_unreadable": replace(state, path=tmp_path / "nowhere"),
    }
    for reason, attempt in attempts.items():
        with pytest.raises(TccpError) as refused:
            async with open_vm(description, images.with_disk(live, root), keys, host=host.vms, resume=attempt):
                pass
        assert refused.value.reason == reason
    with pytest.raises(HostError) as another:
        async with open_vm(describe(), images.with_disk(live, root), keys, host=host.vms, resume=state):
            pass
    assert another.value.reason == "state_malformed"
    with pytest.raises(DiskError) as rolled_back:
        async with open_vm(description, images.with_disk(live, bytes(32)), keys, host=host.vms, resume=state):
            pass
    assert rolled_back.value.reason == "wrong_disk_root"
    # The control: it is all there.
    async with resumed(host, images.with_disk(live, root), description, keys, state) as guest:
        assert await guest.run("echo $CANARY") == ["in-memory"]


async def test_a_guest_runs_on_when_its_state_cannot_be_written(
    host: TestHost, images: GuestImages, tmp_path: Path
) -> None:
    async with booted(host, images.diskless) as guest:
        with pytest.raises(HostError) as refused:
            await guest.vm.suspend(tmp_path / "nowhere" / "state", state_key(SecretBytes(bytes(32)), 1))
        assert refused.value.reason == "state_unwritable"
        with small_files(1 << 20), pytest.raises(HostError) as full:
            await guest.vm.suspend(tmp_path / "state", state_key(SecretBytes(bytes(32)), 1))
        assert full.value.reason == "efbig"
        assert list(tmp_path.iterdir()) == []
        assert await guest.run("echo still here") == ["still here"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guest.vm.suspend, tmp_path / "state", state_key(SecretBytes(bytes(32)), 1))
            while not (tmp_path / "state.partial").exists():
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert list(tmp_path.iterdir()) == []
        assert await guest.run("echo and here") == ["and here"]
        # The control: nothing else was in the way.
        assert (await guest.vm.suspend(tmp_path / "state", state_key(SecretBytes(bytes(32)), 1))).size_bytes > 1 << 20


@pytest.mark.parametrize("whom", ["qemu", "vtpm", "disk"])
async def test_a_process_that_dies_while_its_state_is_written_leaves_no_state(
    host: TestHost, images: GuestImages, live: Path, tmp_path: Path, whom: str
) -> None:
    async with booted(host, images.with_disk(live)) as guest:
        child = {"qemu": guest.vm.qemu, "vtpm": guest.vm.vtpm.child, "disk": guest.vm.disks[0].child}[whom]
        outcomes: list[SuspendedState | HostError] = []

        async def suspend() -> None:
            try:
                outcomes.append(await guest.vm.suspend(tmp_path / "state", state_key(SecretBytes(bytes(32)), 1)))
            except HostError as problem:
                outcomes.append(problem)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(suspend)
            while not (tmp_path / "state.partial").exists():
                await trio.lowlevel.checkpoint()
            child.send(signal.SIGKILL)
        end = await guest.vm.ended()
        assert isinstance(outcomes[0], HostError) or end.reason == "suspended"
        assert (tmp_path / "state").exists() == isinstance(outcomes[0], SuspendedState)
        assert not (tmp_path / "state.partial").exists()


async def test_a_guest_whose_qemu_or_vtpm_hangs_is_not_waited_for_and_goes_on_with_it(
    host: TestHost, images: GuestImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = state_key(SecretBytes(bytes(32)), 1)
    async with booted(host, images.diskless) as guest:
        for child in (guest.vm.qemu, guest.vm.vtpm.child):
            with monkeypatch.context() as patched:
                patched.setattr("tccp.node.vm.state.Pace", lambda: Pace(bytes_per_s=4 << 20))  # it takes a while
                patched.setattr("tccp.node.vm.state.STALLED_S", 0.5)
                patched.setattr("tccp.node.vm.migration.CANCEL_S", 0.1)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hang_in_the_middle, guest, child, patched)
                    with trio.fail_after(DEADLINE_S), pytest.raises(HostError, match="state_stalled"):
                        await guest.vm.suspend(tmp_path / "state", key)
                    nursery.cancel_scope.cancel()
            assert list(tmp_path.iterdir()) == []

            child.send(signal.SIGCONT)

            assert await guest.run("echo still here") == ["still here"]
        assert (await guest.vm.suspend(tmp_path / "state", key)).size_bytes > 1 << 20


async def hang_in_the_middle(guest: Guest, child: Child, patched: pytest.MonkeyPatch) -> None:
    with guest.vm.qmp.listening("MIGRATION") as events:
        async for event in events:
            if event.text("status") == "active":
                child.send(signal.SIGSTOP)
                patched.setattr("tccp.node.vm.qmp.ANSWER_S", 0.1)


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """Nobody in this process writes files longer than *limit*, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_each_generation_has_a_key_of_its_own() -> None:
    vm_key = SecretBytes(os.urandom(32))
    made = [(vm_key, generation) for generation in (0, 1, 2, 1 << 63)] + [(SecretBytes(bytes(32)), 1)]
    keys = [state_key(*one) for one in made]
    assert len({bytes(key.buffer) for key in keys}) == 5
    again = state_key(vm_key, 1)
    assert bytes(again.buffer) == bytes(keys[1].buffer)
