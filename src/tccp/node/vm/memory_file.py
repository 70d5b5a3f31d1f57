"""Files that are memory and have no name: where a plaintext goes that a program wants to read as a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tccp.core.image import image_header_check
from tccp.errors import HostError, SealedImageError
from tccp.image.sealed import open_image, read_sealed_image, verify_root
from tccp.node.vm.description import SealedFile

MFD_EXEC = 0x10  # Linux 6.3 and later; before, every memory file could be executed


@contextmanager
def memory_file(name: str, content: bytes = b"", *, reader: int | None = None) -> Iterator[int]:
    """A descriptor of a memory file with *content*; gone with the last descriptor of it.

    Args:
        reader: The user who inherits the descriptor and opens it again by its number; None: ourselves.
    """
    file = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(file, 0o400)
        if reader is not None:
            os.fchown(file, reader, -1)
        _write_all(file, content)
        yield file
    finally:
        os.close(file)


async def open_into_memory(sealed: SealedFile, target: int) -> None:
    """Decrypt a sealed image into the memory file *target*.

    Raises:
        SealedImageError: It is not the image that the root names, or not whole.
        HostError: It cannot be read.
    """
    await trio.to_thread.run_sync(_open, sealed, target)


def _open(sealed: SealedFile, target: int) -> None:
    try:
        source = os.open(sealed.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("image_unreadable", f"{sealed.path}: {error.strerror}") from error
    try:
        image = read_sealed_image(source)
        image_header_check(image.header, image.info, sealed.key)
        verify_root(image.info, sealed.root)
        open_image(image, target, sealed.key)
    except SealedImageError as error:
        raise SealedImageError(error.reason, f"{sealed.path.name}: {error.detail}") from error
    finally:
        os.close(source)


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
