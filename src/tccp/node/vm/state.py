"""The state of a VM that stands still, as one sealed file.

It is a sealed image without recipients (docs/IMAGE_FORMAT.md), of a preamble and QEMU's migration stream. Its root,
which the coordinator keeps, names this state and no other; each chunk is verified before QEMU sees it. The key is that
of one VM and one generation.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tccp.core.image import (
    CancelledError,
    ImageInfo,
    ImageKey,
    ImageProgress,
    image_header_check,
    image_header_write,
    suite_of_cpu,
)
from tccp.core.image import image_open as core_open
from tccp.core.image import image_seal as core_seal
from tccp.errors import HostError, SealedImageError
from tccp.image.sealed import read_sealed_image, thread_count, verify_root, write_header
from tccp.model import SecretBytes
from tccp.node.vm.durable import sync_folder
from tccp.node.vm.foreign import open_foreign
from tccp.node.vm.migration import Pace, send_out
from tccp.node.vm.preamble import Preamble, encode_preamble
from tccp.node.vm.qmp import Qmp

STATE_KEY_INFO = b"tccp/v1/vm-state-key"
STATE_SHARE_MAX, STATE_BYTES_MORE = 2, 1 << 30  # it has each page of the memory once, and devices
LOOK_S = 0.2
# Without a byte of it: whoever hangs, QEMU, its vTPM or this host's disk, the guest stands still meanwhile.
STALLED_S = 60.0


@dataclass(frozen=True, slots=True)
class SuspendedState:
    """A state that is in a file.

    Attributes:
        root: Names it; a resume demands it.
        size_bytes: Of the file.
    """

    root: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ResumedState:
    """A state to go on from: the file, the root that is on record, and the key."""

    path: Path
    root: bytes
    key: ImageKey = field(repr=False)


def state_key(vm_key: SecretBytes, generation: int) -> ImageKey:
    """The key of the suspended state *generation* of a VM; never used twice, for generations only grow."""
    info = STATE_KEY_INFO + b"\0" + generation.to_bytes(8, "big")
    return ImageKey.take(HKDF(hashes.SHA256(), 32, None, info).derive(vm_key.value))


async def write_state(qmp: Qmp, preamble: Preamble, path: Path, key: ImageKey, *, memory_mib: int) -> SuspendedState:
    """Seal the state of a guest that stands still into the file *path*: there as a whole and durable, or not at all.

    Args:
        memory_mib: Of the guest. A QEMU that says much more than that is not QEMU any more, and would fill the disk.

    Raises:
        HostError: It cannot be written; the guest is as it was before. ``state_stalled``: somebody hangs.
    """
    async with _new_file(path) as file:
        info = await _seal(qmp, preamble, file, key, bytes_max=STATE_SHARE_MAX * (memory_mib << 20) + STATE_BYTES_MORE)
        await trio.to_thread.run_sync(_finish, path, file, info, key)
    return SuspendedState(info.root, info.file_bytes)


async def _seal(qmp: Qmp, preamble: Preamble, file: int, key: ImageKey, *, bytes_max: int) -> ImageInfo:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    sealed: list[ImageInfo] = []
    problems: list[HostError] = []
    progress = ImageProgress()
    watching, sending = trio.CancelScope(), trio.CancelScope()

    def seal() -> None:
        try:
            sealed.append(core_seal(reader, file, key, suite=suite_of_cpu(), threads=thread_count(), progress=progress))
        except CancelledError:
            pass  # whoever cancelled says why
        except HostError as problem:
            problems.append(problem)
        finally:
            os.close(reader)  # QEMU does not wait for somebody who has given up

    async def in_thread() -> None:
        # Of its own: it waits for QEMU, and all others are not to wait for it.
        await trio.to_thread.run_sync(seal, limiter=trio.CapacityLimiter(1))
        watching.cancel()

    async def watch() -> None:
        with watching:
            problems.append(await _trouble(progress, bytes_max))
            progress.cancel()
            sending.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread)
        nursery.start_soon(watch)
        try:
            try:
                os.write(writer, encode_preamble(preamble))  # a pipe has room for it
                with sending:
                    await send_out(qmp, writer, Pace())
            finally:
                os.close(writer)
        except HostError as problem:
            problems.append(problem)
        except BaseException:
            progress.cancel()
            raise
    if problems:
        raise problems[0]
    return sealed[0]


async def _trouble(progress: ImageProgress, bytes_max: int) -> HostError:
    """Return once there is some: why nobody waits for the rest."""
    done, since = 0, trio.current_time()
    while (now_done := progress.done_bytes) <= bytes_max:
        if now_done != done:
            done, since = now_done, trio.current_time()
        elif trio.current_time() - since >= STALLED_S:
            detail = f"nothing of it came in {STALLED_S:.0f} s: QEMU, its vTPM or the disk of this host hangs"
            return HostError("state_stalled", detail, hint="`tccp vm stop --force` ends a VM that hangs")
        await trio.sleep(LOOK_S)  # a thread in C tells nobody
    return HostError("state_too_large", f"QEMU says more than {bytes_max} bytes")


def _finish(path: Path, file: int, info: ImageInfo, key: ImageKey) -> None:
    try:
        write_header(file, image_header_write(info, [], key))
        os.fsync(file)
        _partial(path).rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise HostError("state_unwritable", f"{path}: {error.strerror}") from error


@asynccontextmanager
async def _new_file(path: Path) -> AsyncIterator[int]:
    """A file that becomes *path*, unless the block fails. It may be large: to remove it takes a while."""
    partial, flags = _partial(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        file = await trio.to_thread.run_sync(os.open, partial, flags, 0o600)
    except OSError as error:
        raise HostError("state_unwritable", f"{path}: {error.strerror}") from error

    def leave() -> None:
        os.close(file)
        partial.unlink(missing_ok=True)

    try:
        yield file
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(leave)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def open_state(state: ResumedState, target: int, progress: ImageProgress) -> None:
    """Decrypt a state into the pipe *target*, in order, each chunk once it is verified. Blocks; for a thread.

    Raises:
        SealedImageError: It is not the state that the root names, or not whole.
        HostError: It cannot be read.
        BrokenPipeError: Nobody reads.
        CancelledError: By *progress*.
    """
    try:
        source = open_foreign(state.path)
    except OSError as error:
        raise HostError("state_unreadable", f"{state.path}: {error.strerror}") from error
    try:
        image = read_sealed_image(source)
        image_header_check(image.header, image.info, state.key)
        verify_root(image.info, state.root)
        core_open(source, target, image.info, state.key, in_order=True, threads=thread_count(), progress=progress)
    except SealedImageError as error:
        raise SealedImageError(error.reason, f"{state.path.name}: {error.detail}") from error
    finally:
        os.close(source)
