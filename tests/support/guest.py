"""Small Linux guests in QEMU: Debian's cloud kernel, and an initramfs of busybox and what a test needs.

    initramfs = make_initramfs(folder / "initramfs", 'echo "size: $(cat /sys/block/vda/size)"')
    with Guest(initramfs, "-drive", f"file={image},format=raw,if=virtio") as guest:
        assert guest.wait_for_line("size: ") == "2048"

The kernel is fetched once by apt, which verifies it, and kept under ``$TCCP_CACHE`` (default ``~/.cache/tccp``). QEMU
translates (TCG), so this runs everywhere: 3 s from start to script. Start guests from the main thread.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.cpio import File, write_cpio

QEMU = "qemu-system-x86_64"
# A kernel that tries its timers out panics where a busy machine does not serve them in time.
CONSOLE = "console=ttyS0 quiet panic=-1 no_timer_check"
_DEADLINE_S = 120
_PACKAGE = "linux-image-cloud-amd64"
_FOLDERS = ("proc", "sys", "dev", "tmp", "mnt", "run", "etc", "usr/bin")
_VIRTIO = ("virtio_pci", "virtio_blk", "virtio_net", "virtio-rng", "virtio_console")
_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/bin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t securityfs security /sys/kernel/security
for module in /modules/*; do insmod "$module"; done
"""


@functools.cache
def guest_kernel() -> Path:
    """The kernel, a bzImage; `guest_modules` stand beside it. The first call on a machine fetches it, 27 MB.

    Raises:
        RuntimeError: apt could not get it.
    """
    cache = Path(os.environ.get("TCCP_CACHE") or Path.home() / ".cache" / "tccp")
    kept = cache / "guest-kernel"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="guest-kernel-") as work:
            made = _unpack(_fetch(Path(work)), Path(work) / "made")
            try:
                made.rename(kept)
            except OSError:  # another process was faster
                if not kept.exists():
                    raise
    return kept / "vmlinuz"


def guest_modules() -> dict[str, Path]:
    """The kernel's modules by name, with ``_`` for every ``-``."""
    folder = guest_kernel().parent / "modules"
    return {file.stem.replace("-", "_"): file for file in sorted(folder.rglob("*.ko"))}


def _fetch(directory: Path) -> Path:
    """The package itself: the one that the package named for all versions depends on."""
    as_root = [] if os.getuid() == 0 else ["sudo", "-n"]
    for prepare in (["true"], [*as_root, "apt-get", "-qq", "update"]):
        subprocess.run(prepare, check=False)
        known = subprocess.run(["apt-cache", "depends", _PACKAGE], capture_output=True, text=True, check=False).stdout
        for name in re.findall(r"Depends: (linux-image-\S+)", known):
            subprocess.run(["apt-get", "-qq", "download", name], cwd=directory, stderr=subprocess.PIPE, check=False)
        for package in directory.glob("*.deb"):
            return package
    raise RuntimeError(f"apt does not get {_PACKAGE}: does `apt-get update` work here?")


def _unpack(package: Path, made: Path) -> Path:
    whole = package.with_suffix("")
    subprocess.run(["dpkg-deb", "-x", package, whole], check=True)
    made.mkdir()
    next((whole / "boot").glob("vmlinuz-*")).rename(made / "vmlinuz")
    next((whole / "lib" / "modules").iterdir()).rename(made / "modules")
    return made


def make_initramfs(
    path: Path,
    script: str,
    *,
    programs: Iterable[str] = (),
    modules: Iterable[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write an initramfs that runs *script* as the first process and switches off when that ends; returns *path*.

    Args:
        path: Where to write it.
        script: For sh, with busybox's commands; /proc, /sys, /dev and /tmp are there, and the modules of virtio.
        programs: Of this machine, with the libraries that they need. Call ``"mke2fs"`` as ``/usr/bin/mke2fs``: this
            shell prefers busybox's own commands to files of the same name.
        modules: Of the kernel, with those that they need: ``"virtio_balloon"``.
        files: What else: ``{"etc/key": b"..."}``.
    """
    tree = {
        "init": File(f"{_INIT}{script}\npoweroff -f\n".encode(), executable=True),
        "bin/busybox": File(Path("/bin/busybox").read_bytes(), executable=True),
    }
    for program in programs:
        file = _find(program)
        tree[f"usr/bin/{program}"] = File(file.read_bytes(), executable=True)
        for library in _libraries(file):
            tree[str(library).removeprefix("/")] = File(library.read_bytes(), executable=True)
    for number, module in enumerate(_in_order([*_VIRTIO, *modules])):
        tree[f"modules/{number:03}-{module.name}"] = File(module.read_bytes())
    for name, content in (files or {}).items():
        tree[name] = File(content)
    path.write_bytes(write_cpio(tree, _FOLDERS))
    return path


def _find(program: str) -> Path:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"no program {program}; see tools/apt-packages.txt")
    return Path(found)


def _libraries(program: Path) -> list[Path]:
    """What the loader opens for it, and the loader itself, under the names by which it does."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(name) for name in re.findall(r"(/\S+) \(0x", listed)]


def _in_order(names: Iterable[str]) -> list[Path]:
    """The files of these modules, each behind those that it needs; what is built in has none."""
    files = guest_modules()
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in files and name not in ordered:
            depends = re.search(rb"\0depends=([\w,-]*)", files[name].read_bytes())
            for needed in depends[1].decode().split(",") if depends else ():
                add(needed.replace("-", "_"))
            ordered[name] = files[name]

    for name in names:
        add(name.replace("-", "_"))
    return list(ordered.values())


class Guest:
    """A running guest and its console.

    Args:
        initramfs: What it boots into; see `make_initramfs`.
        arguments: Further ones of QEMU: disks, a TPM.
        command_line: Further words of the kernel's command line.
        memory_mib: Its memory.
    """

    def __init__(self, initramfs: Path, *arguments: str, command_line: str = "", memory_mib: int = 256) -> None:
        command = [QEMU, "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", str(memory_mib), "-no-reboot"]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
        command += ["-kernel", str(guest_kernel()), "-initrd", str(initramfs)]
        command += ["-append", f"{CONSOLE} {command_line}", *arguments]
        self.said: list[str] = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input, self._output = self.process.stdin, self.process.stdout
        # A guest that hangs ends the test with what it said, instead of holding it up for ever.
        self._overdue = threading.Timer(_DEADLINE_S, self.process.kill)
        self._overdue.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait_for_line(self, start: str) -> str:
        """The rest of the next line on the console that begins with *start*.

        Raises:
            AssertionError: The guest ended before; with all that it said.
        """
        while line := self._output.readline():
            self.said.append(line.decode(errors="replace").rstrip())
            if self.said[-1].startswith(start):
                return self.said[-1].removeprefix(start)
        raise AssertionError(f"the guest never said {start!r}, but:\n" + "\n".join(self.said))

    def send_line(self, line: str) -> None:
        """Type a line at its console."""
        self._input.write(line.encode() + b"\n")

    def wait(self) -> None:
        """Until it has switched itself off."""
        self.said += self._output.read().decode(errors="replace").splitlines()
        assert self.process.wait() == 0, "\n".join(self.said)

    def kill(self) -> None:
        """As by a power cut: nothing that it holds is written. To call it again does nothing."""
        self._overdue.cancel()
        self.process.kill()
        self.process.wait()
        self._input.close()
        self._output.close()
