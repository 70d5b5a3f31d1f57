"""``python -m tools.package.deb WHEEL WHEELHOUSE FOLDER``: the Debian package, for Debian 12.

    /usr/lib/tccp              a Python environment of its own: the wheel, and what it needs, by the lock file
    /usr/bin/tccp, tccp-*      links into it
    /usr/lib/systemd/system    units; sysusers.d and tmpfiles.d beside
    /usr/share                 manual pages, completion, documents, examples

Made with dpkg-deb alone: there is nothing to compile, and four short scripts are read more easily than what would
write them (docs/decisions). The same wheels make the same bytes.
"""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from configparser import ConfigParser
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from tccp.config.files import FILES
from tccp.config.rendering import example_file
from tools.completion import scripts
from tools.man.__main__ import pages

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).with_name("debian")
PYTHON = "python3.11"  # of Debian 12
HOME = Path("usr/lib/tccp")
PACKAGES = HOME / "lib" / PYTHON / "site-packages"
LAUNCHER = """\
#!/{home}/bin/python3 -I
from {module} import {function}

raise SystemExit({function}())
"""
# No index, no other environment than this one: `python3` is Debian's, and its site-packages are not looked at.
ENVIRONMENT = "home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n"
# As they stand in the tree, so that what one says of another is found.
DOCUMENTS = ("README.md", "CHANGELOG.md", "docs/*.md", "docs/decisions/*.md", "systemd/README.md", "bench/RESULTS.md",
             "bench/*.png")  # fmt: skip
EXAMPLES = ("alerts.yaml", "grafana-dashboard.json", "measured-boot.toml", "policy.toml", "tenant-policy.toml")


def make_deb(wheel: Path, wheelhouse: Path, out: Path) -> Path:
    """Make it; where it is."""
    version = wheel.name.split("-")[1]
    architecture = _said("dpkg", "--print-architecture")
    with tempfile.TemporaryDirectory() as work_name:
        tree = Path(work_name) / "tree"
        _environment(tree, [*sorted(wheelhouse.glob("*.whl")), wheel])
        _units(tree)
        _documents(tree)
        _control(tree, version, architecture)
        _same_rights_and_age(tree)
        made = out / f"tccp_{version}_{architecture}.deb"
        out.mkdir(parents=True, exist_ok=True)
        # Quick rather than small: it is made in each run of the tests.
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", tree, made],
            stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    return made


def _environment(tree: Path, wheels: list[Path]) -> None:
    """/usr/lib/tccp, and the commands."""
    (tree / HOME / "bin").mkdir(parents=True)
    (tree / HOME / "bin" / "python3").symlink_to(f"../../../bin/{PYTHON}")
    (tree / HOME / "pyvenv.cfg").write_text(ENVIRONMENT.format(version=PYTHON.removeprefix("python")))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-warn-script-location",
    ]
    subprocess.run([*pip, "--no-index", "--no-deps", "--no-compile", "--target", tree / PACKAGES, *wheels], check=True)
    shutil.rmtree(tree / PACKAGES / "bin")
    (tree / "usr" / "bin").mkdir()
    for name, module, function in _commands(tree):
        command = tree / HOME / "bin" / name
        command.write_text(LAUNCHER.format(home=HOME, module=module, function=function))
        command.chmod(0o755)
        (tree / "usr" / "bin" / name).symlink_to(f"../lib/tccp/bin/{name}")
    for path in (tree / PACKAGES).glob("*.dist-info/*"):
        if path.name in {"direct_url.json", "RECORD", "REQUESTED"}:  # where it was installed from, and what dpkg knows
            path.unlink()
    for core in (tree / PACKAGES).rglob("*.so"):
        subprocess.run(["strip", "--strip-unneeded", core], check=True)
    # Daemons in their sandboxes cannot write these, and what is there belongs to the package and is removed with it.
    compiling = [f"/usr/bin/{PYTHON}", "-m", "compileall", "-q", "-j0", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*compiling, "-s", tree, "-p", "/", tree / PACKAGES], check=True)


def _commands(tree: Path) -> Iterator[tuple[str, str, str]]:
    (entry_points,) = (tree / PACKAGES).glob("tccp-*.dist-info/entry_points.txt")
    parser = ConfigParser()
    parser.read_string(entry_points.read_text())
    for name, target in parser["console_scripts"].items():
        module, _, function = target.partition(":")
        yield name, module, function


def _units(tree: Path) -> None:
    units = tree / "usr" / "lib" / "systemd" / "system"
    units.mkdir(parents=True)
    for unit in sorted((ROOT / "systemd").iterdir()):
        if unit.is_file() and unit.suffix != ".md":
            shutil.copy(unit, units)
    for folder in ("sysusers.d", "tmpfiles.d"):
        (tree / "usr" / "lib" / folder).mkdir()
        shutil.copy(ROOT / "systemd" / folder / "tccp.conf", tree / "usr" / "lib" / folder)


def _documents(tree: Path) -> None:
    share = tree / "usr" / "share"
    for page in pages(f"{_moment():%Y-%m-%d}"):
        section = page.file_name.rpartition(".")[2]
        _write(share / "man" / f"man{section}" / f"{page.file_name}.gz", _compressed(page.render()))
    for name, script in scripts().items():
        _write(share / name, script.encode())
    documents = share / "doc" / "tccp"
    for path in sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        _write(documents / path.relative_to(ROOT), path.read_bytes())
    (documents / "docs" / "examples").symlink_to("../examples")
    for name in EXAMPLES:
        _write(documents / "examples" / name, (ROOT / "docs" / "examples" / name).read_bytes())
    for file in FILES:
        _write(documents / "examples" / f"{file.name}.toml", example_file(file).encode())
    _write(documents / "copyright", (HERE / "copyright").read_bytes())
    _write(share / "lintian" / "overrides" / "tccp", (HERE / "lintian-overrides").read_bytes())
    _write(documents / "changelog.gz", _compressed(_changelog()))


def _changelog() -> str:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    return (
        f"tccp ({version[1]}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n"
        f" -- The tccp developers <tccp@localhost>  {format_datetime(_moment())}\n"
    )


def _control(tree: Path, version: str, architecture: str) -> None:
    control = tree / "DEBIAN"
    control.mkdir()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files)  # noqa: S324
    (control / "md5sums").write_text("".join(sums))
    text = (HERE / "control").read_text()
    (control / "control").write_text(
        text.format(
            version=version,
            architecture=architecture,
            size_kib=sum(path.stat().st_size + 1023 for path in files) // 1024,
            shared_libraries=_shared_libraries(tree),
        )
    )
    for script in ("postinst", "prerm", "postrm"):
        shutil.copy(HERE / script, control)
        (control / script).chmod(0o755)


def _shared_libraries(tree: Path) -> str:
    """The packages, with versions, of the libraries that our modules link: ``libc6 (>= 2.34), libssl3 (>= 3.0.0)``."""
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        (folder / "debian").mkdir()
        (folder / "debian" / "control").write_text("Source: tccp\n\nPackage: tccp\nArchitecture: any\n")
        modules = [f"-e{path}" for path in sorted((tree / PACKAGES).rglob("*.so"))]
        said = _said("dpkg-shlibdeps", "-O", "--warnings=0", "--ignore-missing-info", *modules, folder=folder)
    return said.partition("shlibs:Depends=")[2]


def _same_rights_and_age(tree: Path) -> None:
    """The same tree makes the same package."""
    epoch = int(_moment().timestamp())
    for path in sorted(tree.rglob("*")):
        if path.is_symlink():
            continue
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        if path.is_file():
            os.utime(path, (epoch, epoch))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _compressed(text: str) -> bytes:
    return gzip.compress(text.encode(), 9, mtime=0)


def _moment() -> datetime:
    return datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)


def _said(*command: str, folder: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    print(make_deb(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
