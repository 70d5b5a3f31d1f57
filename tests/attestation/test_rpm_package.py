"""The files of RPM packages are listed by the digests in their headers; what is damaged is refused."""

import hashlib
import io
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

from tccp.attestation import rpm_package
from tccp.attestation.rpm_package import (
    ALGORITHM,
    DIGESTS,
    DIRECTORIES,
    DIRECTORY_OF,
    FILES_MAX,
    INT16,
    INT32,
    LEAD_BYTES,
    LEAD_MAGIC,
    MODES,
    NAMES,
    SHA256,
    STRINGS,
    is_rpm,
    rpm_digests,
)
from tccp.errors import ConfigError

FILES = {b"/usr/bin/x": b"one", b"/etc/y": b""}
FOLDER, LINK = 0o040755, 0o120777


def header(tags: Mapping[int, tuple[int, list[bytes] | list[int]]]) -> bytes:
    """A header with these tags: kind and values."""
    index, data = b"", b""
    for tag, (kind, values) in tags.items():
        size = {INT16: 2, INT32: 4}.get(kind, 1)
        data += bytes(-len(data) % size)
        index += struct.pack(">4I", tag, kind, len(data), len(values))
        for value in values:
            data += value + b"\0" if isinstance(value, bytes) else value.to_bytes(size, "big")
    return rpm_package.HEADER_MAGIC + bytes(4) + struct.pack(">2I", len(tags), len(data)) + index + data


def rpm(
    files: Mapping[bytes, bytes] = FILES,
    *,
    others: Mapping[bytes, int] | None = None,
    algorithm: int = SHA256,
    **changes: object,
) -> bytes:
    """A package of these files, and of *others* with their modes; *changes* are tags by their names here."""
    paths = [*files, *(others or {})]
    folders = sorted({path[: path.rindex(b"/") + 1] for path in paths})
    tags: dict[int, tuple[int, list[bytes] | list[int]]] = {
        MODES: (INT16, [*(0o100755 for _ in files), *(others or {}).values()]),
        DIGESTS: (
            STRINGS,
            [*(hashlib.sha256(data).hexdigest().encode() for data in files.values()), *(b"" for _ in others or {})],
        ),
        DIRECTORY_OF: (INT32, [folders.index(path[: path.rindex(b"/") + 1]) for path in paths]),
        NAMES: (STRINGS, [path[path.rindex(b"/") + 1 :] for path in paths]),
        DIRECTORIES: (STRINGS, folders),
        ALGORITHM: (INT32, [algorithm]),
    }
    tags |= {getattr(rpm_package, name): value for name, value in changes.items()}  # type: ignore[misc]
    signature = header({1000: (INT32, [1]), 1004: (7, [b"odder"])})
    padding = bytes(-(len(signature) - 16 - 32) % 8)
    return LEAD_MAGIC + bytes(LEAD_BYTES - 4) + signature + padding + header(tags) + b"the payload"


def _hex(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def digests(package: bytes) -> dict[bytes, bytes]:
    return dict(rpm_digests(io.BytesIO(package), "x.rpm"))


def test_every_regular_file_is_listed_with_its_digest() -> None:
    found = digests(rpm(others={b"/usr/lib": FOLDER, b"/usr/bin/y": LINK}))

    assert found == {path: hashlib.sha256(data).digest() for path, data in FILES.items()}
    assert is_rpm(rpm())
    assert not is_rpm(b"!<arch>\n")


def test_what_has_no_digest_or_is_no_file_is_not_listed() -> None:
    """A file that is a ghost has no digest; what is no regular file could be given one."""
    ghost = rpm(DIGESTS=(STRINGS, [_hex(b"one"), b""]))
    given = rpm(others={b"/usr/lib": FOLDER}, DIGESTS=(STRINGS, [_hex(b"one"), _hex(b""), _hex(b"a folder")]))

    assert set(digests(ghost)) == {b"/usr/bin/x"}
    assert set(digests(given)) == set(FILES)


def test_a_package_that_rpmbuild_made_is_read_as_rpm_reads_it() -> None:
    package = Path(__file__).parents[1] / "vectors" / "packages" / "x-1-1.noarch.rpm"

    assert {path: digest.hex() for path, digest in digests(package.read_bytes()).items()} == {
        b"/etc/x.conf": "8d0d4c8a1e6ab75ae2f81abf1e1e66ce1ab7be53c7b8f245a41907fc45b3a801",
        b"/usr/bin/x": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    }


def test_a_package_without_files_lists_none() -> None:
    assert digests(rpm({})) == {}


def test_a_package_without_lists_of_files_lists_none() -> None:
    package = rpm()
    at = package.rindex(rpm_package.HEADER_MAGIC)

    assert digests(package[:at] + header({5000: (INT32, [1])})) == {}


@pytest.mark.parametrize(
    "package",
    [
        b"",
        LEAD_MAGIC + bytes(LEAD_BYTES - 4) + rpm_package.HEADER_MAGIC,
        LEAD_MAGIC + bytes(LEAD_BYTES - 4) + bytes(16),
        LEAD_MAGIC + bytes(LEAD_BYTES - 4) + rpm_package.HEADER_MAGIC + bytes(4) + b"\xff" * 4 + bytes(4),
        LEAD_MAGIC + bytes(LEAD_BYTES - 4) + rpm_package.HEADER_MAGIC + bytes(8) + b"\xff" * 4,
        b"!<arch>\n" + bytes(200),
        rpm()[:200],
        rpm()[: LEAD_BYTES + 20],
        rpm(algorithm=1),
        rpm(NAMES=(STRINGS, [b"one"])),
        rpm(MODES=(INT32, [1, 1])),
        rpm(DIRECTORY_OF=(INT32, [0, 7])),
        rpm(DIRECTORY_OF=(INT32, [0, 0xFFFFFFFF])),  # not the last one
        rpm(DIGESTS=(STRINGS, [b"zz", b"zz"])),
        rpm(DIGESTS=(STRINGS, [b"00", b"00"])),
        rpm(DIGESTS=(STRINGS, [b"\xff", b"\xff"])),
        rpm(ALGORITHM=(INT32, [])),
        rpm(NAMES=(INT32, [1, 2])),
        LEAD_MAGIC + bytes(LEAD_BYTES - 4) + header({tag: (INT32, []) for tag in range(5000)}),
        LEAD_MAGIC + bytes(LEAD_BYTES - 4) + rpm_package.HEADER_MAGIC + bytes(4) + b"\xff" * 8,
    ],
)
def test_what_is_no_package_of_ours_is_refused(package: bytes) -> None:
    with pytest.raises(ConfigError) as refused:
        digests(package)
    assert refused.value.reason == "bad_package"
    assert refused.value.detail.startswith("x.rpm: ")


def test_a_count_beyond_the_data_is_refused_before_memory_is_taken() -> None:
    package = rpm()
    at = package.index(struct.pack(">2I", NAMES, STRINGS)) + 12
    for count in (b"\xff\xff\xff\xff", (FILES_MAX + 1).to_bytes(4, "big"), b"\0\0\0\x63"):
        with pytest.raises(ConfigError, match="bad_package"):
            digests(package[:at] + count + package[at + 4 :])


def test_an_offset_beyond_the_data_is_refused() -> None:
    package = rpm()
    for tag, kind in ((NAMES, STRINGS), (MODES, INT16)):
        at = package.index(struct.pack(">2I", tag, kind)) + 8
        with pytest.raises(ConfigError, match="bad_package"):
            digests(package[:at] + b"\x7f\xff\xff\xff" + package[at + 4 :])
