"""``python -m tools.package.sdist FOLDER``: the source distribution, which builds without a network.

It is made of what is under version control, and carries the source of libsodium (csrc/libsodium.lock). The same tree
always makes the same bytes: files are sorted and as old as SOURCE_DATE_EPOCH says.
"""

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    """What is under version control and still there, relative to the root."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file()]


def stage(folder: Path) -> None:
    """Put the sources into *folder*, as a fresh checkout with nothing built in it has them."""
    for path in tracked():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    archive = subprocess.run(
        [sys.executable, "csrc/libsodium.py", "carry"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    (folder / "csrc" / "carried").mkdir()
    shutil.copy2(archive, folder / "csrc" / "carried")


def make_sdist(out: Path) -> Path:
    """Make it; where it is."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work_name:
        work = Path(work_name)
        stage(work / "tree")
        (work / "out").mkdir()
        build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
        subprocess.run(
            [sys.executable, "-c", build, work / "out"], cwd=work / "tree", stdout=subprocess.DEVNULL, check=True
        )
        (made,) = (work / "out").iterdir()
        (out / made.name).write_bytes(normalised(made.read_bytes()))
        return out / made.name


def normalised(archive: bytes) -> bytes:
    """The same files, in one order, of one age and of nobody in particular."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    written = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as before,
        gzip.GzipFile(fileobj=written, mode="wb", filename="", mtime=epoch) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in sorted(before.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            after.addfile(member, before.extractfile(member) if member.isfile() else None)
    return written.getvalue()


if __name__ == "__main__":
    print(make_sdist(Path(sys.argv[1])))
