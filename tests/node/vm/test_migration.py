"""A guest moves from one host to another while it runs, over TLS; whatever breaks, it goes on at one of them alone."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tccp.errors import HostError
from tccp.node.vm.description import VmImages, VmSecrets
from tccp.node.vm.migration import Pace, Sent
from tccp.node.vm.opening import open_vm
from tccp.node.vm.relay import ByteStream
from tccp.node.vm.vm import Vm
from tests.node.vm.test_suspend import EXTEND, PCR_16
from tests.support.machines import Guest, GuestImages, TestHost, a_host, booted, describe, secrets
from tests.support.wires import tls_wire

COUNTER = "(while true; do n=$((n+1)); echo $n > /tmp/count; usleep 2000; done) & echo"


@pytest.fixture
async def elsewhere(vm_folder: Path) -> AsyncIterator[TestHost]:
    """Another host."""
    folder = vm_folder / "elsewhere"
    folder.mkdir(mode=0o711, exist_ok=True)
    async with a_host(folder) as ready:
        yield ready
    assert list((folder / "run").iterdir()) == []


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[trio.abc.Stream, trio.abc.Stream]]:
    """Two ends of a connection."""
    ends = trio.socket.socketpair()
    async with trio.SocketStream(ends[0]) as one, trio.SocketStream(ends[1]) as other:
        yield one, other


@asynccontextmanager
async def moving(
    guest: Guest,
    keys: VmSecrets,
    images: VmImages,
    elsewhere: TestHost,
    disk: tuple[ByteStream, ByteStream] | None = None,
) -> AsyncIterator[tuple[Sent, Guest]]:
    """A guest that was sent and stands still at both ends: what it took, and the guest there."""
    arrived: list[Vm] = []
    came = trio.Event()
    leave = trio.Event()

    async def take_in(there: ByteStream) -> None:
        disks = [disk[1]] if disk else []
        async with open_vm(
            guest.vm.description, images, keys, host=elsewhere.vms, incoming=there, incoming_disks=disks
        ) as vm:
            arrived.append(vm)
            came.set()
            await leave.wait()

    async with tls_wire() as (here, there), trio.open_nursery() as nursery:
        nursery.start_soon(take_in, there)
        sent = await guest.vm.send(here, disks=[disk[0]] if disk else [])
        await came.wait()
        yield sent, Guest(arrived[0])
        leave.set()


async def count_of(guest: Guest) -> int:
    return int((await guest.run("cat /tmp/count"))[0])


async def test_a_guest_moves_with_its_memory_and_its_vtpm_and_goes_on_counting(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        await guest.run("WORD=canary-in-memory; head -c 3000000 /dev/urandom > /tmp/random")
        assert await guest.run(f"exec 3<>/dev/tpm0; {EXTEND}; exec 3>&-") != ["0"]
        before = await guest.run(f"sha256sum /tmp/random; {PCR_16}; cat /proc/sys/kernel/random/boot_id; echo $WORD")
        await guest.run(COUNTER)
        count = await count_of(guest)
        first = guest.vm.vtpm.certificates
        async with moving(guest, keys, images.diskless, elsewhere) as (sent, there):
            # It stands still at both ends until one has let go of it.
            for vm in (guest.vm, there.vm):
                assert (await vm.qmp.execute("query-status"))["running"] is False
            assert sent.sent_bytes > 3_000_000
            end = await guest.vm.forget()
            assert end.reason == "forgotten"
            assert list(guest.vm.vtpm.state.place.iterdir()) == []

            await there.vm.run()
            after = await there.run(f"sha256sum /tmp/random; {PCR_16}; cat /proc/sys/kernel/random/boot_id; echo $WORD")
            assert after == before
            assert await count_of(there) > count
            assert await there.run(f"exec 3<>/dev/tpm0; {EXTEND}; exec 3>&-") != ["0"]
            assert there.vm.vtpm.certificates.keys == first.keys
            assert there.vm.vtpm.certificates != first
            assert (await there.vm.shut_down()).reason == "shut_down"


async def test_a_guest_moves_with_its_disk_while_it_writes_to_it(
    host: TestHost, elsewhere: TestHost, images: GuestImages, live: Path, tmp_path: Path
) -> None:
    keys = secrets()
    async with booted(host, images.with_disk(live), keys=keys) as guest:
        await guest.run("echo 'written here' | dd of=/dev/vda conv=notrunc,fsync")
        await guest.run(
            "(while true; do n=$((n+1)); echo $n | dd of=/dev/vda bs=4096 seek=$((n % 500 + 1)) conv=notrunc,fsync; "
            "done) >/dev/null 2>&1 & echo"
        )
        there_images = images.with_disk(tmp_path / "there.disk")
        async with tls_wire() as disk, moving(guest, keys, there_images, elsewhere, disk) as (_, there):
            assert (await guest.vm.forget()).disk_roots == (None,)
            await there.vm.run()
            assert await there.run("head -n 1 /dev/vda") == ["written here"]
            await there.run("kill $!; wait $!; sync")
            checksum = await there.run("sha256sum /dev/vda")
            end = await there.vm.shut_down()
        (root,) = end.disk_roots
    # What it had written stands in the file there.
    async with booted(elsewhere, images.with_disk(tmp_path / "there.disk", root), keys=keys) as again:
        assert await again.run("sha256sum /dev/vda") == checksum


async def test_a_guest_runs_on_with_its_disk_when_the_copy_of_it_fails(
    host: TestHost, elsewhere: TestHost, images: GuestImages, live: Path, tmp_path: Path
) -> None:
    keys = secrets()
    async with booted(host, images.with_disk(live), keys=keys) as guest:
        await guest.run("dd if=/dev/urandom of=/dev/vda bs=1M seek=1 count=3 conv=fsync")
        for number, limit in enumerate((1, 100, 2_000_000)):
            async with pair() as (here, there), pair() as (disk_here, disk_there), trio.open_nursery() as nursery:
                others = images.with_disk(tmp_path / f"copy-{number}")
                nursery.start_soon(refusal_there, guest, keys, others, elsewhere, there, (disk_there,))
                with pytest.raises(HostError):
                    await guest.vm.send(here, disks=[Cut(disk_here, limit)])
                await here.aclose()
                await disk_here.aclose()
            assert await guest.run(
                "echo 'still here' | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null; head -n 1 /dev/vda"
            )
        async with pair() as (disk_here, disk_there):
            others = images.with_disk(tmp_path / "copy")
            async with moving(guest, keys, others, elsewhere, (disk_here, disk_there)) as (_, gone):
                await gone.vm.forget()
            await guest.vm.run()
        assert await guest.run("head -n 1 /dev/vda") == ["still here"]


async def test_a_guest_that_was_sent_may_still_go_on_where_it_was(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        await guest.run(COUNTER)
        count = await count_of(guest)
        async with moving(guest, keys, images.diskless, elsewhere) as (_, there):
            await there.vm.forget()
        await guest.vm.run()
        assert await count_of(guest) > count
        assert await guest.run(f"exec 3<>/dev/tpm0; {EXTEND}; exec 3>&-") != ["0"]
        # And it may be sent again.
        async with moving(guest, keys, images.diskless, elsewhere) as (_, there):
            await guest.vm.forget()
            await there.vm.run()
            assert await there.run("echo here") == ["here"]


class Cut(trio.abc.Stream):
    """A stream that breaks when *limit* bytes have gone through."""

    def __init__(self, inner: trio.abc.Stream, limit: int) -> None:
        self.inner, self.left = inner, limit

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        piece = bytes(data)[: self.left]
        self.left -= len(piece)
        await self.inner.send_all(piece)
        if self.left == 0:
            await self.inner.aclose()

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def refusal_there(  # noqa: PLR0917 - for start_soon
    guest: Guest,
    keys: VmSecrets,
    images: VmImages,
    elsewhere: TestHost,
    there: trio.abc.Stream,
    disks: tuple[ByteStream, ...] = (),
) -> HostError:
    with pytest.raises(HostError) as refused:
        async with open_vm(
            guest.vm.description, images, keys, host=elsewhere.vms, incoming=there, incoming_disks=disks
        ):
            pass
    await there.aclose()
    return refused.value


async def test_a_guest_runs_on_where_it_is_when_the_stream_breaks_or_sending_is_cancelled(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        await guest.run("head -c 30000000 /dev/urandom > /tmp/random")
        for limit in (2, 100, 5000, 20_000_000):
            refusals: list[HostError] = []

            async def take_in(there: trio.abc.Stream, said: list[HostError] = refusals) -> None:
                said.append(await refusal_there(guest, keys, images.diskless, elsewhere, there))

            async with pair() as (here, there), trio.open_nursery() as nursery:
                nursery.start_soon(take_in, there)
                with pytest.raises(HostError) as broken:
                    await guest.vm.send(Cut(here, limit))
            assert broken.value.reason == "stream_broken"
            assert refusals[0].reason == "stream_broken"
            assert await guest.run("echo still here") == ["still here"]

        reports: list[Sent] = []
        async with pair() as (here, there), trio.open_nursery() as nursery:
            nursery.start_soon(refusal_there, guest, keys, images.diskless, elsewhere, there)
            with trio.CancelScope() as scope:

                def on_progress(sent: Sent) -> None:
                    reports.append(sent)
                    scope.cancel()

                await guest.vm.send(here, pace=Pace(bytes_per_s=1 << 20), on_progress=on_progress)
            assert scope.cancelled_caught
            await here.aclose()
        assert reports[0].left_bytes > 0
        assert await guest.run("echo still here") == ["still here"]
        # The control: nothing else was in the way.
        async with moving(guest, keys, images.diskless, elsewhere):
            pass


@pytest.mark.parametrize("whom", ["qemu", "vtpm"])
async def test_a_process_that_dies_here_while_a_guest_is_sent_ends_it_at_both_ends(
    host: TestHost, elsewhere: TestHost, images: GuestImages, whom: str
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        child = {"qemu": guest.vm.qemu, "vtpm": guest.vm.vtpm.child}[whom]
        async with pair() as (here, there), trio.open_nursery() as nursery:
            nursery.start_soon(refusal_there, guest, keys, images.diskless, elsewhere, there)
            with pytest.raises(HostError):
                await guest.vm.send(
                    here, pace=Pace(bytes_per_s=1 << 20), on_progress=lambda _sent: child.send(signal.SIGKILL)
                )
            await here.aclose()
        assert (await guest.vm.ended()).reason in ("killed_by_host", "vtpm_failed")


async def test_a_state_that_is_no_state_or_anothers_is_not_taken(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        for said in (b"\0\0\0\4\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\5\0\0\0\1x" + bytes(4) + b"!"):
            async with pair() as (here, there):
                await here.send_all(said)
                await here.aclose()
                assert (await refusal_there(guest, keys, images.diskless, elsewhere, there)).reason == "state_malformed"
        async with pair() as (here, there), trio.open_nursery() as nursery:
            nursery.start_soon(refusal_of_another, images, elsewhere, there)
            with pytest.raises(HostError):
                await guest.vm.send(here)
        assert await guest.run("echo still here") == ["still here"]


async def refusal_of_another(images: GuestImages, elsewhere: TestHost, there: trio.abc.Stream) -> None:
    with pytest.raises(HostError) as refused:
        async with open_vm(describe(), images.diskless, secrets(), host=elsewhere.vms, incoming=there):
            pass
    assert refused.value.reason == "state_malformed"
    await there.aclose()
