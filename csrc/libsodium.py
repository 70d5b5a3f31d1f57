"""Find libsodium >= 1.0.20, or build it from the source that PyNaCl's sdist carries.

    python csrc/libsodium.py build      fetch (pip, hash-pinned), build static, cache; prints the prefix
    python csrc/libsodium.py carry      fetch into csrc/carried/, for our own source distribution; prints the archive

The build is kept under ``$TCCP_CACHE`` (default ``~/.cache/tccp``) by the hash of its source, so it is made
once on a machine.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).with_name("libsodium.lock")
CARRIED = Path(__file__).with_name("carried")
MINIMUM = (1, 0, 20)
# -O3: at -O2 the AES-GCM of libsodium halves (measured). The rest is what our own code is built with.
CFLAGS = "-O3 -fPIC -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fcf-protection=full -fvisibility=hidden"


def pinned_hash() -> str:
    """SHA-256 of the one archive that is accepted, in hexadecimal."""
    pinned = re.search(r"sha256:([0-9a-f]{64})", LOCK.read_text())
    assert pinned, f"{LOCK} pins no hash"
    return pinned[1]


def cached_prefix() -> Path:
    """Where the build of exactly the pinned source with exactly these flags lives, or will live."""
    cache = Path(os.environ.get("TCCP_CACHE") or Path.home() / ".cache" / "tccp")
    return cache / f"libsodium-{pinned_hash()[:16]}-{CFLAGS.count(' ')}"


def locate() -> tuple[dict[str, list[str]], str]:
    """Compiler arguments for libsodium and a word on where it is from.

    Raises:
        SystemExit: There is none new enough; the message says what to do.
    """
    prefix = cached_prefix()
    if (prefix / "lib" / "libsodium.a").exists():
        arguments = {"include_dirs": [str(prefix / "include")], "extra_objects": [str(prefix / "lib" / "libsodium.a")]}
        return arguments, f"static, {prefix}"
    try:
        version = subprocess.run(
            ["pkg-config", "--modversion", "libsodium"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        version = "none"
    if version != "none" and tuple(int(part) for part in version.split(".")[:3]) >= MINIMUM:
        return {"libraries": ["sodium"]}, f"system, {version}"
    if carried():
        build()
        return locate()
    raise SystemExit(
        f"tccp: error: libsodium >= {'.'.join(map(str, MINIMUM))} is needed, the system has {version}\n"
        "tccp: hint: run `python3 csrc/libsodium.py build` once (pip, a C compiler, make), or a newer libsodium-dev"
    )


def build() -> Path:
    """Build the pinned source unless that was done before; return its prefix."""
    prefix = cached_prefix()
    if (prefix / "lib" / "libsodium.a").exists():
        return prefix
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix="libsodium-") as work_name:
        work = Path(work_name)
        source = unpack(carried() or fetch(work), work)
        staged = work / "prefix"
        configure = [
            "./configure",
            f"--prefix={staged}",
            "--disable-shared",
            "--enable-static",
            "--with-pic",
            "--quiet",
        ]
        environment = {**os.environ, "CFLAGS": CFLAGS}
        for command in (["sh", *configure], ["make", "-s", f"-j{os.cpu_count()}"], ["make", "-s", "install"]):
            subprocess.run(command, stdout=sys.stderr, cwd=source, env=environment, check=True)
        shutil.rmtree(prefix, ignore_errors=True)
        staged.rename(prefix)
    return prefix


def carried() -> Path | None:
    """The archive that our own source distribution brings along, so that it builds without a network.

    Raises:
        SystemExit: It is another one than the pinned one.
    """
    archive = next(iter(CARRIED.glob("*.tar.gz")), None)
    if archive is not None and hashlib.sha256(archive.read_bytes()).hexdigest() != pinned_hash():
        raise SystemExit(f"tccp: error: {archive} is not the archive that {LOCK.name} pins")
    return archive


def fetch(folder: Path) -> Path:
    """Have pip download the pinned archive into *folder*."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "pynacl"]
    # The environment that calls us has setuptools and cffi, pinned: pip needs to fetch no build tools.
    subprocess.run([*pip, "--no-build-isolation", "--require-hashes", "-r", str(LOCK), "-d", str(folder)], check=True)
    return next(folder.glob("*.tar.gz"))


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack what was pinned by its hash; where libsodium's source is in it."""
    # tar, because Debian's Python 3.11 has no extraction filters.
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(folder)], check=True)
    return next(folder.glob("pynacl-*/src/libsodium"))


COMMANDS = {"build": build, "carry": lambda: carried() or fetch(CARRIED)}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(__doc__)
    print(COMMANDS[sys.argv[1]]())
