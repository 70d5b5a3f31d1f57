"""What a process that serves a disk answers while it does."""

import fcntl
import json
import os
import random
import socket
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tccp.core.disk import BLOCK_BYTES
from tccp.disk import asking
from tccp.disk.asking import ask, socket_for_asking
from tccp.errors import DiskError, HostError
from tests.disk.opening import KEY, make_disk, open_disk
from tests.disk.serving import ServedDisk, served_disk

SIZE = 64 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vm.disk"
    make_disk(path, SIZE, log_bytes=1 << 20)
    return path


def qemu_io(served: ServedDisk, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "raw", *words, served.uri], check=True, capture_output=True)


def test_a_mark_asked_for_is_demanded_after_the_process_was_killed(path: Path) -> None:
    with served_disk(path) as served:
        qemu_io(served, "write -P 1 0 1M", "flush")
    older = path.read_bytes()
    with served_disk(path) as served:
        qemu_io(served, "write -P 2 0 1M", "flush")
        mark = str(ask(served.socket, "mark")["mark"])
        served.kill()
    with served_disk(path, "--not-before", mark) as served:
        qemu_io(served, "read -P 2 0 1M")
        served.kill()

    path.write_bytes(older)
    with pytest.raises(AssertionError, match="wrong_disk_mark"):
        ServedDisk(path, path.with_suffix(".sock"), "--not-before", mark)
    # The control: it is a genuine state, and served when nothing is demanded.
    with served_disk(path) as served:
        qemu_io(served, "read -P 1 0 1M")


def test_a_mark_is_remembered_as_long_as_no_newer_one_is_kept(path: Path) -> None:
    with served_disk(path) as served:
        kept = str(ask(served.socket, "mark")["mark"])
        assert ask(served.socket, "kept", kept) == {"kept": kept}
        for number in range(70):
            qemu_io(served, f"write -P {number} 0 4k", "flush") if number % 10 == 0 else None
            ask(served.socket, "mark")
        for wrong, reason in (("00" * 40, "wrong_disk_mark"), ("00" * 39, "malformed"), ("zz", "malformed")):
            with pytest.raises(HostError, match=reason):
                ask(served.socket, "kept", wrong)
        assert tccp("ask", served.socket, "kept", kept).returncode == 0
        assert tccp("ask", served.socket, "kept").returncode != 0
        served.kill()
    with served_disk(path, "--not-before", kept):
        pass


def test_a_disk_is_compacted_while_a_client_writes(path: Path) -> None:
    fio = ["fio", "--name=job", "--ioengine=nbd", "--rw=randwrite", "--bs=4k", "--iodepth=8", f"--size={SIZE // 2}"]
    with served_disk(path) as served:
        qemu_io(served, f"write -P 7 {SIZE // 2} {SIZE // 2}", "flush", f"discard {SIZE * 3 // 4} {SIZE // 4}", "flush")
        command = [*fio, f"--uri={served.uri}", "--verify=crc32c", "--do_verify=1"]
        writing = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=path.parent)
        asked = 0
        while writing.poll() is None:
            ask(served.socket, "compact")
            asked += 1
        assert writing.returncode == 0
        assert asked > 0
        qemu_io(served, f"read -P 7 {SIZE // 2} {SIZE // 4}", "flush")
        ask(served.socket, "compact")
        assert path.stat().st_blocks * 512 < SIZE
        root = served.stop()
    with open_disk(path, root=root, read_only=True) as disk:
        assert disk.verify(0, SIZE // BLOCK_BYTES) == (0, 0)
        assert disk.read(SIZE * 3 // 4, SIZE // 4) == bytes(SIZE // 4)


def test_what_it_says_of_itself_is_what_the_disk_is(path: Path) -> None:
    with served_disk(path) as served:
        qemu_io(served, "write -P 7 0 1M")
        said = ask(served.socket, "info")
        served.stop()
    assert said["data_bytes"] == 1 << 20
    assert said["size_bytes"] == SIZE
    assert "mark" not in said
    with open_disk(path, read_only=True) as disk:
        assert disk.describe().disk_id.hex() == said["disk_id"]


def test_who_never_ends_her_line_does_not_hold_up_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "CLIENT_TIMEOUT_S", 3600.0)
    stop, stopper = os.pipe()
    where = str(path.with_suffix(".sock"))
    with (
        open_disk(path) as disk,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
    ):
        listener.bind(where)
        listener.listen()
        client.connect(where)
        client.sendall(b"mar")

        def serve() -> None:
            with asking.answering(disk, listener, stop, read_only=False):
                while any(fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4))):  # until it has read what there is
                    os.sched_yield()
                os.write(stopper, b"x")

        ending = threading.Thread(target=serve, daemon=True)
        ending.start()
        ending.join(60)
        assert not ending.is_alive()
    os.close(stop)
    os.close(stopper)


@pytest.mark.parametrize("words", [b"", b"\n", b"shutdown\n", b"m" * 300, b"\xff\x00\n", b"mark"])
def test_other_words_are_refused_and_the_next_is_answered(path: Path, words: bytes) -> None:
    with served_disk(path) as served:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(socket_for_asking(served.socket)))
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(1000)
            assert words == b"mark" or json.loads(answer)["error"] == "unknown_word"
        assert "mark" in ask(served.socket, "mark")


def test_a_disk_served_for_reading_is_not_compacted(path: Path) -> None:
    with served_disk(path, "--read-only") as served:
        with pytest.raises(HostError, match="unknown_word"):
            ask(served.socket, "compact")
        assert "mark" in ask(served.socket, "mark")


def test_only_the_owner_can_ask_and_nobody_when_it_has_ended(path: Path) -> None:
    with served_disk(path) as served:
        asked = socket_for_asking(served.socket)
        assert asked.stat().st_mode & 0o777 == 0o600
        served.stop()
        assert not asked.exists()
        with pytest.raises(HostError, match="not_served"):
            ask(served.socket, "mark")


@pytest.mark.parametrize("said", [b"", b"7", b'"error"', b"[" * 60_000, b"\xff"], ids=lambda said: str(said[:8]))
def test_who_answers_nonsense_serves_no_disk(tmp_path: Path, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_for_asking(tmp_path / "nbd")))
        listener.listen(1)

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(128)
                client.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(HostError, match="not_served"):
            ask(tmp_path / "nbd", "mark")
        thread.join()


def tccp(*arguments: str | Path, key: bytes = KEY) -> subprocess.CompletedProcess[str]:
    reader, writer = os.pipe()
    os.write(writer, key)
    os.close(writer)
    command = [sys.executable, "-m", "tccp.cli.main", "disk", *map(str, arguments)]
    if "ask" not in arguments:
        command += ["--key-fd", str(reader)]
    try:
        return subprocess.run(command, pass_fds=[reader], capture_output=True, text=True, check=False)
    finally:
        os.close(reader)


def test_who_would_compact_a_served_disk_herself_is_told_whom_to_ask(path: Path) -> None:
    with served_disk(path) as served:
        refused = tccp("compact", path)
        assert refused.returncode != 0
        assert "disk_in_use" in refused.stderr
        assert "tccp disk ask" in refused.stderr

        done = tccp("ask", served.socket, "compact")
        assert done.returncode == 0, done.stderr
        assert "free bytes" in done.stdout


def test_room_made_ready_is_given_back_at_a_clean_end(path: Path) -> None:
    with open_disk(path) as disk:
        disk.start_keeper()
        content = random.Random(4).randbytes(1 << 20)
        disk.write(0, content)
        disk.flush()
        root = disk.close()
    assert path.stat().st_blocks * 512 < 4 << 20
    with open_disk(path, root=root) as disk:
        assert disk.read(0, 1 << 20) == content


def test_the_keeper_commits_when_nobody_flushes(path: Path) -> None:
    with open_disk(path) as disk:
        disk.start_keeper()
        before = disk.describe().sequence
        for at in range(0, SIZE, 1 << 20):
            disk.write(at, bytes([at >> 20]) * (1 << 20))
        # With a ring of 1 MiB one record holds 2,267 blocks, 9 MiB.
        assert disk.describe().sequence > before + 6
    with open_disk(path) as disk:
        assert disk.verify(0, SIZE // BLOCK_BYTES) == (0, 0)


def test_a_full_file_system_does_not_stop_the_keeper_or_the_disk(path: Path) -> None:
    script = """
import pathlib, resource, signal, sys
from tccp.errors import HostError
from tests.disk.opening import open_disk
resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_disk(pathlib.Path(sys.argv[1])) as disk:
    disk.start_keeper()
    disk.write(0, b"first" * 100_000)
    disk.flush()
    for turn in range(40):
        disk.write(turn * 4096, bytes([turn]) * 40_960)
        disk.flush()
    disk.close()
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    with open_disk(path) as disk:
        assert disk.read(39 * 4096, 40_960) == b"\x27" * 40_960


def test_a_mark_of_another_length_is_a_usage_error(path: Path) -> None:
    refused = tccp("info", path, "--not-before", "00" * 32)
    assert "a mark has 40 bytes" in refused.stderr
    with pytest.raises(DiskError, match="wrong_disk_mark"), open_disk(path, not_before=bytes(40)):
        pass
