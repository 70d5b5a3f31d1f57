"""Seal and open images beside cat, age, openssl enc and qemu-img with LUKS; and the ciphers beside memcpy.

    TCCP_BENCH_IMAGE_MIB=2048 pytest bench/bench_image.py && python -m bench.report

Every tool reads one file and writes another, by turns; on a disk each is followed by a sync of its output, which ours
does by itself. `cat` is the ceiling: a copy. openssl enc authenticates nothing, qemu-img's LUKS neither.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from bench.conftest import Section

MIB = 1 << 20
SIZE = int(os.environ.get("TCCP_BENCH_IMAGE_MIB", "256")) * MIB
ROUNDS = int(os.environ.get("TCCP_BENCH_ROUNDS", "5"))
TCCP = str(Path(sys.executable).parent / "tccp")
SECRET = "secret,id=s,data=benchmark"  # noqa: S105 - of a file that lives for seconds
PLACES = {"tmpfs": "/dev/shm", "disk": tempfile.gettempdir()}  # noqa: S108
TOOLS = ("cat", "tccp", "age", "openssl enc", "qemu-img LUKS")
KINDS = ("dense", "VM-like")

IMAGES = Section(
    "Sealed images",
    f"GB/s of an image of {SIZE // MIB} MiB, whole commands with their start, the median of {ROUNDS} rounds by turns; "
    "in brackets tccp's ratio to the others. VM-like: an eighth data, an eighth written zeros, the rest holes. Bars: "
    "dense >= 0.8 of cat, >= 1.5 of age, >= 5 of LUKS; VM-like >= 4 of age, >= 12 of LUKS; user CPU of the cipher "
    "<= 0.25 s for 2 GiB (the last column has Python's start, too).",
    ["work", *TOOLS, "user CPU of tccp, s"],
)
CIPHERS = Section(
    "Ciphers",
    "GB/s streaming through memory in pieces, one thread and all threads, the median of seven rounds by turns.",
    ["work", "one thread", "all threads"],
)


class Timed(NamedTuple):
    seconds: float
    user_seconds: float


Commands = dict[str, list[list[str]]]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    name = str(request.param)
    with tempfile.TemporaryDirectory(prefix="tccp-bench-", dir=PLACES[name]) as folder:
        yield name, Path(folder)


def make_image(path: Path, kind: str) -> None:
    with path.open("wb") as file:
        for at in range(0, SIZE, MIB):
            if kind == "dense" or at // MIB % 8 == 0:
                file.seek(at)
                file.write(os.urandom(MIB))
            elif at // MIB % 8 == 1:
                file.seek(at)
                file.write(bytes(MIB))
        file.truncate(SIZE)


def timed(commands: list[list[str]], output: Path, *, attempts: int = 5) -> Timed:
    """One after the other; a program that fails at random (QEMU's LUKS does) is tried again."""
    for _ in range(attempts):
        output.unlink(missing_ok=True)
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
        codes = [subprocess.run(command, capture_output=True, check=False).returncode for command in commands]
        end = time.perf_counter()
        if not any(codes):
            return Timed(end - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    raise AssertionError(f"failed {attempts} times: {commands}")


def shell(text: str, *arguments: str | Path) -> list[str]:
    return ["/bin/sh", "-c", text, "sh", *map(str, arguments)]


def commands(folder: Path, *, opening: bool, sync: bool) -> tuple[Commands, Callable[[str], Path]]:
    """What each tool runs, and where it leaves its output."""
    image, key, identity = folder / "image", folder / "me.key", folder / "age.key"

    def sealed(tool: str) -> Path:
        return folder / f"sealed.{tool.replace(' ', '')}"

    def output(tool: str) -> Path:
        return folder / "opened" if opening else sealed(tool)

    ssl = "openssl enc -aes-256-ctr -pbkdf2 -iter 1 -pass pass:benchmark"
    recipient = next(line.split()[-1] for line in identity.read_text().splitlines() if "public key" in line)
    luks = ["qemu-img", "convert", "--object", SECRET]
    luks_source = f"driver=luks,key-secret=s,file.filename={sealed('qemu-img LUKS')}"
    options = "key-secret=s,iter-time=10,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64"
    if opening:
        runs = {
            "cat": shell('cat "$1" > "$2"', sealed("cat"), output("cat")),
            "tccp": [TCCP, "image", "open", str(sealed("tccp")), str(output("tccp")), "--key", str(key)],
            "age": ["age", "-d", "-i", str(identity), "-o", str(output("age")), str(sealed("age"))],
            "openssl enc": shell(f'{ssl} -d -in "$1" -out "$2"', sealed("openssl enc"), output("openssl enc")),
            "qemu-img LUKS": [*luks, "--image-opts", luks_source, "-O", "raw", str(output("qemu-img LUKS"))],
        }
    else:
        runs = {
            "cat": shell('cat "$1" > "$2"', image, output("cat")),
            "tccp": [TCCP, "image", "seal", str(image), str(output("tccp")), "--to", str(key.with_suffix(".pub"))],
            "age": ["age", "-r", recipient, "-o", str(output("age")), str(image)],
            "openssl enc": shell(f'{ssl} -in "$1" -out "$2"', image, output("openssl enc")),
            "qemu-img LUKS": [
                *luks,
                "-f",
                "raw",
                "-O",
                "luks",
                "-o",
                options,
                str(image),
                str(output("qemu-img LUKS")),
            ],
        }
    synced = {
        tool: [run, *([["sync", "-d", str(output(tool))]] if sync and tool != "tccp" else [])]
        for tool, run in runs.items()
    }
    return synced, output


@pytest.mark.parametrize("kind", KINDS)
def test_seal_and_open(place: tuple[str, Path], kind: str) -> None:
    name, folder = place
    assert shutil.disk_usage(folder).free > 8 * SIZE, "too little room here: set TCCP_BENCH_IMAGE_MIB"
    make_image(folder / "image", kind)
    subprocess.run([TCCP, "key", "generate", folder / "me.key"], check=True, capture_output=True)
    subprocess.run(["age-keygen", "-o", folder / "age.key"], check=True, capture_output=True)
    for opening in (False, True):
        runs, output = commands(folder, opening=opening, sync=name == "disk")
        times: dict[str, list[Timed]] = {tool: [] for tool in TOOLS}
        for number in range(ROUNDS + 1):
            for tool in TOOLS:
                taken = timed(runs[tool], output(tool))
                if number > 0:  # the first round warms up
                    times[tool].append(taken)
        seconds = {tool: median(taken.seconds for taken in times[tool]) for tool in TOOLS}
        cells = [f"{SIZE / seconds[tool] / 1e9:.2f}" for tool in TOOLS]
        for at, tool in enumerate(TOOLS):
            if tool != "tccp":
                cells[at] += f" ({seconds[tool] / seconds['tccp']:.2f})"
        user = median(taken.user_seconds for taken in times["tccp"])
        work = "open" if opening else "seal"
        IMAGES.rows.append([f"{work} {kind}, {name}", *cells, f"{user:.2f}"])
        IMAGES.save()


def test_ciphers_beside_memcpy(repository: Path) -> None:
    program = "build/native/bench/bench_image"
    subprocess.run(["make", "--silent", program], cwd=repository, check=True)
    done = subprocess.run([program, str(SIZE // MIB), "7"], cwd=repository, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    for work in {key.rsplit(", ", 1)[0]: None for key in found if ", " in key}:
        CIPHERS.rows.append([work, f"{found[f'{work}, one']:.2f}", f"{found[f'{work}, all']:.2f}"])
    CIPHERS.save()
    assert found["AEGIS-256 64 KiB, one"] > found["XChaCha20-Poly1305 64 KiB, one"]
