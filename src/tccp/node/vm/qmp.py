"""A client of the QEMU Machine Protocol on trio: one JSON document a line, answers found by their id.

    qmp = Qmp(socket)                      # our end of a socket pair; the other was inherited by QEMU
    nursery.start_soon(qmp.run)            # reads until QEMU is gone
    await qmp.negotiate()
    await qmp.execute("cont")

Source: docs/interop/qmp-spec.txt of QEMU.
"""

import array
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from tccp.errors import HostError

LINE_BYTES_MAX = 4 << 20
READ_BYTES = 64 << 10
SEND_S = 10.0
# A QEMU that hangs, or waits for a disk or a vTPM that does: whoever asked learns of it, and goes on without.
ANSWER_S = 60.0
# Events that somebody waits for and has not taken yet; QEMU says a handful of one kind, and who floods us is cut off.
EVENTS_WAITING_MAX = 256
COUNT_MAX = 1 << 56  # some of them together are still a number of 64 bits


@dataclass(frozen=True, slots=True)
class QmpEvent:
    """Something that QEMU says unasked: ``SHUTDOWN``, ``RESET``, ``MIGRATION`` and so on."""

    name: str
    data: Mapping[str, Any]

    def text(self, key: str) -> str:
        """The text that its data has under *key*; empty when there is none."""
        value = self.data.get(key)
        return value if isinstance(value, str) else ""


def parse_line(line: bytes) -> dict[str, Any]:
    """One document of QEMU.

    Raises:
        HostError: ``qmp_malformed``: it is none.
    """
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HostError("qmp_malformed", f"QEMU says no JSON: {line[:80]!r}") from error
    if not isinstance(document, dict):
        raise HostError("qmp_malformed", "QEMU says no JSON object")
    return document


def object_of(value: object) -> dict[str, Any]:
    """An object that QEMU gives.

    Raises:
        HostError: ``qmp_malformed``: it is none.
    """
    if not isinstance(value, dict):
        raise HostError("qmp_malformed", f"{type(value).__name__} where QEMU has an object")
    return value


def count_of(value: object) -> int:
    """A count that QEMU gives.

    Raises:
        HostError: ``qmp_malformed``: it is none, or more than there can be.
    """
    if type(value) is not int:  # True is none
        raise HostError("qmp_malformed", f"{type(value).__name__} where QEMU counts")
    if not 0 <= value <= COUNT_MAX:
        raise HostError("qmp_malformed", f"QEMU counts {str(value)[:40]}")
    return value


@dataclass(slots=True)
class _Call:
    done: trio.Event = field(default_factory=trio.Event)
    answer: dict[str, Any] | None = None


class Qmp:
    """A connection to one QEMU. Any number of tasks may call `execute`; each gets its own answer.

    Args:
        connection: Our end; this object closes it.
        on_event: Called with each event, from `run`; it does not wait.
    """

    def __init__(self, connection: socket.socket, on_event: Callable[[QmpEvent], None]) -> None:
        self._socket = trio.socket.from_stdlib_socket(connection)
        self._on_event = on_event
        self._buffer = bytearray()
        self._calls: dict[int, _Call] = {}
        self._listeners: dict[trio.MemorySendChannel[QmpEvent], tuple[str, ...]] = {}
        self._count = 0
        self._sending = trio.Lock()
        self._gone: HostError | None = None
        self._greeted = trio.Event()

    async def run(self) -> None:
        """Read until QEMU closes the connection, or speaks something else; who waits for it learns why."""
        problem = HostError("qmp_gone", "QEMU has closed its monitor")
        try:
            greeting = await self._line()
            if greeting is not None and "QMP" not in greeting:
                raise HostError("qmp_malformed", "no greeting of QEMU")  # noqa: TRY301 - one place says why
            if greeting is not None:
                self._greeted.set()
                while (document := await self._line()) is not None:
                    self._take(document)
        except HostError as malformed:
            problem = malformed
        finally:
            self._fail(problem)
            self._socket.close()

    async def negotiate(self) -> None:
        """Greet; returns when QEMU has set up the machine.

        Raises:
            HostError: As for `execute`.
        """
        await self._greeted.wait()
        await self.execute("qmp_capabilities")

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, descriptor: int | None = None
    ) -> Any:
        """Have QEMU carry out *command*; what it returns. A cancelled call may or may not have been carried out.

        Args:
            descriptor: Goes along with the command, as ``getfd`` wants it.

        Raises:
            HostError: ``qmp_refused`` with QEMU's words, ``qmp_gone``, ``qmp_malformed``, or ``qmp_silent``: it has not
                answered, and may yet do what it was told.
        """
        if self._gone is not None:
            raise self._gone
        self._count += 1
        number, call = self._count, _Call()
        request = {"execute": command, "id": number, **({"arguments": dict(arguments)} if arguments else {})}
        self._calls[number] = call
        try:
            await self._send(json.dumps(request).encode() + b"\n", descriptor)
            with trio.fail_after(ANSWER_S):
                await call.done.wait()
        except trio.TooSlowError:
            raise HostError("qmp_silent", f"{command}: no answer of QEMU in {ANSWER_S:.0f} s") from None
        finally:
            del self._calls[number]
        if call.answer is None:
            assert self._gone is not None
            raise self._gone
        if "error" in call.answer:
            words = object_of(call.answer["error"]).get("desc")
            raise HostError("qmp_refused", f"{command}: {words if isinstance(words, str) else 'without a word'}")
        return call.answer.get("return")

    @contextmanager
    def listening(self, *names: str) -> Iterator["trio.MemoryReceiveChannel[QmpEvent]"]:
        """The events called one of *names*, from now on; no more come when QEMU has gone."""
        sender, receiver = trio.open_memory_channel[QmpEvent](EVENTS_WAITING_MAX)
        self._listeners[sender] = names
        if self._gone is not None:
            sender.close()
        try:
            yield receiver
        finally:
            del self._listeners[sender]
            sender.close()
            receiver.close()

    async def _send(self, data: bytes, descriptor: int | None) -> None:
        """All of it or nothing: half a document would spoil every later one."""
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        async with self._sending:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SEND_S) as scope:
                try:
                    sent = await self._socket.sendmsg([data], rights)
                    while sent < len(data):
                        sent += await self._socket.send(data[sent:])
                except (OSError, trio.ClosedResourceError) as error:
                    raise HostError("qmp_gone", "QEMU has closed its monitor") from error
            if scope.cancelled_caught:
                self._fail(HostError("qmp_gone", f"QEMU took no command for {SEND_S:.0f} s"))
                raise HostError("qmp_gone", f"QEMU took no command for {SEND_S:.0f} s")

    async def _line(self) -> dict[str, Any] | None:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LINE_BYTES_MAX:
                raise HostError("qmp_malformed", f"a line of more than {LINE_BYTES_MAX} bytes")
            try:
                data = await self._socket.recv(READ_BYTES)
            except (OSError, trio.ClosedResourceError):
                data = b""
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return parse_line(line)

    def _take(self, document: dict[str, Any]) -> None:
        if "event" in document:
            name, data = document["event"], document.get("data")
            if not isinstance(name, str):
                raise HostError("qmp_malformed", "an event without a name")
            self._tell(QmpEvent(name, data if isinstance(data, dict) else {}))
            return
        call = self._calls.get(number) if isinstance(number := document.get("id"), int) else None
        if call is not None:  # else somebody has stopped waiting for it
            call.answer = document
            call.done.set()

    def _tell(self, event: QmpEvent) -> None:
        self._on_event(event)
        for listener, names in self._listeners.items():
            if event.name in names:
                try:
                    listener.send_nowait(event)
                except (trio.WouldBlock, trio.ClosedResourceError):
                    listener.close()

    def _fail(self, problem: HostError) -> None:
        if self._gone is None:
            self._gone = problem
        self._greeted.set()
        for call in self._calls.values():
            call.done.set()
        for listener in self._listeners:
            listener.close()
