"""docs/DISK_FORMAT.md against the code: a reader written from the document, and disks made by earlier versions."""

import gzip
import hashlib
import json
import random
from pathlib import Path

import pytest

from tccp.core.image import SUITES
from tccp.errors import DiskError
from tests.disk.independent_reader import IndependentReader
from tests.disk.opening import KEY, make_disk, open_disk

SIZE = 2 << 20
VECTORS = Path(__file__).parent.parent / "vectors" / "disk"


@pytest.mark.parametrize("suite", SUITES, ids=SUITES.values())
@pytest.mark.parametrize("end", ["clean", "crash"])
def test_a_reader_written_from_the_document_reads_the_same(tmp_path: Path, suite: int, end: str) -> None:
    path = tmp_path / "vm.disk"
    make_disk(path, SIZE, suite=suite)
    choose = random.Random(suite)
    model = bytearray(SIZE)
    root = None
    with open_disk(path) as disk:
        marks = []
        for number in range(60):
            at = choose.randrange(SIZE - 20_000)
            content = choose.randbytes(choose.randrange(1, 20_000)) if number % 5 else bytes(9000)
            model[at : at + len(content)] = content
            if number % 5:
                disk.write(at, content)
            else:
                disk.zero(at, len(content))
            disk.flush()
            if number % 7 == 0:
                marks.append(disk.mark())
        last = disk.mark()
        if end == "clean":
            root = disk.close()

    read = IndependentReader(path.read_bytes(), KEY)
    assert read.read() == bytes(model)
    assert read.suite == suite
    assert read.passed >= {*marks, last}
    assert root is None or read.root == root


@pytest.mark.parametrize("name", ["aegis256", "xchacha20"])
def test_disks_of_the_vectors_open_as_they_say(tmp_path: Path, name: str) -> None:
    expected = json.loads((VECTORS / "vectors.json").read_text())[name]
    path = tmp_path / "vm.disk"
    path.write_bytes(gzip.decompress((VECTORS / f"{name}.disk.gz").read_bytes()))

    read = IndependentReader(path.read_bytes(), bytes.fromhex(expected["key"]))
    content = read.read()
    assert hashlib.sha256(content).hexdigest() == expected["sha256"]
    for mark in expected["marks"]:
        with open_disk(
            path, key=bytes.fromhex(expected["key"]), not_before=bytes.fromhex(mark), read_only=True
        ) as disk:
            assert disk.read(0, expected["size_bytes"]) == content
            assert disk.describe().root.hex() == expected["root"]


def test_the_suite_of_a_disk_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "vm.disk"
    make_disk(path, SIZE, suite=2)
    with open_disk(path) as disk:
        disk.write(0, b"content")
        disk.close()
    content = bytearray(path.read_bytes())
    for copy in (0, 4096):
        content[copy + 12] = 1
    path.write_bytes(content)

    with pytest.raises(DiskError, match="disk_corrupt"), open_disk(path):
        pass
