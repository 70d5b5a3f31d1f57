"""``python -m tools.package.wheel SDIST FOLDER``: the wheel, built from the source distribution and nothing else.

The environment that runs this has the build tools, by the lock file; pip is told to ask no index. The wheel needs the
C library of this machine or a newer one, and OpenSSL 3: docs/decisions says why it is no manylinux wheel.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def make_wheel(sdist: Path, out: Path) -> Path:
    """Make it; where it is."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work_name:
        work = Path(work_name)
        subprocess.run(["tar", "-xzf", sdist, "-C", work], check=True)
        (source,) = work.iterdir()
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
        offline = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
        (work / "out").mkdir()
        # A Python that somebody built himself would have the core look for libraries in its own folder.
        linker = f"{os.environ.get('CC', 'gcc')} -shared"
        subprocess.run([*pip, *offline, "-w", work / "out", source], env={**os.environ, "LDSHARED": linker}, check=True)
        (made,) = (work / "out").iterdir()
        (out / made.name).write_bytes(made.read_bytes())
        return out / made.name


if __name__ == "__main__":
    print(make_wheel(Path(sys.argv[1]), Path(sys.argv[2])))
