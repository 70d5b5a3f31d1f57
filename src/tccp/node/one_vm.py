"""One VM of this node as it is known here, and how the control socket shows it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio

from tccp.errors import HostError, TccpError
from tccp.node.hypervisor import RunningVm, SavedState
from tccp.node.launch import AcceptedTicket
from tccp.node.transfer import Transfer
from tccp.node.vm.streams import BESIDE_DISKS
from tccp.protocol.messages import MoveArrived
from tccp.protocol.vm_control import VmInfo

RECORDING = frozenset({"recording", "destroying"})
TEXT_MAX = 4096
OVER = frozenset({"ended", "failed", "suspended", "moved", "destroyed"})

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Vm:
    """One VM since it was asked for."""

    accepted: AcceptedTicket
    launched_ms: int
    state: str = "checking"
    epoch: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    reason: str = ""
    detail: str = ""
    problem: TccpError | None = None
    receipt: bytes = b""
    has_run: bool = False
    is_ours: bool = False  # the coordinator has made us its owner
    move_id: bytes = b""  # of the move from here that was begun last
    wiped: bool = False  # it has moved to another node, and nothing is left here
    transfer: Transfer | None = None  # of the last move, from here or to here
    arrived: MoveArrived | None = None  # it may become ours at any moment; only the coordinator can say
    saving: trio.Event | None = field(default=None, repr=False)
    saved: SavedState | None = None
    is_doomed: bool = False  # to be destroyed, from when that was asked for until it is or has failed
    destruction: bytes = b""  # the receipt
    paths: tuple[Path, ...] = ()  # of its images
    before: "Vm | None" = field(default=None, repr=False)  # an earlier stay that has left something here
    kept: Path | None = None  # the newest of its states that were kept while it goes on
    running: RunningVm | None = field(default=None, repr=False)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope, repr=False)

    @property
    def vm_id(self) -> bytes:
        """Its id, 16 bytes."""
        return self.accepted.verified.ticket.vm_id

    @property
    def may_roll_back(self) -> bool:
        """Whether its tenant allows that states of it are kept while it goes on."""
        return "rollback" in self.accepted.verified.ticket.permissions

    @property
    def stream_count(self) -> int:
        """How many streams carry it to another node."""
        return BESIDE_DISKS + sum(image.role == "disk" for image in self.accepted.verified.ticket.images)

    @property
    def is_being_sent(self) -> bool:
        """Whether its last move from here is still under way; its guest may have been asked to shut down meanwhile."""
        return self.state != "suspending" and self.saving is not None and not self.saving.is_set()

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is in memory here any more; the coordinator may not have recorded that yet."""
        return self.state in OVER | RECORDING

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it here by itself."""
        return self.state in OVER and not self.is_doomed

    @property
    def last_epoch(self) -> int:
        """Of what is on this host's disk of it: of an earlier stay as long as nothing has come of this one."""
        return self.epoch or (self.before.epoch if self.before else 0)

    @property
    def left_something(self) -> bool:
        """Whether anything of it is on this host's disk, as far as is known."""
        return bool(self.last_epoch) and self.state not in {"moved", "destroyed"}

    @property
    def saved_at(self) -> Path | None:
        """The file of the state from which it can go on, or to which it can go back."""
        if self.state == "destroyed":
            return None
        if self.before is not None and not self.epoch:
            return self.before.saved_at
        return self.saved.path if self.saved else self.kept

    def come_after(self, before: "Vm") -> None:
        """Remember what *before*, the same VM as it was known here, has left; until something has come of this one."""
        self.destruction = before.destruction
        if before.left_something:
            self.before = before if before.epoch else before.before
            before.before = None

    def fail(self, problem: TccpError) -> None:
        """Note why it came to nothing."""
        self.problem = problem
        self.reason = problem.reason

    @contextmanager
    def contained(self) -> Iterator[None]:
        """A bug in what is done here is the fault of this VM alone: ``bug``, and its trace in the log."""
        try:
            yield
        except TccpError:
            raise
        except Exception as bug:
            log.exception("vm_bug", vm=self.vm_id.hex())
            raise HostError("bug", f"{type(bug).__name__}: {bug}") from None

    def end(self, reason: str, detail: str = "") -> None:
        """End it now, whatever it is doing; the first reason counts."""
        if not self.reason:
            self.reason, self.detail = reason, detail or self.detail
        self.scope.cancel()

    async def saved_or_sent(self) -> None:
        """Until whoever was saving or sending it, which has ended, has said what came of that."""
        if self.saving is not None:
            if self.transfer is not None:
                self.transfer.cancel()  # but what has been sent is still forgotten
            await self.saving.wait()

    def info(self) -> VmInfo:
        """As the control socket shows it."""
        ticket = self.accepted.verified.ticket
        return VmInfo(
            vm_id=self.vm_id,
            state=self.state,
            tenant_key=ticket.tenant_key,
            ticket_sha256=self.accepted.verified.sha256,
            epoch=self.epoch,
            vcpus=ticket.shape.vcpus,
            memory_mib=ticket.shape.memory_mib,
            launched_ms=self.launched_ms,
            started_ms=self.started_ms,
            ended_ms=self.ended_ms,
            reason=self.reason,
            detail=_plain(self.problem.detail if self.problem else self.detail),
            hint=_plain(self.problem.hint if self.problem else ""),
            console=self.running.console if self.running and not self.is_over else "",
            has_receipt=bool(self.receipt),
            saved=str(self.saved_at or ""),
            transfer=self.transfer.info() if self.transfer else None,
        )


def _plain(text: str) -> str:
    """*text*, which may be what a process of the VM has said: JSON has characters that no encoding has."""
    return text.encode(errors="backslashreplace").decode()[:TEXT_MAX]
