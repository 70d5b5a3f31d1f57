"""One command, one answer: the only place where commands are framed and answers taken apart.

    channel.command(code, handles, parameters, sessions)  ->  Answer(handles, Reader of the parameters)

A TPM does one thing at a time, so a lock stands before it. An exchange that has begun is carried through even when
its task is cancelled, or the next command would read this one's answer; a time-out bounds it instead, and after that
the connection is closed for good.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from tccp.errors import TpmError
from tccp.measures import Durations
from tccp.tpm.constants import MESSAGE_BYTES_MAX, RESPONSE_HEADER_BYTES, CommandCode, Handle, SessionAttribute, Tag
from tccp.tpm.marshal import Reader, malformed, tpm2b, u8, u16, u32
from tccp.tpm.response_codes import RESEND, rc_error
from tccp.tpm.tcti import Connection, gone

_RESENDS_MAX = 20
_FIRST_PAUSE_S = 0.01
_PAUSE_S_MAX = 1.0
TIMEOUT_HINT = "Is the TPM stuck? Restart swtpm, or power the machine off and on."


@dataclass(frozen=True, slots=True)
class Session:
    """One authorization of a command: a password, empty here, or a session (`tccp.tpm.session` adds nonce and HMAC)."""

    handle: int = Handle.PASSWORD_SESSION
    attributes: int = SessionAttribute.CONTINUE
    nonce: bytes = b""
    hmac: bytes = b""

    def marshal(self) -> bytes:
        """TPMS_AUTH_COMMAND (Part 2, 10.13.2)."""
        return u32(self.handle) + tpm2b(self.nonce) + u8(self.attributes) + tpm2b(self.hmac)


PASSWORD = Session()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the TPM says in a session on its answer: TPMS_AUTH_RESPONSE (Part 2, 10.13.3)."""

    nonce: bytes
    attributes: int
    hmac: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response: its handles, its parameters to be read, and the word of each session on it."""

    handles: tuple[int, ...]
    parameters: Reader
    acknowledgements: tuple[Acknowledgement, ...] = ()


class Channel:
    """A connection with a lock, a time-out and the TPM's framing.

    Args:
        timeout_s: How long one exchange may take before the TPM counts as dead. Making an RSA key takes some TPMs
            half a minute.
    """

    def __init__(self, connection: Connection, *, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._lock = trio.Lock()
        self._closed = False
        self.durations: dict[CommandCode, Durations] = {}  # of each command, from its sending to the answer

    @property
    def closed(self) -> bool:
        """Whether every further command fails."""
        return self._closed

    async def aclose(self) -> None:
        """Close the connection; again is harmless."""
        self._closed = True
        with trio.CancelScope(shield=True):
            await self._connection.aclose()

    async def command(
        self,
        code: CommandCode,
        handles: Sequence[int] = (),
        parameters: bytes = b"",
        sessions: Sequence[Session] = (),
        *,
        timeout_s: float | None = None,
        timeout_hint: str = TIMEOUT_HINT,
    ) -> Answer:
        """Have the TPM carry out one command.

        Cancellation strikes before the command is sent, or not at all: who gets an answer gets it whole.

        Raises:
            TpmError: ``tpm_rc_...`` when the TPM refuses, ``tpm_gone``, ``tpm_timeout`` or ``tpm_malformed_response``
                when nothing sensible comes back; the channel is closed then.
        """
        command = _frame(code, handles, parameters, sessions)
        async with self._lock:
            durations = self.durations.setdefault(code, Durations())
            pause_s = _FIRST_PAUSE_S
            for _ in range(_RESENDS_MAX):
                with durations.measure():
                    response = await self._exchange(command, timeout_s or self._timeout_s, timeout_hint)
                return_code = int.from_bytes(response[6:10], "big")
                if return_code not in RESEND:
                    break
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
        if return_code:
            raise rc_error(code, return_code)
        try:
            return _unframe(response, code, len(sessions))
        except TpmError:
            await self.aclose()
            raise

    async def _exchange(self, command: bytes, timeout_s: float, timeout_hint: str) -> bytes:
        """Send *command* and return the whole response; close the connection unless both went well."""
        if self._closed:
            raise gone()
        await trio.lowlevel.checkpoint_if_cancelled()
        whole = False
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout_s):
                await self._connection.send(command)
                response = await self._receive_response()
                whole = True
        finally:
            if not whole:
                await self.aclose()
        if not whole:
            raise TpmError("tpm_timeout", f"no answer within {timeout_s:g} s", hint=timeout_hint)
        return response

    async def _receive_response(self) -> bytes:
        buffer = bytearray()
        size = RESPONSE_HEADER_BYTES
        while len(buffer) < size:
            data = await self._connection.receive()
            if not data:
                raise gone()
            buffer += data
            if len(buffer) >= RESPONSE_HEADER_BYTES:
                size = _response_bytes(buffer)
        if len(buffer) > size:
            raise malformed(f"{len(buffer) - size} bytes behind the response")
        return bytes(buffer)


def _response_bytes(header: bytearray) -> int:
    """The size that a response claims for itself, after its header was found to be one."""
    tag, size, code = (int.from_bytes(header[start:end], "big") for start, end in ((0, 2), (2, 6), (6, 10)))
    if tag == Tag.TPM_1_2_RESPONSE:
        raise TpmError(
            "tpm_is_version_1_2", hint="tccp needs a TPM 2.0; some firmware can switch its TPM to version 2.0."
        )
    if tag not in {Tag.NO_SESSIONS, Tag.SESSIONS}:
        raise malformed(f"a response with tag 0x{tag:04x}")
    if not RESPONSE_HEADER_BYTES <= size <= MESSAGE_BYTES_MAX:
        raise malformed(f"a response of {size} bytes")
    if code and (tag != Tag.NO_SESSIONS or size != RESPONSE_HEADER_BYTES):
        raise malformed("an error code with something behind it")
    return size


def _frame(code: CommandCode, handles: Sequence[int], parameters: bytes, sessions: Sequence[Session]) -> bytes:
    """A command as the TPM takes it (Part 1, 18: header, handles, authorizations, parameters)."""
    body = b"".join(u32(handle) for handle in handles)
    if sessions:
        authorizations = b"".join(session.marshal() for session in sessions)
        body += u32(len(authorizations)) + authorizations
    body += parameters
    size = RESPONSE_HEADER_BYTES + len(body)
    assert size <= MESSAGE_BYTES_MAX, f"a command of {size} bytes"
    return u16(Tag.SESSIONS if sessions else Tag.NO_SESSIONS) + u32(size) + u32(code) + body


def _unframe(response: bytes, code: CommandCode, session_count: int) -> Answer:
    """Take a successful response apart: handles, parameters, one authorization for each session."""
    reader = Reader(response)
    tag = reader.uint(2)
    if tag != (Tag.SESSIONS if session_count else Tag.NO_SESSIONS):
        raise malformed(f"a response to TPM2_{code.name} with tag 0x{tag:04x}")
    reader.take(8)  # size and code, looked at already
    handles = tuple(reader.uint(4) for _ in range(code.response_handles))
    if not session_count:
        return Answer(handles, Reader(reader.rest()))
    parameters = reader.take(reader.uint(4))
    # The HMAC is empty for a password, and for a policy session that no key salts.
    said = tuple(Acknowledgement(reader.tpm2b(), reader.uint(1), reader.tpm2b()) for _ in range(session_count))
    reader.finish()
    return Answer(handles, Reader(parameters), said)
