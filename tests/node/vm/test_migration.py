"""A guest moves from one host to another while it runs, over TLS; whatever breaks, it goes on at one of them alone."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from tccp.errors import HostError
from tccp.node.vm.description import VmImages, VmSecrets
from tccp.node.vm.migration import Pace
from tccp.node.vm.opening import open_vm
from tccp.node.vm.preamble import Preamble, encode_preamble
from tccp.node.vm.streams import Streams, streams_of
from tccp.node.vm.vm import Vm
from tccp.node.vm.vtpm import Vtpm
from tccp.node.vm.vtpm_state import VtpmDemand
from tccp.protocol.transfer import SourceWord, TransferProgress, TransferSent
from tccp.transport.bulk_stream import BulkStream
from tests.node.vm.test_suspend import EXTEND, PCR_16
from tests.support.machines import Guest, GuestImages, TestHost, a_host, booted, describe, secrets
from tests.support.wires import Wires, tls_wires

REST = "dd if=/dev/vda bs=1M skip=2 2>/dev/null | sha256sum"
COUNTER = (
    "echo 0 > /tmp/count; (while true; do n=$((n+1)); echo $n > /tmp/c; mv /tmp/c /tmp/count; usleep 2000; done) & echo"
)


@pytest.fixture
async def elsewhere(vm_folder: Path) -> AsyncIterator[TestHost]:
    """Another host."""
    folder = vm_folder / "elsewhere"
    folder.mkdir(mode=0o711, exist_ok=True)
    async with a_host(folder) as ready:
        yield ready
    assert list((folder / "run").iterdir()) == []


@dataclass
class Told:
    """What each end was told."""

    here: list[TransferProgress] = field(default_factory=list)
    there: list[SourceWord] = field(default_factory=list)
    marks: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def moving(
    guest: Guest, keys: VmSecrets, images: VmImages, elsewhere: TestHost, *, pace: Pace | None = None
) -> AsyncIterator[tuple[TransferSent, Guest, Told]]:
    """A guest that was sent and stands still at both ends: what it took, and the guest there."""
    arrived: list[Vm] = []
    came = trio.Event()
    leave = trio.Event()
    told = Told()

    async def take_in(there: Streams) -> None:
        async with open_vm(guest.vm.description, images, keys, host=elsewhere.vms, incoming=there) as vm:
            arrived.append(vm)
            came.set()
            await leave.wait()

    async with tls_wires(len(images.disks)) as wires, trio.open_nursery() as nursery:
        nursery.start_soon(take_in, streams_of(wires.there, told.there.append, told.marks.append))
        sent = await guest.vm.send(streams_of(wires.here), pace=pace, on_progress=told.here.append)
        await came.wait()
        yield sent, Guest(arrived[0]), told
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
        async with moving(guest, keys, images.diskless, elsewhere) as (sent, there, _):
            # It stands still at both ends until one has let go of it.
            for vm in (guest.vm, there.vm):
                assert (await vm.qmp.execute("query-status"))["running"] is False
            assert sent.state_bytes > 3_000_000
            end = await guest.vm.forget()
            assert end.reason == "forgotten"

            await there.vm.run()
            after = await there.run(f"sha256sum /tmp/random; {PCR_16}; cat /proc/sys/kernel/random/boot_id; echo $WORD")
            assert after == before
            assert await count_of(there) > count
            assert await there.run(f"exec 3<>/dev/tpm0; {EXTEND}; exec 3>&-") != ["0"]
            assert there.vm.vtpm.certificates.keys == first.keys
            assert there.vm.vtpm.certificates != first
            assert (await there.vm.shut_down()).reason == "shut_down"


@asynccontextmanager
async def forgotten(
    host: TestHost, elsewhere: TestHost, images: VmImages, keys: VmSecrets
) -> AsyncIterator[tuple[Vm, Vtpm, Vm]]:
    """A VM that its source has let go of, the vTPM that it had there, and the VM elsewhere, which has not run yet."""
    async with open_vm(describe(), images, keys, host=host.vms) as vm:
        await vm.run()
        async with moving(Guest(vm), keys, images, elsewhere) as (_, there, _):
            await vm.forget()
            yield vm, vm.vtpm, there.vm


async def test_a_vm_whose_destination_is_lost_starts_again_with_the_vtpm_that_it_had(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    """What was sealed to it, such as the key of a disk, would be lost with it."""
    keys = secrets()
    async with forgotten(host, elsewhere, images.diskless, keys) as (vm, first, _):
        pass
    demand = VtpmDemand(mark=first.mark)
    async with open_vm(vm.description, images.diskless, keys, host=host.vms, vtpm=demand) as again:
        assert again.vtpm.certificates.keys == first.certificates.keys


async def test_a_vm_that_has_arrived_keeps_its_vtpm_although_it_dies_before_it_may_run(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    """Its source has let go of it by then, and the coordinator may have made this node its owner."""
    keys = secrets()
    async with forgotten(host, elsewhere, images.diskless, keys) as (vm, first, there):
        there.qemu.send(signal.SIGKILL)
        await there.ended()
    demand = VtpmDemand(mark=first.mark)
    async with open_vm(vm.description, images.diskless, keys, host=elsewhere.vms, vtpm=demand) as again:
        assert again.vtpm.certificates.keys == first.certificates.keys


async def test_a_guest_moves_with_its_disk_while_it_writes_to_it(
    host: TestHost, elsewhere: TestHost, images: GuestImages, live: Path, tmp_path: Path
) -> None:
    keys = secrets()
    async with booted(host, images.with_disk(live), keys=keys) as guest:
        await guest.run("echo 'written here' | dd of=/dev/vda conv=notrunc,fsync")
        # A MiB that is new, one as in the image, and zeros where the image has none.
        await guest.run("dd if=/dev/urandom of=/dev/vda bs=1M seek=2 count=1 conv=notrunc,fsync")
        await guest.run("dd if=/dev/zero of=/dev/vda bs=64k seek=56 count=1 conv=notrunc,fsync")
        rest = await guest.run(REST)
        await guest.run(
            "(while true; do n=$((n+1)); echo $n | dd of=/dev/vda bs=4096 seek=$((n % 500 + 1)) conv=notrunc,fsync; "
            "done) >/dev/null 2>&1 & echo"
        )
        there_images = images.with_disk(tmp_path / "there.disk")
        async with moving(guest, keys, there_images, elsewhere) as (sent, there, told):
            assert sent.disk_bytes > 4096
            assert told.marks == [b"".join(await there.vm.marks())]
            assert (await guest.vm.forget()).disk_roots == (None,)
            await there.vm.run()
            assert await there.run("head -n 1 /dev/vda") == ["written here"]
            await there.run("kill $!; wait $!; sync")
            assert await there.run(REST) == rest
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
            others = images.with_disk(tmp_path / f"copy-{number}")
            async with tls_wires(1) as wires, trio.open_nursery() as nursery:
                nursery.start_soon(refusal_there, guest, keys, others, elsewhere, wires)
                *rest, disk = wires.here
                with pytest.raises(HostError):
                    await guest.vm.send(streams_of([*rest, Cut(disk, limit)]))
                wires.close_here()
            assert await guest.run(
                "echo 'still here' | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null; head -n 1 /dev/vda"
            )
        others = images.with_disk(tmp_path / "copy")
        async with moving(guest, keys, others, elsewhere) as (_, gone, _):
            await gone.vm.forget()
        await guest.vm.run()
        assert await guest.run("head -n 1 /dev/vda") == ["still here"]


async def test_a_guest_that_was_sent_may_still_go_on_where_it_was_and_both_ends_know_how_far_it_was(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        await guest.run(COUNTER)
        count = await count_of(guest)
        pace = Pace(bytes_per_s=60 << 20)
        async with moving(guest, keys, images.diskless, elsewhere, pace=pace) as (sent, there, told):
            await there.vm.forget()
        *progress, last = told.there
        assert last == sent
        assert progress == told.here[: len(progress)]  # the last one may have come too late to be said
        assert any(each.sent_bytes > 0 and each.bytes_per_s > 0 for each in told.here)
        assert sent.state_bytes >= told.here[-1].sent_bytes > 0
        assert sent.total_ms > sent.still_ms > 0
        await guest.vm.run()
        assert await count_of(guest) > count
        assert await guest.run(f"exec 3<>/dev/tpm0; {EXTEND}; exec 3>&-") != ["0"]
        # And it may be sent again.
        async with moving(guest, keys, images.diskless, elsewhere) as (_, there, _):
            await guest.vm.forget()
            await there.vm.run()
            count = await count_of(there)
            assert await count_of(there) > count


class Cut:
    """A stream that breaks when *limit* bytes have gone through."""

    def __init__(self, inner: BulkStream, limit: int) -> None:
        self.inner, self.left = inner, limit
        self.receive_some, self.fileno, self.read_into = inner.receive_some, inner.fileno, inner.read_into

    async def send_all(self, data: bytes) -> None:
        await self.inner.send_all(data[: self._take(len(data))])

    def write(self, view: memoryview) -> int:
        count = self.inner.write(view[: min(len(view), self.left)])
        self._take(count)
        return count

    def _take(self, count: int) -> int:
        if self.left == 0:
            raise BrokenPipeError("cut")
        taken = min(count, self.left)
        self.left -= taken
        return taken


async def refusal_there(
    guest: Guest, keys: VmSecrets, images: VmImages, elsewhere: TestHost, wires: Wires
) -> HostError:
    with pytest.raises(HostError) as refused:
        async with open_vm(guest.vm.description, images, keys, host=elsewhere.vms, incoming=streams_of(wires.there)):
            pass
    wires.close_there()
    return refused.value


async def test_a_guest_runs_on_where_it_is_when_the_stream_breaks_or_sending_is_cancelled(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        await guest.run("head -c 30000000 /dev/urandom > /tmp/random")
        for limit in (2, 100, 5000, 20_000_000):
            refusals: list[HostError] = []

            async def take_in(wires: Wires, said: list[HostError] = refusals) -> None:
                said.append(await refusal_there(guest, keys, images.diskless, elsewhere, wires))

            async with tls_wires() as wires, trio.open_nursery() as nursery:
                nursery.start_soon(take_in, wires)
                talk, state = wires.here
                with pytest.raises(HostError) as broken:
                    await guest.vm.send(streams_of([talk, Cut(state, limit)]))
                wires.close_here()
            assert broken.value.reason == "stream_broken"
            assert refusals[0].reason == "stream_broken"
            assert await guest.run("echo still here") == ["still here"]

        reports: list[TransferProgress] = []
        async with tls_wires() as wires, trio.open_nursery() as nursery:
            nursery.start_soon(refusal_there, guest, keys, images.diskless, elsewhere, wires)
            with trio.CancelScope() as scope:

                def on_progress(progress: TransferProgress) -> None:
                    reports.append(progress)
                    if progress.memory_left_bytes:
                        scope.cancel()

                await guest.vm.send(streams_of(wires.here), pace=Pace(bytes_per_s=1 << 20), on_progress=on_progress)
            assert scope.cancelled_caught
            wires.close_here()
        assert 0 < reports[-1].memory_left_bytes < reports[-1].memory_bytes
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
        async with tls_wires() as wires, trio.open_nursery() as nursery:
            nursery.start_soon(refusal_there, guest, keys, images.diskless, elsewhere, wires)
            with pytest.raises(HostError):
                await guest.vm.send(
                    streams_of(wires.here),
                    pace=Pace(bytes_per_s=1 << 20),
                    on_progress=lambda _sent: child.send(signal.SIGKILL),
                )
            wires.close_here()
        assert (await guest.vm.ended()).reason in ("killed_by_host", "vtpm_failed")


async def test_a_state_that_is_no_state_or_anothers_is_not_taken(
    host: TestHost, elsewhere: TestHost, images: GuestImages
) -> None:
    keys = secrets()
    async with booted(host, images.diskless, keys=keys) as guest:
        talked = ((b"\0\0\0\4\0\0\0\0", b""), (b"\xff\xff\xff\xff", b""))
        for said, state in (*talked, (_introduction(guest), b"no state of QEMU's")):
            async with tls_wires() as wires:
                await wires.here[0].send_all(said)
                await wires.here[1].send_all(state or b"\0")
                wires.close_here()
                refusal = await refusal_there(guest, keys, images.diskless, elsewhere, wires)
                assert refusal.reason == ("stream_broken" if state else "state_malformed")
        async with tls_wires() as wires, trio.open_nursery() as nursery:
            nursery.start_soon(refusal_of_another, images, elsewhere, wires)
            with pytest.raises(HostError):
                await guest.vm.send(streams_of(wires.here))
        assert await guest.run("echo still here") == ["still here"]


def _introduction(guest: Guest) -> bytes:
    return encode_preamble(Preamble(guest.vm.description.vm_id, guest.vm.vtpm.certificates.keys))


async def refusal_of_another(images: GuestImages, elsewhere: TestHost, wires: Wires) -> None:
    with pytest.raises(HostError) as refused:
        async with open_vm(
            describe(), images.diskless, secrets(), host=elsewhere.vms, incoming=streams_of(wires.there)
        ):
            pass
    assert refused.value.reason == "state_malformed"
    wires.close_there()
