"""What Debian's NBD clients find out about a served disk by their own checks, beside what test_serving.py does."""

import json
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.disk.clients import run
from tests.disk.opening import make_disk, open_disk
from tests.disk.serving import ServedDisk, served_disk

SIZE = 16 << 20
MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vm.disk"
    make_disk(path, SIZE, log_bytes=MIB)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Data, a hole, data."""
    image, content = tmp_path / "image", random.Random(7)
    image.write_bytes(content.randbytes(3 * MIB + 4096) + bytes(5 * MIB) + content.randbytes(8 * MIB - 4096))
    return image


def qemu_io(served: ServedDisk, *commands: str) -> str:
    return run("qemu-io", "-f", "raw", *[word for one in commands for word in ("-c", one)], served.uri)


def fio(served: ServedDisk, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Runs it in *folder*, where it leaves its state; its jobs, none of which failed."""
    report = folder / "report.json"
    common = ["--name=clients", "--ioengine=nbd", f"--uri={served.uri}", f"--aux-path={folder}"]
    run("fio", *common, "--output-format=json", f"--output={report}", *options)
    jobs: list[dict[str, Any]] = json.loads(report.read_text())["jobs"]
    assert {job["error"] for job in jobs} == {0}
    return jobs


# ---- nbdinfo -----------------------------------------------------------------------------------------------------


def test_nbdinfo_agrees_with_itself_in_every_form(path: Path) -> None:
    with served_disk(path) as served:
        assert int(run("nbdinfo", "--size", served.uri)) == SIZE
        for ability in ("connect", "flush", "fua", "multi-conn", "trim", "write", "zero", "fast-zero", "df"):
            run("nbdinfo", "--can", ability, served.uri)
        for property_ in ("read-only", "tls", "rotational"):
            refused = subprocess.run(["nbdinfo", "--is", property_, served.uri], capture_output=True, check=False)
            assert refused.returncode == 2, property_
        [export] = json.loads(run("nbdinfo", "--json", served.uri))["exports"]
        assert export["export-size"] == SIZE
        assert export["contexts"] == ["base:allocation"]
        assert export["is_read_only"] is False


def test_who_asks_for_changes_is_told_what_is_not_as_in_the_image(path: Path) -> None:
    with served_disk(path) as served:
        run("qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", served.uri)
        told = json.loads(run("nbdinfo", "--map=tccp:changed", "--json", served.uri))
    changed = {(entry["offset"], entry["length"]): entry["type"] for entry in told if entry["type"] != 1}
    assert changed == {(MIB, 65_536): 0}


def test_nbdinfo_counts_data_and_holes(path: Path, image: Path) -> None:
    with served_disk(path) as served:
        run("nbdcopy", "--flush", image, served.uri)
        totals = json.loads(run("nbdinfo", "--map", "--totals", "--json", served.uri))
        assert {entry["description"]: entry["size"] for entry in totals} == {"data": 11 * MIB, "hole,zero": 5 * MIB}


# ---- nbdcopy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        ["--synchronous"],
        ["--connections=1", "--requests=1"],
        ["--connections=4", "--requests=64", "--threads=2"],
        ["--request-size=4096"],
        ["--request-size=33554432"],
        ["--no-extents", "--allocated"],
        ["--destination-is-zero"],
    ],
    ids=" ".join,
)
def test_nbdcopy_brings_an_image_in_and_out_again(path: Path, image: Path, tmp_path: Path, how: list[str]) -> None:
    copy = tmp_path / "copy"
    with served_disk(path) as served:
        run("nbdcopy", "--flush", *how, image, served.uri)
        served.kill()
    with served_disk(path) as served:
        run("nbdcopy", *[word for word in how if word != "--destination-is-zero"], served.uri, copy)
    assert copy.read_bytes() == image.read_bytes()


def test_nbdcopy_copies_from_one_served_disk_to_another(path: Path, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.disk"
    make_disk(other, SIZE, log_bytes=MIB)
    with served_disk(path) as source, served_disk(other) as target:
        run("nbdcopy", image, source.uri)
        run("nbdcopy", "--flush", source.uri, target.uri)
        target.kill()
    with open_disk(other) as disk:
        assert disk.read(0, SIZE) == image.read_bytes()
        assert disk.describe().data_bytes == 11 * MIB


def test_nbdcopy_reads_a_disk_into_a_pipe(path: Path, image: Path) -> None:
    with served_disk(path) as served:
        run("nbdcopy", image, served.uri)
        assert (
            subprocess.run(["nbdcopy", served.uri, "-"], capture_output=True, check=True).stdout == image.read_bytes()
        )
        run("nbdcopy", served.uri, "null:")


# ---- qemu-img ----------------------------------------------------------------------------------------------------


def test_qemu_img_maps_data_and_zeros(path: Path, image: Path) -> None:
    with served_disk(path) as served:
        run("nbdcopy", "--flush", image, served.uri)
        shown = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", served.uri))
        assert [(extent["start"], extent["length"], extent["zero"]) for extent in shown] == [
            (0, 3 * MIB + 4096, False),
            (3 * MIB + 4096, 5 * MIB, True),
            (8 * MIB + 4096, 8 * MIB - 4096, False),
        ]


def test_qemu_img_converts_out_of_order_and_in_parallel_both_ways(path: Path, image: Path, tmp_path: Path) -> None:
    qcow2 = tmp_path / "image.qcow2"
    parallel = ("-m", "16", "-W")
    with served_disk(path) as served:
        run("qemu-img", "convert", "-n", *parallel, "-f", "raw", "-O", "raw", image, served.uri)
        run("qemu-img", "convert", *parallel, "-f", "raw", "-O", "qcow2", "-c", served.uri, qcow2)
        assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, qcow2)
        assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", served.uri, image)
        assert json.loads(run("qemu-img", "info", "--output=json", "-f", "raw", served.uri))["virtual-size"] == SIZE
        assert int(json.loads(run("qemu-img", "measure", "--output=json", "-O", "qcow2", served.uri))["required"]) > 0


def test_qemu_img_compare_sees_one_changed_byte(path: Path, image: Path) -> None:
    with served_disk(path) as served:
        run("nbdcopy", "--flush", image, served.uri)
        qemu_io(served, f"write -P 1 {12 * MIB + 77} 1")
        done = subprocess.run(
            ["qemu-img", "compare", "-f", "raw", "-F", "raw", served.uri, image], capture_output=True, check=False
        )
        assert done.returncode == 1
        assert f"Content mismatch at offset {12 * MIB}".encode() in done.stdout


# ---- qemu-nbd ----------------------------------------------------------------------------------------------------


@contextmanager
def passed_on(served: ServedDisk) -> Iterator[str]:
    """qemu-nbd as our client and somebody's server: what a host of its own would do with the disk."""
    with tempfile.TemporaryDirectory(prefix="tccp-nbd-") as folder:
        address = Path(folder) / "s"
        command = ["qemu-nbd", "--format=raw", f"--socket={address}", "--persistent", "--fork", "--shared=4"]
        command += [f"--pid-file={folder}/pid", "--discard=unmap", "--detect-zeroes=unmap", served.uri]
        with (Path(folder) / "said").open("wb") as said:
            done = subprocess.run(command, stdout=said, stderr=said, check=False)
        assert done.returncode == 0, (Path(folder) / "said").read_text()
        try:
            yield f"nbd+unix:///?socket={address}"
        finally:
            os.kill(int((Path(folder) / "pid").read_text()), 15)


def test_qemu_nbd_passes_a_disk_on(path: Path, image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with served_disk(path) as served:
        assert f"size:  {SIZE}" in run("qemu-nbd", "--list", f"--socket={served.socket}")
        with passed_on(served) as uri:
            run("nbdcopy", "--flush", image, uri)
            served_totals, passed_totals = (run("nbdinfo", "--map", "--totals", one) for one in (served.uri, uri))
            assert served_totals == passed_totals
            run("nbdcopy", uri, copy)
    assert copy.read_bytes() == image.read_bytes()


# ---- qemu-io -----------------------------------------------------------------------------------------------------


def test_qemu_io_reads_back_patterns_at_every_kind_of_border(path: Path) -> None:
    places = [(0, 512), (4095, 2), (4096, 4096), (8191, 8194), (65536 - 3, 7), (SIZE - 1, 1), (MIB - 512, 3 * MIB)]
    with served_disk(path) as served:
        for number, (offset, length) in enumerate(places, 1):
            qemu_io(served, f"write -P {number} {offset} {length}", f"read -P {number} {offset} {length}")
        qemu_io(served, f"write -P 77 0 {MIB}", f"write -z -u 4000 {MIB - 8000}", f"read -P 0 4000 {MIB - 8000}")
        qemu_io(served, "read -P 77 0 4000", f"read -P 77 {MIB - 4000} 4000", "aio_read 0 1M", "aio_flush")


def test_what_one_connection_wrote_another_one_reads_and_makes_durable(path: Path) -> None:
    """Multi-conn: a flush on one connection is one for the writes that others had acknowledged before it."""
    with served_disk(path) as served:
        command = ["qemu-io", "-f", "raw", "-t", "writeback", served.uri]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            print(f"write -P 5 {MIB} 64k", file=writer.stdin, flush=True)
            while "wrote" not in (line := writer.stdout.readline()):
                assert line, "it hung up"
            qemu_io(served, f"read -P 5 {MIB} 64k", "flush")
            served.kill()
            writer.kill()
    with open_disk(path) as disk:
        assert disk.read(MIB, 65536) == b"\5" * 65536


# ---- fio ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["write", "randwrite", "randrw"])
def test_fio_verifies_every_block_of_four_jobs_with_connections_of_their_own(
    path: Path, tmp_path: Path, pattern: str
) -> None:
    """Every block carries its own place and checksum: one that stands elsewhere is found too."""
    with served_disk(path) as served:
        options = [f"--rw={pattern}", "--bs=4k", "--size=4m", "--offset_increment=4m", "--numjobs=4", "--iodepth=32"]
        jobs = fio(served, tmp_path, *options, "--verify=crc32c", "--verify_fatal=1", "--randseed=8")
        assert len(jobs) == 4
        assert sum(job["write"]["total_ios"] for job in jobs) > 1000
        assert sum(job["read"]["total_ios"] for job in jobs) >= 4096


def test_fio_finds_everything_again_after_a_flush_and_a_kill(path: Path, tmp_path: Path) -> None:
    options = ["--rw=randwrite", "--bsrange=4k-64k", "--size=16m", "--iodepth=16", "--verify=crc32c", "--randseed=9"]
    with served_disk(path) as served:
        fio(served, tmp_path, *options, "--do_verify=0", "--end_fsync=1")
        served.kill()
    with served_disk(path) as served:
        [job] = fio(served, tmp_path, *options, "--verify_only")
        assert job["read"]["total_ios"] > 256


def test_fio_would_find_a_block_that_stands_in_the_wrong_place(path: Path, tmp_path: Path) -> None:
    """The control of the two above."""
    options = ["--rw=write", "--bs=4k", "--size=1m", "--verify=crc32c"]
    with served_disk(path) as served:
        fio(served, tmp_path, *options, "--do_verify=0")
        block = subprocess.run(["nbdcopy", served.uri, "-"], capture_output=True, check=True).stdout[:4096]
        (tmp_path / "block").write_bytes(block)
        qemu_io(served, f"write -s {tmp_path / 'block'} 8192 4096")
        with pytest.raises(AssertionError, match="verify"):
            fio(served, tmp_path, *options, "--verify_only")
