"""Files that are memory and have no name: where a plaintext goes that a program wants to read as a file."""

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import trio

from tccp.core.image import ImageProgress, image_header_check, image_open
from tccp.errors import HostError, SealedImageError
from tccp.image.sealed import read_sealed_image, thread_count, verify_root
from tccp.node.vm.description import SealedFile
from tccp.node.vm.foreign import abandonable, open_foreign

MFD_EXEC = 0x10  # Linux 6.3 and later; before, every memory file could be executed


@contextmanager
def memory_file(name: str, content: bytes = b"", *, reader: int | None = None) -> Iterator[int]:
    """A descriptor of a memory file with *content*; gone with the last descriptor of it.

    Args:
        reader: The user who inherits the descriptor and opens it again by its number; None: ourselves.
    """
    file = _make(name, reader)
    try:
        _write_all(file, content)
        yield file
    finally:
        os.close(file)


def _make(name: str, reader: int | None) -> int:
    file = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(file, 0o400)
        if reader is not None:
            os.fchown(file, reader, -1)
    except OSError:
        os.close(file)
        raise
    return file


async def open_in_memory(sealed: SealedFile, name: str, *, reader: int | None = None) -> int:
    """Decrypt a sealed image: the descriptor of a memory file, as `memory_file` has them. Whoever asks closes it.

    Raises:
        SealedImageError: It is not the image that the root names, or not whole.
        HostError: It cannot be read.
    """
    progress = ImageProgress()
    try:
        return await abandonable(functools.partial(_open, sealed, name, reader, progress), os.close)
    except trio.Cancelled:
        progress.cancel()
        raise


def _open(sealed: SealedFile, name: str, reader: int | None, progress: ImageProgress) -> int:
    with ExitStack() as opened:
        try:
            source = open_foreign(sealed.path)
        except OSError as error:
            raise HostError("image_unreadable", f"{sealed.path}: {error.strerror}") from error
        opened.callback(os.close, source)
        target = _make(name, reader)
        with ExitStack() as unless_whole:
            unless_whole.callback(os.close, target)
            _decrypt(sealed, source, target, progress)
            unless_whole.pop_all()
        return target


def _decrypt(sealed: SealedFile, source: int, target: int, progress: ImageProgress) -> None:
    try:
        image = read_sealed_image(source)
        image_header_check(image.header, image.info, sealed.key)
        verify_root(image.info, sealed.root)
        image_open(source, target, image.info, sealed.key, in_order=False, threads=thread_count(), progress=progress)
    except SealedImageError as error:
        raise SealedImageError(error.reason, f"{sealed.path.name}: {error.detail}") from error


def unreadable_copy(path: str) -> int:
    """A descriptor of a copy of the program at *path* that can be executed and not read.

    Linux makes a process undumpable when it executes what it may not read: no debugger, no /proc/PID/mem, no core
    file, also for processes of the same user.

    Raises:
        HostError: There is no such program.
    """
    try:
        with open(path, "rb") as source:  # noqa: PTH123 - a descriptor is wanted
            size = os.fstat(source.fileno()).st_size
            copy = _executable_memory()
            try:
                done = 0
                while done < size:
                    done += os.sendfile(copy, source.fileno(), done, size - done)
                os.fchmod(copy, 0o111)
                # By another descriptor: what is open for writing cannot be executed.
                return os.open(f"/proc/self/fd/{copy}", os.O_PATH | os.O_CLOEXEC)
            finally:
                os.close(copy)
    except OSError as error:
        raise HostError("program_missing", f"{path}: {error.strerror}") from error


def _executable_memory() -> int:
    try:
        return os.memfd_create("program", os.MFD_CLOEXEC | MFD_EXEC)
    except OSError:
        return os.memfd_create("program", os.MFD_CLOEXEC)


def _write_all(file: int, content: bytes) -> None:
    done = 0
    while done < len(content):
        done += os.write(file, content[done:])
    os.lseek(file, 0, os.SEEK_SET)
