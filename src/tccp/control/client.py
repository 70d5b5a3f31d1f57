"""Synchronous client of a daemon's control socket. Imports nothing that is slow to import."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from tccp.errors import ConfigError, HostError, RefusedError, TccpError
from tccp.protocol.control import CONTROL_FRAME_BYTES_MAX, CONTROL_ITEMS_MAX, Done, Failure
from tccp.protocol.control_roles import Answer
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import FrameReader, frame

A = TypeVar("A", bound=msgspec.Struct)

ANSWER_S = 30.0


class ControlClient:
    """One connection to a local daemon.

    Raises:
        ConfigError: We may not open *path*.
        HostError: No daemon listens there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames = FrameReader(bytes_max=CONTROL_FRAME_BYTES_MAX)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S)
        try:
            self._socket.connect(str(path))
        except OSError as problem:
            self._socket.close()
            raise _cannot_connect(path, problem) from None

    def __enter__(self) -> "ControlClient":
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, request: msgspec.Struct, answer: type[A]) -> A:
        """Send *request* and wait for its *answer*.

        Raises:
            RefusedError: The daemon understood and said no; its reason, detail and hint.
            HostError: The daemon went away or gave no answer in time.
        """
        self._send(request)
        received = self._receive()
        if isinstance(received, Failure):
            raise _failure(received)
        if not isinstance(received, answer):
            raise HostError("wrong_answer", f"{type(received).__name__} where {answer.__name__} was due")
        return received

    def stream(self, request: msgspec.Struct, answer: type[A]) -> Iterator[A]:
        """Send *request* and give each *answer* as it comes, until the daemon says that it was the last.

        Raises:
            RefusedError: As `ask`.
            HostError: ``daemon_gone``: it went away before; what has come is not all.
        """
        self._send(request)
        self._socket.settimeout(None)
        while not isinstance(received := self._receive(), Done):
            if isinstance(received, Failure):
                raise _failure(received)
            if not isinstance(received, answer):
                raise HostError("wrong_answer", f"{type(received).__name__} where {answer.__name__} was due")
            yield received

    def _send(self, request: msgspec.Struct) -> None:
        try:
            self._socket.sendall(frame(encode(request), bytes_max=CONTROL_FRAME_BYTES_MAX))
        except OSError as problem:
            raise HostError("daemon_gone", f"{self._path}: {problem.strerror or problem}") from None

    def _receive(self) -> object:
        while (payload := self._frames.next_frame()) is None:
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                raise HostError("daemon_silent", f"{self._path}: no answer in {ANSWER_S:.0f} s") from None
            except OSError as problem:
                raise HostError("daemon_gone", f"{self._path}: {problem.strerror or problem}") from None
            if not data:
                hint = "Was the daemon stopped or restarted? Its log says why (journalctl)."
                raise HostError("daemon_gone", f"{self._path}: the daemon went away before its last word", hint=hint)
            self._frames.receive_data(data)
        received: object = decode(payload, Answer, items_max=CONTROL_ITEMS_MAX)
        return received


def _cannot_connect(path: Path, problem: OSError) -> TccpError:
    if isinstance(problem, PermissionError):
        hint = "ask to be put into the daemon's viewer or admin group, or run as root"
        return ConfigError("control_socket_forbidden", f"{path}: permission denied", hint=hint)
    hint = "is the daemon running? `systemctl status tccp-coordinator tccp-node`; another socket: --socket PATH"
    # Of a path that is too long for a socket Python itself complains, without a number.
    return HostError("no_daemon", f"{path}: {problem.strerror or problem}", hint=hint)


def _failure(failure: Failure) -> TccpError:
    kinds: dict[str, type[TccpError]] = {"host": HostError, "config": ConfigError, "usage": ConfigError}
    return kinds.get(failure.kind, RefusedError)(failure.reason, failure.detail, hint=failure.hint)
