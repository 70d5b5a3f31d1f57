"""What a witness answers: C2SP tlog-witness, ``POST /add-checkpoint``.

    400  no such request, or an old size beyond the new one      403  no known key of the log signed it
    404  a log that we do not witness                             409  not from where we are: here is our size
    422  the proof does not lead from there to here               200  our cosignature

For each log one request after another: between looking at what was cosigned last and remembering the new one nothing
else happens.
"""

import time
from collections.abc import Mapping

import structlog
import trio

from tccp.errors import LogError
from tccp.transparency.add_checkpoint import SIZE_TYPE, AddCheckpoint, parse_add_checkpoint
from tccp.transparency.checkpoint import Checkpoint, VerifiedCheckpoint, parse_checkpoint, verify_checkpoint
from tccp.transparency.note import NoteKey, NoteSigner, parse_note
from tccp.transparency.witness import cosign
from tccp.transport.http import HttpRequest, HttpResponse, text_response
from tccp.witness.memory import WitnessMemory

PATH = "/add-checkpoint"
_STATUS = {"unsigned": 403, "signature": 403, "signed_twice": 403}

log = structlog.get_logger()


class _RefusedError(Exception):
    """There is nothing to cosign; *response* says why."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.response = text_response(status, text, *headers)


class WitnessAnswers:
    """A witness of some logs.

    Args:
        logs: origin -> the key that must have signed its checkpoints.
    """

    def __init__(self, signer: NoteSigner, memory: WitnessMemory, logs: Mapping[str, NoteKey]) -> None:
        self.signer, self._memory, self._logs = signer, memory, logs
        self._turns = {origin: trio.Lock() for origin in logs}
        self.cosigned = 0

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The answer to one request.

        Raises:
            HostError: The memory failed; nothing was signed.
        """
        try:
            asked, new = self._verified(request)
        except _RefusedError as refusal:
            return refusal.response
        async with self._turns[new.checkpoint.origin]:
            return await self._cosign(asked, new)

    def _verified(self, request: HttpRequest) -> tuple[AddCheckpoint, VerifiedCheckpoint]:
        """A request with a checkpoint that the log signed."""
        if request.target != PATH:
            raise _RefusedError(404, "there is nothing here but add-checkpoint")
        if request.method != "POST":
            raise _RefusedError(405, "POST it", ("allow", "POST"))
        try:
            asked = parse_add_checkpoint(request.body)
            origin = parse_checkpoint(parse_note(asked.note).text).origin
            if origin not in self._logs:
                raise _RefusedError(404, "a log that this witness does not know")
            new = verify_checkpoint(asked.note, origin=origin, log_key=self._logs[origin])
        except LogError as problem:
            raise _RefusedError(_STATUS.get(problem.reason, 400), problem.reason) from None
        if asked.old_size > new.checkpoint.size:
            raise _RefusedError(400, "the old size is beyond the new one")
        return asked, new

    async def _cosign(self, asked: AddCheckpoint, new: VerifiedCheckpoint) -> HttpResponse:
        head = new.checkpoint
        latest = await trio.to_thread.run_sync(self._memory.latest, head.origin)
        size = latest.size if latest else 0
        if asked.old_size != size:
            return _size_response(size)
        if latest is not None and head.size == size and head.root != latest.root:
            await self._report_fork(head, asked.note)
            return _size_response(size)
        try:
            _, note = cosign(self.signer, _nonempty(latest), new, asked.proof, at_s=int(time.time()))
        except LogError as problem:
            log.warning("not_cosigned", origin=head.origin, size=head.size, reason=problem.reason)
            return text_response(422, problem.reason)
        if latest != head:
            await trio.to_thread.run_sync(self._memory.remember, head.origin, asked.note)
        self.cosigned += 1
        log.debug("cosigned", origin=head.origin, size=head.size)
        return HttpResponse(200, str(note.signatures[-1]).encode(), (("content-type", "text/plain; charset=utf-8"),))

    async def _report_fork(self, head: Checkpoint, note: bytes) -> None:
        path = await trio.to_thread.run_sync(self._memory.keep_evidence, head.origin, note)
        log.error("two_histories", origin=head.origin, size=head.size, evidence=str(path or "kept already too many"))


def _nonempty(latest: Checkpoint | None) -> Checkpoint | None:
    """An empty log and one that was never seen are the same."""
    return latest if latest is not None and latest.size else None


def _size_response(size: int) -> HttpResponse:
    return HttpResponse(409, f"{size}\n".encode(), (("content-type", SIZE_TYPE),))
