"""Asking the process that serves a disk: one line on a second socket beside its NBD socket, one JSON document back.

    mark          the moment that the disk's history has come to, to be demanded at the next start after a crash
    kept MARK     this mark is where it is safe: remember it until a newer one is
    info          what the disk says of itself
    compact       give unused room back, while clients go on

The socket has the NBD socket's name and ``.ask`` behind it, the same owner and mode. Whoever may connect could as well
read the disk, so there is nothing more to check; a line of at most 128 bytes is all that is read.
"""

import dataclasses
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tccp.core.disk import MARK_BYTES, LiveDisk
from tccp.errors import HostError, TccpError

Answer = dict[str, object]
Words = dict[str, Callable[[LiveDisk, str], Answer]]

LINE_BYTES_MAX = 128
CLIENT_TIMEOUT_S = 5.0  # for the line to come and for the answer to go; the work between takes what it takes
ANSWER_BYTES_MAX = 65536


def socket_for_asking(nbd: Path) -> Path:
    """Where the process listens that serves a disk at *nbd*."""
    return nbd.with_name(nbd.name + ".ask")


# ---- the serving process


@contextmanager
def answering(disk: LiveDisk, listener: socket.socket, stop: int, *, read_only: bool) -> Iterator[None]:
    """Answer on *listener* in a thread, until *stop* can be read; that must be so at the end of the block."""
    words = {word: answer for word, answer in _ANSWERS.items() if not (read_only and word in _CHANGES)}
    with _in_a_thread(_answer_all, disk, words, listener, stop):
        yield


def _answer_all(disk: LiveDisk, words: Words, listener: socket.socket, stop: int) -> None:
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    poll.register(listener, select.POLLIN)
    while not any(descriptor == stop for descriptor, _ in poll.poll()):
        with suppress(OSError):  # a client that left, or came in vain
            client, _ = listener.accept()
            with client:
                client.settimeout(CLIENT_TIMEOUT_S)
                client.sendall(_answer(disk, words, _line(client, stop)))


@contextmanager
def answering_one(disk: LiveDisk, client: socket.socket, stop: int) -> Iterator[None]:
    """As `answering`, line after line, for whoever has the other end of *client*: only ``mark`` and ``kept``."""
    client.settimeout(CLIENT_TIMEOUT_S)
    words = {word: _ANSWERS[word] for word in ("mark", "kept")}
    with _in_a_thread(_answer_one, disk, words, client, stop):
        yield


@contextmanager
def _in_a_thread(
    answer: Callable[[LiveDisk, Words, socket.socket, int], None],
    disk: LiveDisk,
    words: Words,
    asked_at: socket.socket,
    stop: int,
) -> Iterator[None]:
    thread = threading.Thread(target=answer, args=(disk, words, asked_at, stop), name="asking")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _answer_one(disk: LiveDisk, words: Words, client: socket.socket, stop: int) -> None:
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    poll.register(client, select.POLLIN)
    received = b""
    with suppress(OSError):  # our supervisor has gone
        while not any(descriptor == stop for descriptor, _ in poll.poll()):
            part = client.recv(LINE_BYTES_MAX)
            if not part or len(received) > LINE_BYTES_MAX:
                return
            *lines, received = (received + part).split(b"\n")
            for line in lines:
                client.sendall(_answer(disk, words, line.decode("ascii", "replace")))


def _line(client: socket.socket, stop: int) -> str:
    """What the client says in `CLIENT_TIMEOUT_S`; TimeoutError when that is no line, or we are to end."""
    received = b""
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    poll.register(client, select.POLLIN)
    until = time.monotonic() + CLIENT_TIMEOUT_S
    while b"\n" not in received and len(received) < LINE_BYTES_MAX:
        ready = poll.poll(max(until - time.monotonic(), 0) * 1000)
        if not ready or any(descriptor == stop for descriptor, _ in ready):
            raise TimeoutError
        part = client.recv(LINE_BYTES_MAX - len(received))
        if not part:
            break
        received += part
    return received.partition(b"\n")[0].decode("ascii", "replace")


def _answer(disk: LiveDisk, words: Words, line: str) -> bytes:
    answer: Answer
    word, _, argument = line.partition(" ")
    try:
        answer = words[word](disk, argument) if word in words else {"error": "unknown_word", "detail": ""}
    except MemoryError:
        answer = {"error": "no_memory", "detail": ""}
    except TccpError as error:
        answer = {"error": error.reason, "detail": error.detail}
    return json.dumps(answer, default=bytes.hex).encode() + b"\n"


def _mark(disk: LiveDisk, _argument: str) -> Answer:
    return {"mark": disk.mark()}


def _kept(disk: LiveDisk, argument: str) -> Answer:
    try:
        mark = bytes.fromhex(argument)
    except ValueError:
        mark = b""
    if len(mark) != MARK_BYTES:
        return {"error": "malformed", "detail": f"a mark has {MARK_BYTES} bytes"}
    disk.mark_kept(mark)
    return {"kept": mark}


def _info(disk: LiveDisk, _argument: str) -> Answer:
    answer = dataclasses.asdict(disk.describe())
    del answer["mark"]  # it would not be remembered
    return answer


def _compact(disk: LiveDisk, _argument: str) -> Answer:
    return {"free_bytes": disk.compact()}


_ANSWERS: Words = {"mark": _mark, "kept": _kept, "info": _info, "compact": _compact}
_CHANGES = {"compact"}


# ---- whoever asks


def ask(nbd: Path, word: str, argument: str = "") -> Answer:
    """Ask the process that serves a disk at the socket *nbd*; bytes come as hexadecimal text.

    Raises:
        HostError: ``not_served``: nobody answers there. Or the reason that the process gives.
    """
    path = socket_for_asking(nbd)
    received = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            connection.sendall(f"{word} {argument}".strip().encode() + b"\n")
            while len(received) < ANSWER_BYTES_MAX and (part := connection.recv(ANSWER_BYTES_MAX)):
                received += part
        answer = json.loads(received)
    except (OSError, ValueError, RecursionError) as error:
        raise HostError("not_served", f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(answer, dict):
        raise HostError("not_served", f"{path}: an answer that is none")
    if "error" in answer:
        raise HostError(str(answer["error"]), str(answer.get("detail", "")))
    return answer
