"""The clients that people use, against the real process: nbdinfo, nbdcopy, qemu-img, qemu-io and fio."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from tccp.core.disk import BLOCK_BYTES
from tests.disk.opening import make_disk, open_disk
from tests.disk.serving import ServedDisk, served_disk

SIZE = 16 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vm.disk"
    make_disk(path, SIZE, log_bytes=1 << 20)
    return path


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nbdinfo_sees_one_export_with_all_that_we_offer(path: Path) -> None:
    with served_disk(path) as served:
        shown = run("nbdinfo", served.uri)
        assert "newstyle-fixed without TLS, using structured packets" in shown
        assert f"export-size: {SIZE}" in shown
        for ability in ("can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero", "can_fast_zero"):
            assert f"{ability}: true" in shown
        assert "base:allocation" in shown
        assert 'export="":' in run("nbdinfo", "--list", served.uri)


def test_the_map_of_a_disk_tells_data_from_holes(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(1 << 20, b"x" * (1 << 20))
        disk.close()
    with served_disk(path, "--read-only") as served:
        assert [line.split()[:3] for line in run("nbdinfo", "--map", served.uri).splitlines()] == [
            ["0", str(1 << 20), "3"],
            [str(1 << 20), str(1 << 20), "0"],
            [str(2 << 20), str(SIZE - (2 << 20)), "3"],
        ]


def test_nbdcopy_gets_out_what_it_put_in_over_several_connections(path: Path, tmp_path: Path) -> None:
    image, copy = tmp_path / "image", tmp_path / "copy"
    image.write_bytes(random.Random(1).randbytes(SIZE))
    with served_disk(path) as served:
        run("nbdcopy", "--flush", "--connections=4", image, served.uri)
        run("nbdcopy", "--connections=4", served.uri, copy)
        assert copy.read_bytes() == image.read_bytes()


def test_what_is_not_in_memory_any_more_is_read_beside_the_rest(path: Path, tmp_path: Path) -> None:
    image, copy = tmp_path / "image", tmp_path / "copy"
    image.write_bytes(random.Random(8).randbytes(SIZE))
    with served_disk(path) as served:
        run("nbdcopy", "--flush", image, served.uri)
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        run("nbdcopy", "--connections=2", "--requests=32", "--request-size=8192", served.uri, copy)
        assert copy.read_bytes() == image.read_bytes()


def test_qemu_img_converts_and_compares(path: Path, tmp_path: Path) -> None:
    image, qcow2 = tmp_path / "image", tmp_path / "image.qcow2"
    content = random.Random(2)
    image.write_bytes(content.randbytes(3 << 20) + bytes(5 << 20) + content.randbytes(8 << 20))
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, qcow2)
    with served_disk(path) as served:
        run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", qcow2, served.uri)
        assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", served.uri, qcow2)
        root = served.stop()
    with open_disk(path, root=root, read_only=True) as disk:
        assert disk.read(0, SIZE) == image.read_bytes()
        assert disk.describe().data_bytes <= 11 << 20


def test_qemu_io_writes_odd_sizes_zeroes_discards_and_flushes(path: Path) -> None:
    with served_disk(path) as served:
        commands = [
            "write -P 7 512 1536",
            "write -f -P 9 5000 9000",
            "write -z -u 4096 4096",
            "discard 65536 1M",
            "flush",
        ]
        shown = run("qemu-io", "-f", "raw", *[word for one in commands for word in ("-c", one)], served.uri)
        assert "failed" not in shown
        served.kill()
    with open_disk(path) as disk:
        expected = bytearray(16384)
        expected[512:2048] = b"\7" * 1536
        expected[5000:14000] = b"\t" * 9000
        expected[4096:8192] = bytes(4096)
        assert disk.read(0, 16384) == bytes(expected)


def test_fio_verifies_what_it_wrote(path: Path, tmp_path: Path) -> None:
    with served_disk(path) as served:
        options = ["--ioengine=nbd", f"--uri={served.uri}", "--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=0"]
        options += ["--blockalign=512", "--size=16m", "--verify=crc32c", "--iodepth=16", "--randseed=4", "--fsync=50"]
        shown = run("fio", "--name=verify", f"--aux-path={tmp_path}", *options)
        assert "err= 0" in shown


def test_qemu_nbd_clients_find_a_flushed_file_system_after_a_kill(path: Path, tmp_path: Path) -> None:
    image = tmp_path / "ext4"
    image.write_bytes(bytes(SIZE))
    run("mke2fs", "-q", "-t", "ext4", "-F", image)
    with served_disk(path) as served:
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-t", "writeback", image, served.uri)
        served.kill()
    with served_disk(path, "--read-only") as served:
        run("nbdcopy", served.uri, image)
    run("e2fsck", "-f", "-n", image)


def test_a_disk_served_for_reading_refuses_writes(path: Path) -> None:
    with served_disk(path, "--read-only") as served:
        assert "is_read_only: true" in run("nbdinfo", served.uri)
        assert subprocess.run(["nbdcopy", "/dev/zero", served.uri], capture_output=True, check=False).returncode != 0
        assert served.stop() is None


def test_a_disk_is_served_by_one_process_at_a_time(path: Path) -> None:
    with served_disk(path) as served, pytest.raises(AssertionError, match="disk_in_use"):
        ServedDisk(path, served.socket.with_name("other.sock"))


def test_an_altered_block_is_an_error_of_the_read_and_of_no_other(path: Path) -> None:
    with open_disk(path) as disk:
        disk.write(0, b"a" * BLOCK_BYTES + b"b" * BLOCK_BYTES)
        root = disk.close()
    content = bytearray(path.read_bytes())
    content[65536 + (1 << 20) + 100] ^= 1  # the first slot
    path.write_bytes(content)
    with served_disk(path, "--root", root.hex()) as served:
        failed = subprocess.run(
            ["qemu-io", "-f", "raw", "-c", "read 0 4096", served.uri], capture_output=True, text=True, check=False
        )
        assert "Input/output error" in failed.stdout + failed.stderr
        assert "read 4096/4096" in run("qemu-io", "-f", "raw", "-c", "read -P 98 4096 4096", served.uri)


def test_the_process_gives_up_what_it_does_not_need(path: Path) -> None:
    with served_disk(path) as served:
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{served.process.pid}/status").read_text().splitlines()
        )
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert int(status["VmLck"].split()[0]) > 0
        assert served.socket.stat().st_mode & 0o777 == 0o600
        # The memory of a process that cannot be dumped belongs to root, whoever runs it.
        assert Path(f"/proc/{served.process.pid}/mem").stat().st_uid == 0
        served.stop()
        assert not served.socket.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_the_process_becomes_another_user(path: Path) -> None:
    with served_disk(path, "--user", "nobody") as served:
        nobody = served.socket.stat().st_uid
        assert nobody != 0
        assert f"Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}" in Path(f"/proc/{served.process.pid}/status").read_text()
        run("nbdinfo", served.uri)
