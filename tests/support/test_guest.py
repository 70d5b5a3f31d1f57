"""The small guests that other tests boot."""

from pathlib import Path

import pytest

from tests.support.guest import Guest, make_initramfs

SCRIPT = """
echo "word: $(sed 's/.*word=//' /proc/cmdline)"
echo "file: $(cat /etc/note)"
echo "program: $(/usr/bin/openssl version | cut -d" " -f1)"
echo "disk: $(head -c 5 /dev/vda)"
echo "modules: $(cut -d' ' -f1 /proc/modules | sort | xargs)"
read line
echo "read: $line"
"""


def test_a_guest_runs_its_script_with_what_it_was_given_and_switches_off(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"hello" + bytes(1 << 20))
    initramfs = make_initramfs(
        tmp_path / "initramfs", SCRIPT, programs=["openssl"], modules=["virtio_balloon"], files={"etc/note": b"a note"}
    )
    with Guest(initramfs, "-drive", f"file={disk},format=raw,if=virtio", command_line="word=abc") as guest:
        assert guest.wait_for_line("word: ") == "abc"
        assert guest.wait_for_line("file: ") == "a note"
        assert guest.wait_for_line("program: ") == "OpenSSL"
        assert guest.wait_for_line("disk: ") == "hello"
        assert {"virtio_blk", "virtio_balloon", "virtio_pci"} <= {*guest.wait_for_line("modules: ").split()}
        guest.send_line("typed")
        assert guest.wait_for_line("read: ") == "typed"
        guest.wait()


def test_what_a_guest_said_instead_is_shown(tmp_path: Path) -> None:
    initramfs = make_initramfs(tmp_path / "initramfs", "echo all is lost")
    with Guest(initramfs) as guest, pytest.raises(AssertionError, match="all is lost"):
        guest.wait_for_line("all is well")
