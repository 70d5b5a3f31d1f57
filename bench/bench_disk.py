"""Live disks over NBD: fio's nbd engine, one connection, against what people use instead.

    pytest bench/bench_disk.py            FIO_SECONDS=10 for longer runs; BENCH_FOLDER for a real disk instead of tmpfs

The peers, each started afresh on a file of its own in the same folder, and only those that are installed: qemu-nbd on a
raw file (no encryption), qemu-nbd with LUKS (encryption without authentication), nbdkit's file plugin (no encryption).
Every file is filled once before anything is timed. Servers take turns within each workload.
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.conftest import Section
from tests.disk.direct import DirectDisk
from tests.disk.opening import make_disk, open_disk
from tests.disk.serving import served_disk

SIZE = 512 << 20
FLUSHES = 40
SECONDS = os.environ.get("FIO_SECONDS", "3")
FOLDER = os.environ.get("BENCH_FOLDER", "/dev/shm")  # noqa: S108 - tmpfs on purpose
SECRET = "0123456789abcdef"  # noqa: S105 - of files that live for a minute
WORKLOADS = {
    "write 256k, depth 16": ("write", "256k", 16),
    "read 256k, depth 16": ("read", "256k", 16),
    "random read 4k, depth 16": ("randread", "4k", 16),
    "random read 4k, depth 64": ("randread", "4k", 64),
    "random write 4k, depth 16": ("randwrite", "4k", 16),
    "random write 4k, depth 64": ("randwrite", "4k", 64),
}


@contextmanager
def child(socket: Path, *command: str) -> Iterator[str]:
    """A server, ready when its socket is there."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            time.sleep(0.01)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def tccp_disk(folder: Path) -> Iterator[str]:
    make_disk(folder / "tccp.disk", SIZE, log_bytes=64 << 20)
    with served_disk(folder / "tccp.disk") as served:
        yield served.uri


@contextmanager
def qemu_raw(folder: Path) -> Iterator[str]:
    with (folder / "qemu.raw").open("wb") as file:
        file.truncate(SIZE)
    socket = folder / "qemu.sock"
    command = ["qemu-nbd", "--persistent", "--shared=4", "--cache=writeback", "--format=raw"]
    with child(socket, *command, f"--socket={socket}", str(folder / "qemu.raw")) as uri:
        yield uri


@contextmanager
def qemu_luks(folder: Path) -> Iterator[str]:
    path, socket = folder / "qemu.luks", folder / "luks.sock"
    secret = ["--object", f"secret,id=key,data={SECRET}"]
    create = ["qemu-img", "create", "-q", *secret, "-f", "luks", "-o", "key-secret=key", str(path), str(SIZE)]
    # QEMU 7.2 fails here at random while it measures its key derivation.
    assert any(subprocess.run(create, check=False, capture_output=True).returncode == 0 for _ in range(10))
    options = f"driver=luks,key-secret=key,file.driver=file,file.filename={path}"
    with child(
        socket, "qemu-nbd", "--persistent", "--shared=4", *secret, f"--socket={socket}", "--image-opts", options
    ) as uri:
        yield uri


@contextmanager
def nbdkit_file(folder: Path) -> Iterator[str]:
    with (folder / "nbdkit.raw").open("wb") as file:
        file.truncate(SIZE)
    socket = folder / "nbdkit.sock"
    with child(socket, "nbdkit", "--foreground", f"--unix={socket}", "file", str(folder / "nbdkit.raw")) as uri:
        yield uri


SERVERS: dict[str, tuple[str | None, Callable[[Path], AbstractContextManager[str]]]] = {
    "tccp": (None, tccp_disk),
    "qemu-nbd raw": ("qemu-nbd", qemu_raw),
    "qemu-nbd LUKS": ("qemu-nbd", qemu_luks),
    "nbdkit file": ("nbdkit", nbdkit_file),
}


def fio(uri: str, kind: str, block: str, depth: int, *more: str) -> tuple[float, float]:
    """MB/s and operations a second."""
    command = ["fio", "--name=bench", "--ioengine=nbd", f"--uri={uri}", f"--rw={kind}", f"--bs={block}"]
    command += [f"--iodepth={depth}", f"--size={SIZE}", "--randrepeat=0", "--output-format=json", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER)
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    side = job["write" if "write" in kind else "read"]
    return side["bw_bytes"] / 1e6, side["iops"]


def test_disks_under_fio() -> None:
    with TemporaryDirectory(dir=FOLDER, prefix="bench-disk-") as name, ExitStack() as stack:
        uris = {
            server: stack.enter_context(start(Path(name)))
            for server, (program, start) in SERVERS.items()
            if program is None or shutil.which(program)
        }
        if len(uris) == 1:
            pytest.skip("no peer is installed")
        section = Section(
            "Live disks over NBD",
            f"fio, nbd engine, one connection, {SECONDS} s each, {SIZE >> 20} MiB files in {FOLDER}. Copy-on-write "
            "and AEGIS-256 against no encryption at all (qemu-nbd raw, nbdkit file) and against LUKS without "
            "authentication.",
            ["", *uris],
        )
        for uri in uris.values():
            fio(uri, "write", "256k", 16)
        for workload, (kind, block, depth) in WORKLOADS.items():
            row = [workload]
            for uri in uris.values():
                speed, operations = fio(uri, kind, block, depth, "--time_based", f"--runtime={SECONDS}")
                row.append(f"{speed:,.0f} MB/s" if block == "256k" else f"{operations:,.0f}/s")
            section.rows.append(row)
        section.save()
        for row in [section.columns, *section.rows]:
            print("  ".join(f"{cell:>26}" for cell in row))


def fill(disk: DirectDisk, filling: bytes) -> None:
    """Write every block, in order."""
    for at in range(0, SIZE, len(filling)):
        disk.write(at, filling)
    disk.flush()


def age(disk: DirectDisk, filling: bytes) -> None:
    """Overwrite at random, as many blocks as two disks have: free slots lie apart then."""
    for number in range(2 * SIZE // 4096):
        disk.write(random.randrange(SIZE // 4096) * 4096, filling[:4096])  # noqa: S311
        if number % 256 == 0:
            disk.flush()


def flush_times(disk: DirectDisk, in_place: int, block: bytes, count: int) -> tuple[float, float]:
    """Medians of making *count* random blocks durable, in ms: written in place, and by the disk, in turns."""
    times: list[list[float]] = [[], []]
    for turn in range(2 * FLUSHES):
        offsets = [random.randrange(SIZE // 4096) * 4096 for _ in range(count)]  # noqa: S311
        start = time.perf_counter()
        for offset in offsets:
            if turn % 2:
                disk.write(offset, block)
            else:
                os.pwrite(in_place, block, offset)
        if turn % 2:
            disk.flush()
        else:
            os.fdatasync(in_place)
        times[turn % 2].append(time.perf_counter() - start)
    return statistics.median(times[0]) * 1e3, statistics.median(times[1]) * 1e3


def test_a_flush_beside_writing_in_place(tmp_path: Path) -> None:
    """The peer is what nobody should do: blocks written in place, without anything that makes them safe."""
    section = Section(
        "Flush of random blocks",
        f"Medians of {FLUSHES} on the file system of tmp_path, {SIZE >> 20} MiB files, in turns. Bars: 1.3, 0.5, "
        "0.2 times writing in place. In new room the file system would allocate blocks, had it not been made ready; "
        "used room is what overwriting in order leaves; aged is what overwriting every block twice at random does.",
        ["blocks", "in place, unsafe", "tccp", "ratio"],
    )
    make_disk(tmp_path / "tccp.disk", SIZE, log_bytes=64 << 20)
    in_place = os.open(tmp_path / "raw", os.O_RDWR | os.O_CREAT, 0o600)
    filling = os.urandom(1 << 20)
    for at in range(0, SIZE, 1 << 20):
        os.pwrite(in_place, filling, at)
    os.fdatasync(in_place)
    with open_disk(tmp_path / "tccp.disk") as disk:
        disk.start_keeper()
        for room, prepare in (("new", fill), ("used", fill), ("aged", age)):
            prepare(disk, filling)
            for count in (1, 16, 256):
                raw, ours = flush_times(disk, in_place, filling[:4096], count)
                section.rows.append([f"{count}, {room} room", f"{raw:.2f} ms", f"{ours:.2f} ms", f"{ours / raw:.2f}"])
    os.close(in_place)
    section.save()
    for row in section.rows:
        print("  ".join(f"{cell:>18}" for cell in row))
