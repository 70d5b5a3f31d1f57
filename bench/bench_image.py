"""Seal and open images beside cat, age, openssl enc and qemu-img with LUKS; and the ciphers beside memcpy.

    TCCP_BENCH_IMAGE_MIB=256 pytest bench/bench_image.py    (2048, of which the bars speak, is the default)

Every tool in its turn reads one file, writes another and makes the first again from that; on a disk each is followed
by a sync of its output, which ours does by itself. `cat` is the ceiling: a copy. openssl enc authenticates nothing,
qemu-img's LUKS neither. What a tool wrote is removed before the next one begins, and before each command as much memory
as its output takes is touched: on a virtual machine, memory that was never touched, or that a balloon has given back to
the host two seconds after it was freed, costs several times as much as the copying. Who comes first in a round changes.
"""

import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from bench.chart import Line, Panel
from bench.conftest import Section

MIB = 1 << 20
SIZE = int(os.environ.get("TCCP_BENCH_IMAGE_MIB", "2048")) * MIB
ROUNDS = int(os.environ.get("TCCP_BENCH_ROUNDS", "5"))
TCCP = str(Path(sys.executable).parent / "tccp")
SECRET = "secret,id=s,data=benchmark"  # noqa: S105 - of a file that lives for seconds
PLACES = {"tmpfs": "/dev/shm", "disk": tempfile.gettempdir()}  # noqa: S108
TOOLS = ("cat", "tccp", "age", "openssl enc", "qemu-img LUKS")
KINDS = ("dense", "VM-like")
FILES = "AEGIS-256 between files"

IMAGES = Section(
    "Sealed images",
    f"GB/s of an image of {SIZE // MIB} MiB, whole commands with their start, the median of {ROUNDS} rounds by turns; "
    "in brackets tccp's ratio to the others. VM-like: an eighth data, an eighth written zeros, the rest holes. Disk: "
    "with a sync of the output. Bars: dense >= 0.8 of cat, >= 1.5 of age, >= 5 of LUKS; VM-like >= 4 of age, >= 12 of "
    "LUKS; cipher <= 0.25 s of CPU for 2 GiB dense. CPU of the cipher: user time of the command, less that of the same "
    "command on an empty image.",
    ["work", *TOOLS, "CPU of the cipher, s"],
)
CIPHERS = Section(
    "Ciphers",
    f"GB/s, the median of {ROUNDS} rounds by turns. memcpy and ciphers stream through memory in chunks; files: from "
    "one file on tmpfs to another, reading 1 MiB, encrypting it in chunks with AEGIS-256, writing it: without "
    "Python, tags and holes. Sealed images have chunks of 64 KiB.",
    ["work", "chunks of", "one thread", "all CPUs", "two threads a CPU"],
)


class Timed(NamedTuple):
    seconds: float
    user_seconds: float


class Tool(NamedTuple):
    """How one tool seals and opens; what it wrote."""

    seal: list[str]
    open: list[str]
    sealed: Path
    opened: Path


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


def timed(command: list[str], output: Path, *, sync: bool, attempts: int = 5) -> Timed:
    """One run; a program that fails at random (QEMU's LUKS does) is tried again."""
    for _ in range(attempts):
        output.unlink(missing_ok=True)
        os.sync()
        touch_memory()
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
        code = subprocess.run(command, capture_output=True, check=False).returncode
        if sync:
            subprocess.run(["sync", "--data", output], check=False)
        end = time.perf_counter()
        if code == 0:
            return Timed(end - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    raise AssertionError(f"failed {attempts} times: {command}")


def touch_memory() -> None:
    """Have the kernel's free memory be the machine's."""
    mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def shell(text: str, *arguments: str | Path) -> list[str]:
    return ["/bin/sh", "-c", text, "sh", *map(str, arguments)]


def tccp(folder: Path, image: Path) -> Tool:
    sealed, opened, key = folder / "sealed.tccp", folder / "opened", folder / "me.key"
    seal = [TCCP, "image", "seal", str(image), str(sealed), "--to", str(key.with_suffix(".pub"))]
    return Tool(seal, [TCCP, "image", "open", str(sealed), str(opened), "--key", str(key)], sealed, opened)


def peers(folder: Path, image: Path) -> dict[str, Tool]:
    """All that tccp is compared with."""
    sealed, opened, identity = folder / "sealed", folder / "opened", folder / "age.key"
    recipient = next(line.split()[-1] for line in identity.read_text().splitlines() if "public key" in line)
    ssl = "openssl enc -aes-256-ctr -pbkdf2 -iter 1 -pass pass:benchmark"
    convert = ["qemu-img", "convert", "--object", SECRET]
    luks_options = "key-secret=s,iter-time=10,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64"
    luks_source = ["--image-opts", f"driver=luks,key-secret=s,file.filename={sealed}"]
    commands = {
        "cat": (shell('cat "$1" > "$2"', image, sealed), shell('cat "$1" > "$2"', sealed, opened)),
        "age": (
            ["age", "-r", recipient, "-o", str(sealed), str(image)],
            ["age", "-d", "-i", str(identity), "-o", str(opened), str(sealed)],
        ),
        "openssl enc": (
            shell(f'{ssl} -in "$1" -out "$2"', image, sealed),
            shell(f'{ssl} -d -in "$1" -out "$2"', sealed, opened),
        ),
        "qemu-img LUKS": (
            [*convert, "-f", "raw", "-O", "luks", "-o", luks_options, str(image), str(sealed)],
            [*convert, *luks_source, "-O", "raw", str(opened)],
        ),
    }
    return {name: Tool(seal, open_, sealed, opened) for name, (seal, open_) in commands.items()}


def round_trip(tool: Tool, *, sync: bool) -> tuple[Timed, Timed]:
    """Seal and open once; nothing is left."""
    sealing = timed(tool.seal, tool.sealed, sync=sync)
    opening = timed(tool.open, tool.opened, sync=sync)
    tool.sealed.unlink()
    tool.opened.unlink()
    return sealing, opening


@pytest.mark.parametrize("kind", KINDS)
def test_seal_and_open(place: tuple[str, Path], kind: str) -> None:
    name, folder = place
    assert shutil.disk_usage(folder).free > 4 * SIZE, "too little room here: set TCCP_BENCH_IMAGE_MIB"
    image, nothing = folder / "image", folder / "empty"
    make_image(image, kind)
    nothing.touch()
    subprocess.run([TCCP, "key", "generate", folder / "me.key"], check=True, capture_output=True)
    subprocess.run(["age-keygen", "-o", folder / "age.key"], check=True, capture_output=True)
    on_disk = name == "disk"
    tools = {"tccp": tccp(folder, image), **peers(folder, image)}
    times: dict[str, list[tuple[Timed, Timed]]] = {tool: [] for tool in TOOLS}
    of_nothing = []
    for number in range(ROUNDS + 1):
        for tool in (*TOOLS[number % len(TOOLS) :], *TOOLS[: number % len(TOOLS)]):
            taken = round_trip(tools[tool], sync=on_disk and tool != "tccp")
            if number > 0:  # the first round warms up
                times[tool].append(taken)
        of_nothing.append(round_trip(tccp(folder, nothing), sync=False))
    for step, work in enumerate(("seal", "open")):
        seconds = {tool: median(taken[step].seconds for taken in times[tool]) for tool in TOOLS}
        cells = [f"{SIZE / seconds[tool] / 1e9:.2f}" for tool in TOOLS]
        for at, tool in enumerate(TOOLS):
            if tool != "tccp":
                cells[at] += f" ({seconds[tool] / seconds['tccp']:.2f})"
        start_up = median(taken[step].user_seconds for taken in of_nothing)
        cipher = median(taken[step].user_seconds for taken in times["tccp"]) - start_up
        IMAGES.rows.append([f"{work} {kind}, {name}", *cells, f"{cipher:.2f}"])
    IMAGES.save()


def test_ciphers_beside_memcpy(repository: Path) -> None:
    program = "build/native/bench/bench_image"
    subprocess.run(["make", "--silent", program], cwd=repository, check=True)
    command = [program, "256", str(ROUNDS), PLACES["tmpfs"]]
    found = json.loads(subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout)
    speed = {(one["work"], one["chunk_bytes"], one["threads"]): one["gb_s"] for one in found}
    works, sizes, counts = ([*dict.fromkeys(part)] for part in zip(*speed, strict=True))
    for work in works:
        for size in sizes:
            cells = [f"{speed[work, size, count]:.2f}" for count in counts]
            CIPHERS.rows.append([work, f"{size // 1024} KiB", *cells])

    def lines(names: list[str]) -> list[Line]:
        return [
            Line(
                kind=FILES if work == "files" else work,
                variant=f"{count} thread{'s' * (count > 1)}",
                points=[(size / 1024, speed[work, size, count]) for size in sizes],
            )
            for work in names
            for count in counts
        ]

    titles = {"Through memory": [work for work in works if work != "files"], "From file to file": ["files"]}
    CIPHERS.charts = [
        Panel(title=title, x_label="KiB of a chunk", y_label="GB/s", lines=lines(names))
        for title, names in titles.items()
    ]
    CIPHERS.save()
    assert speed["AEGIS-256", 65536, 1] > speed["XChaCha20-Poly1305", 65536, 1]
