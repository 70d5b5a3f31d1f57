"""What is left on this host of each VM, written down beside it: a later run of the daemon knows it, and goes on.

A file for each VM that this node was given, STATE/<id>.vm, replaced as a whole and durable. It says one word:

    here        live disks and the vTPM's state may be there: ciphertext from which another ticket starts it again
    suspended   a suspended state as well, which can be resumed
    doomed      it is being destroyed, whatever comes between
    leaving     another node has it now: what is here is of no use to anybody, and goes
    destroyed   nothing but the receipt

There is no secret in it. Whoever alters it has ciphertext removed, or kept, which she could do herself; and nobody else
believes it: what the coordinator records is what the boot has signed that wiped.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import structlog
import trio
from msgspec import Meta

from tccp.errors import HostError, ProtocolError, TccpError
from tccp.node.hypervisor import SavedState
from tccp.node.launch import accept_ticket
from tccp.node.one_vm import Vm
from tccp.node.vm.durable import replace_file
from tccp.protocol import fields as f
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.ticket import SignedTicket

SUFFIX = ".vm"
FILE_BYTES_MAX = 2 << 20

Word = Literal["here", "suspended", "doomed", "leaving", "destroyed"]
# What it is called after a restart. The tasks that go on with what was begun say how it goes on.
STATES: dict[Word, str] = {
    "here": "ended",
    "suspended": "suspended",
    "doomed": "ended",
    "leaving": "moved",
    "destroyed": "destroyed",
}

log = structlog.get_logger()


class Remains(Message, frozen=True, tag="vm_remains"):
    """The content of the file."""

    word: Word
    ticket: f.TicketBytes
    signature: f.Ed25519Signature
    epoch: f.Epoch
    launched_ms: f.UnixMilliseconds
    saved: Annotated[str, Meta(max_length=4096)]  # path of the suspended state
    receipt: Annotated[bytes, Meta(max_length=1 << 20)]  # of the destruction


def read_remains(content: bytes) -> Remains:
    """What a file says; its ticket is not verified yet.

    Raises:
        HostError: ``remains_malformed``.
    """
    try:
        remains: Remains = decode(content, Remains)
    except ProtocolError as problem:
        raise HostError("remains_malformed", problem.detail) from None
    return remains


@dataclass(frozen=True, slots=True)
class RemainsFolder:
    """The files of all VMs.

    Args:
        folder: Where VMs live; None on a host that runs none.
    """

    folder: Path | None
    _writing: trio.Lock = field(default_factory=trio.Lock, init=False, repr=False)

    async def write(self, vm: Vm, word: Word) -> None:
        """Say of *vm* that word; durable on return, and what was said before is gone. What is doomed stays so.

        Raises:
            HostError: ``state_unwritable``.
        """
        assert self.folder is not None
        async with self._writing:  # one after the other, in the order in which they were said
            if vm.is_doomed and word in {"here", "suspended"}:
                word = "doomed"
            saved = str(vm.saved.path) if vm.saved is not None and word == "suspended" else ""
            signed = vm.accepted.signed
            said = Remains(word, signed.ticket, signed.signature, vm.last_epoch, vm.launched_ms, saved, vm.destruction)
            await trio.to_thread.run_sync(_write, self._path(vm), encode(said))

    async def forget(self, vm: Vm) -> None:
        """Nothing is left of it here. A note that cannot be removed harms nobody: the next run finds nothing more."""
        if self.folder is None:
            return
        try:
            async with self._writing:
                await trio.to_thread.run_sync(lambda: self._path(vm).unlink(missing_ok=True))
        except OSError as problem:
            log.error("note_not_removed", file=str(self._path(vm)), detail=str(problem))

    def recall(self, coordinator_id: bytes) -> list[tuple[Vm, Word]]:
        """Every VM that an earlier run of the daemon has written down, the oldest first; for the start."""
        if self.folder is None or not self.folder.is_dir():
            return []
        found = [entry for path in self.folder.glob(f"*{SUFFIX}") if (entry := _recall(path, coordinator_id))]
        return sorted(found, key=lambda entry: entry[0].launched_ms)

    def _path(self, vm: Vm) -> Path:
        assert self.folder is not None
        return self.folder / f"{vm.vm_id.hex()}{SUFFIX}"


def _recall(path: Path, coordinator_id: bytes) -> tuple[Vm, Word] | None:
    try:
        remains = read_remains(_content(path))
        accepted = accept_ticket(encode(SignedTicket(remains.ticket, remains.signature)), coordinator_id)
        if accepted.verified.ticket.vm_id.hex() + SUFFIX != path.name:
            raise HostError("remains_malformed", "of another VM than its name says")
    except TccpError as problem:
        log.error("remains_unread", file=str(path), reason=problem.reason, detail=problem.detail)
        return None
    vm = Vm(accepted, remains.launched_ms, STATES[remains.word], remains.epoch)
    vm.reason = "daemon_ended" if remains.word in {"here", "doomed"} else vm.state
    vm.destruction = remains.receipt
    if _is_there(remains.saved):
        vm.saved = SavedState(Path(remains.saved), b"", 0)
    return vm, remains.word


def _is_there(saved: str) -> bool:
    try:
        return bool(saved) and Path(saved).exists()
    except OSError:  # no such name is possible
        return False


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError as problem:
        raise HostError("remains_unreadable", f"{path}: {problem.strerror}") from None


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as problem:
        raise HostError("state_unwritable", f"{path}: {problem.strerror}") from None
