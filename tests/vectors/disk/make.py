"""Make the disks of this folder anew: ``python -m tests.vectors.disk.make``. Salts are random."""

import gzip
import hashlib
import json
import tempfile
from pathlib import Path

from tests.disk.opening import KEY, make_disk, open_disk

HERE = Path(__file__).parent
SIZE = 1 << 18
CONTENT = b"".join(
    b"block %3d of a live disk, the same in both vectors. " % number + bytes(4046) for number in range(3)
)


def make(folder: Path, name: str, suite: int) -> dict[str, object]:
    """A disk with a checkpoint, and records after it that hold a write, a change of a part, and zeros."""
    path = folder / name
    make_disk(path, SIZE, suite=suite)
    with open_disk(path) as disk:
        disk.write(0, b"x" * 9000)
        disk.flush()
        early = disk.mark()
        root = disk.close()
    with open_disk(path, root=root) as disk:
        disk.write(0, CONTENT)
        disk.flush()
        disk.zero(len(CONTENT), SIZE - len(CONTENT))
        disk.flush()
        late = disk.mark()
    (HERE / f"{name}.disk.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    return {
        "key": KEY.hex(),
        "size_bytes": SIZE,
        "sha256": hashlib.sha256(CONTENT + bytes(SIZE - len(CONTENT))).hexdigest(),
        "root": root.hex(),
        "marks": [early.hex(), late.hex()],
    }


def main() -> None:
    """Both suites."""
    with tempfile.TemporaryDirectory() as folder:
        made = {name: make(Path(folder), name, suite) for suite, name in ((1, "aegis256"), (2, "xchacha20"))}
    (HERE / "vectors.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
