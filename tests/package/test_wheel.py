"""The wheel, installed where nothing of the tree is, and the source distribution that it was built from."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.booted_systemd import AS_ROOT
from tools.package.sdist import normalised

# OpenSSL 3 is on Debian 12, RHEL 9, Ubuntu 22.04; these have at least this C library.
GLIBC_MAX = (2, 34)
OFFLINE = [*AS_ROOT, "unshare", "--net"]


@pytest.fixture(scope="module")
def installed(wheel: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment, which no index was asked for."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    quick = ["--disable-pip-version-check", "--no-compile", "--no-index", "--find-links", wheelhouse]
    subprocess.run([*pip, *quick, wheel], check=True)
    return folder / "bin"


def run(program: Path, *arguments: str | Path, folder: Path) -> str:
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    done = subprocess.run([program, *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 3}, done.stderr
    return done.stdout


def test_the_version_is_that_of_the_tree(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "tccp", "--version", folder=tmp_path) == f"tccp {metadata.version('tccp')}\n"
    where = run(installed / "python", "-c", "import tccp._core; print(tccp._core.__file__)", folder=tmp_path)
    assert where.startswith(str(installed.parent))


def test_an_image_is_sealed_and_opened(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(os.urandom(300_000))
    tccp = installed / "tccp"
    run(tccp, "key", "generate", "me.key", folder=tmp_path)
    run(tccp, "key", "generate", "--type", "tenant", "acme.key", folder=tmp_path)
    run(tccp, "image", "seal", "disk", "disk.sealed", "--to", "me.pub", "--sign", "acme.key", folder=tmp_path)
    run(tccp, "image", "open", "disk.sealed", "again", "--key", "me.key", "--tenant", "acme.pub", folder=tmp_path)

    assert (tmp_path / "again").read_bytes() == (tmp_path / "disk").read_bytes()


def test_the_doctor_finds_every_library(installed: Path, tmp_path: Path) -> None:
    lines = run(installed / "tccp", "doctor", folder=tmp_path).splitlines()

    libraries = [line for line in lines if re.match(r"\w+ +libraries ", line)]
    assert len(libraries) > 5
    assert all(line.startswith("ok ") for line in libraries)


@pytest.mark.parametrize("name", ["coordinator", "node", "witness", "feeder", "notifier"])
def test_each_daemon_starts(name: str, installed: Path, tmp_path: Path) -> None:
    assert f"tccp-{name}" in run(installed / f"tccp-{name}", "--version", folder=tmp_path)


def test_the_core_needs_what_each_recent_linux_has_and_nothing_of_this_machine(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        core = Path(archive.extract("tccp/_core.abi3.so", tmp_path))
    headers = subprocess.run(["objdump", "-p", core], capture_output=True, text=True, check=True).stdout
    symbols = subprocess.run(["objdump", "-T", core], capture_output=True, text=True, check=True).stdout

    assert wheel.name.endswith("-cp311-abi3-linux_x86_64.whl")
    assert set(re.findall(r"NEEDED +(\S+)", headers)) == {"libcrypto.so.3", "libc.so.6"}
    assert "PATH" not in headers
    wanted = {tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([0-9.]+)", symbols)}
    assert max(wanted) <= GLIBC_MAX
    exported = [line.split()[-1] for line in symbols.splitlines() if " g " in line and "*UND*" not in line]
    assert exported == ["PyInit__core"]
    for place in (Path(sys.prefix), Path(sys.base_prefix), Path.home()):
        assert f"{place}/".encode() not in core.read_bytes()


def test_the_source_distribution_has_what_is_needed_and_nothing_that_was_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    needed = {"csrc/build.py", "csrc/tccp.h", "LICENSE", "systemd/tccp-node.service", "docs/OPERATIONS.md",
              "requirements-runtime.lock", "src/tccp/store/migrations/0001_records.sql"}  # fmt: skip
    assert needed <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc")) or name.startswith(("tests", "build"))]


def test_an_archive_in_another_order_and_of_another_age_becomes_the_same(tmp_path: Path) -> None:
    """What two machines make of one tree differs in nothing else."""
    made = []
    for number, names in enumerate((("a", "b"), ("b", "a"))):
        for name in names:
            (tmp_path / name).write_text(name)
            os.utime(tmp_path / name, (number, number))
        with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
            for name in names:
                archive.add(tmp_path / name, name)
        made.append(normalised((tmp_path / "x.tar.gz").read_bytes()))

    assert made[0] == made[1]


LOCATE = """
import sys
from pathlib import Path
sys.path.insert(0, "csrc")
import libsodium
print(libsodium.unpack(libsodium.carried() or libsodium.fetch(Path(sys.argv[1])), Path(sys.argv[1])))
"""


@pytest.fixture
def sources(sdist: Path, tmp_path: Path) -> Path:
    subprocess.run(["tar", "-xzf", sdist, "-C", tmp_path], check=True)
    return tmp_path / sdist.name.removesuffix(".tar.gz")


def located(sources: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Look for the source of libsodium on a machine without a network."""
    folder.mkdir()
    return subprocess.run(
        [*OFFLINE, sys.executable, "-c", LOCATE, folder], cwd=sources, capture_output=True, text=True, check=False
    )


def test_the_source_of_libsodium_comes_along_so_that_it_is_built_without_a_network(
    sources: Path, tmp_path: Path
) -> None:
    found = located(sources, tmp_path / "with")

    assert (Path(found.stdout.strip()) / "configure").exists(), found.stderr
    subprocess.run(["rm", "-r", sources / "csrc" / "carried"], check=True)
    assert located(sources, tmp_path / "without").returncode != 0


def test_another_source_of_libsodium_is_refused(sources: Path, tmp_path: Path) -> None:
    (archive,) = (sources / "csrc" / "carried").iterdir()
    with archive.open("r+b") as file:
        file.seek(1000)
        file.write(b"another byte")

    refused = located(sources, tmp_path / "x")

    assert refused.returncode != 0
    assert "is not the archive that libsodium.lock pins" in refused.stderr


def test_what_is_installed_at_run_time_was_tested_with_the_same_hashes() -> None:
    root = Path(__file__).parents[2]
    locks = [(root / name).read_text() for name in ("requirements-runtime.lock", "requirements.lock")]
    runtime, all_of_it = (
        {
            block.split("\n")[0].split(" ")[0]: set(re.findall(r"sha256:\w+", block))
            for block in re.findall(r"^\w(?:.*\\\n)+.*$", lock, re.MULTILINE)
        }
        for lock in locks
    )

    assert len(runtime) > 15
    assert {name: all_of_it[name] for name in runtime} == runtime
