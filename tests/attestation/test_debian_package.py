"""The files of Debian packages are hashed, under every path that they can be measured by."""

import hashlib
import io
import lzma
import subprocess
import tarfile
import tracemalloc
from pathlib import Path
from typing import Literal

import pytest

from tccp.attestation.debian_package import MEMBERS_MAX, package_digests
from tccp.errors import ConfigError


def deb(
    files: dict[str, bytes], *, compression: Literal["", "gz", "bz2", "xz"] = "gz", links: dict[str, str] | None = None
) -> bytes:
    """A package with these files and hard links."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{compression}") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            tar.addfile(member)
    suffix = f".{compression}" if compression else ""
    members = {"debian-binary": b"2.0\n", "control.tar": b"odd", f"data.tar{suffix}": content.getvalue()}
    return b"!<arch>\n" + b"".join(_member(name, data) for name, data in members.items())


def _member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)


def digests(package: bytes) -> dict[bytes, bytes]:
    return dict(package_digests(io.BytesIO(package), "x.deb"))


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_every_file_is_hashed(compression: Literal["", "gz", "bz2", "xz"]) -> None:
    found = digests(deb({"./usr/bin/x": b"one", "./etc/y": b""}, compression=compression))

    assert found == {b"/usr/bin/x": hashlib.sha256(b"one").digest(), b"/etc/y": hashlib.sha256(b"").digest()}


def test_files_that_are_merged_into_usr_are_listed_there_too() -> None:
    assert set(digests(deb({"./bin/sh": b"x", "./lib/a.so": b"y"}))) == {
        *(b"/bin/sh", b"/usr/bin/sh", b"/lib/a.so", b"/usr/lib/a.so")
    }


def test_a_hard_link_is_the_file_that_it_links_to() -> None:
    found = digests(deb({"./usr/bin/x": b"one"}, links={"./usr/bin/y": "./usr/bin/x"}))

    assert found[b"/usr/bin/y"] == found[b"/usr/bin/x"]


def test_a_path_may_begin_anyhow_and_hold_any_bytes() -> None:
    odd = b"./usr/\xff\xc3/X".decode("utf-8", "surrogateescape")
    found = digests(deb({odd: b"one", "/bin/Y": b"two", "X": b"four"}, links={"./W": "/bin/Y", "./V": odd}))

    assert set(found) == {*(b"/usr/\xff\xc3/X", b"/bin/Y", b"/usr/bin/Y", b"/X", b"/W", b"/V")}
    assert (found[b"/W"], found[b"/V"]) == (found[b"/bin/Y"], found[b"/usr/\xff\xc3/X"])


def test_what_is_no_file_is_not_listed() -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("./usr/x")
            member.type, member.linkname = kind, "y"
            tar.addfile(member)

    assert digests(b"!<arch>\n" + _member("data.tar", content.getvalue())) == {}


def test_names_of_names_of_names_are_damage() -> None:
    """Each long name is followed by the member that it names; tarfile reads that before it returns."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1
    endless = 2_000 * (name.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0"))
    with pytest.raises(ConfigError, match="damaged"):
        digests(b"!<arch>\n" + _member("data.tar", endless))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_what_stands_before_a_file_is_not_read_into_memory_however_long_it_is(kind: bytes) -> None:
    head = tarfile.TarInfo("long")
    head.type, head.size = kind, 64 << 20
    archive = lzma.compress(head.tobuf() + bytes(head.size) + tarfile.TarInfo("x").tobuf(), preset=0)
    package = b"!<arch>\n" + _member("data.tar.xz", archive)

    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=r"bad_package.*a name of 67108864 bytes"):
            digests(package)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_package_of_endless_files_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tccp.attestation.debian_package.FILES_MAX", 2)
    assert len(digests(deb({"./x": b"", "./y": b""}))) == 2
    with pytest.raises(ConfigError, match=r"x\.deb: more than 2 files") as refused:
        digests(deb({"./x": b"", "./y": b"", "./z": b""}))
    assert refused.value.reason == "bad_package"


def test_a_package_of_dpkg_is_read(tmp_path: Path) -> None:
    (tmp_path / "p" / "DEBIAN").mkdir(parents=True)
    (tmp_path / "p" / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    )
    (tmp_path / "p" / "usr").mkdir()
    (tmp_path / "p" / "usr" / "file").write_bytes(b"content")
    subprocess.run(["dpkg-deb", "--build", "-Zxz", "p", "x.deb"], cwd=tmp_path, check=True, capture_output=True)

    assert digests((tmp_path / "x.deb").read_bytes()) == {b"/usr/file": hashlib.sha256(b"content").digest()}


@pytest.mark.parametrize(
    "package",
    [
        b"",
        b"!<arch>\n",
        deb({"./x": b"x"})[:-20],
        deb({"./x": b"x"})[:70],
        deb({}, links={"./y": "./nothing"}),
        b"!<arch>\n" + _member("debian-binary", b"2.0\n") * (MEMBERS_MAX + 1) + _member("data.tar", b""),
        b"!<arch>\n" + _member("data.tar", bytes(1024)).replace(b"1024", b"9999"),
        b"!<arch>\n" + _member("data.tar", bytes(1024)).replace(b"`\n", b"``", 1),
        b"!<arch>\n" + _member("data.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(64)),
    ],
    ids=[
        "nothing",
        "no members",
        "cut",
        "no files",
        "a link to nothing",
        "too many members",
        "shorter than it says",
        "a header without its end",
        "zstd",
    ],
)
def test_what_is_no_package_is_refused(package: bytes) -> None:
    with pytest.raises(ConfigError) as refused:
        digests(package)
    assert refused.value.reason == "bad_package"
    assert refused.value.detail.startswith("x.deb: ")
