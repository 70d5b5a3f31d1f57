"""What a service says to systemd, and what systemd hands to it; nothing happens where there is no systemd.

    systemd --- LISTEN_FDS, sockets that it already opened ---> `listen_fds`, `trio_listeners`
            --- $CREDENTIALS_DIRECTORY ----------------------> `credential`
            <-- READY, STATUS, RELOADING, STOPPING ----------- `notify`, `reloading`
            <-- WATCHDOG, while the daemon is alive ---------- `keep_watchdog`

Sources: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), systemd.exec(5) "Credentials".
"""

import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tccp.errors import ConfigError, HostError

__all__ = ["Heartbeat", "credential", "keep_watchdog", "listen_fds", "notify", "reloading", "trio_listeners"]

FIRST_FD = 3  # SD_LISTEN_FDS_START
FDS_MAX = 1024
CREDENTIAL_BYTES_MAX = 1024 * 1024  # systemd's own limit for all credentials of a unit
CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
STATUS_CHARACTERS_MAX = 512
NOTIFY_TIMEOUT_S = 5.0


def notify(*assignments: str) -> None:
    """Tell systemd something about this service: ``notify("READY=1", "STATUS=12 nodes")``.

    Everything said in one call arrives in one datagram. A status may hold what a peer sent: what is not printable in
    it is replaced, and it is cut, so that it is neither refused nor taken for another assignment. Does nothing when
    no ``NOTIFY_SOCKET`` is set.

    Raises:
        ValueError: Another assignment than a status has no name, or more than one line.
        HostError: systemd does not listen at the address that it gave us, or does not read for 5 s.
    """
    said = [_printable(each) if each.startswith("STATUS=") else each for each in assignments]
    for assignment in said:
        if not re.fullmatch(r"[A-Z_]+=[^\n\0]*", assignment):
            raise ValueError(f"{assignment!r} is not NAME=value on one line")
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address[0] not in "/@":
        raise HostError("notify_failed", f"NOTIFY_SOCKET={address!r} is neither a path nor an abstract name")
    if address[0] == "@":
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(NOTIFY_TIMEOUT_S)
            channel.sendmsg(["\n".join(said).encode()], [], socket.MSG_NOSIGNAL, address)
    except OSError as error:
        raise HostError("notify_failed", f"systemd's notification socket: {error}") from error


def _printable(status: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in status[:STATUS_CHARACTERS_MAX])


@contextmanager
def reloading(status: str = "") -> Iterator[None]:
    """Tell systemd that the configuration is being reloaded, and afterwards, whatever came of it, that we serve.

    A daemon whose new configuration is wrong goes on with the old one; systemd must hear READY then, too, or it
    waits for it until the start timeout and kills a healthy service.
    """
    extra = [f"STATUS={status}"] if status else []
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", *extra)
    try:
        yield
    finally:
        notify("READY=1")


def listen_fds() -> dict[str, list[socket.socket]]:
    """The sockets that systemd opened for this process: ``FileDescriptorName`` -> sockets, in the unit's order.

    Empty when there are none. The environment is emptied, so that a second call gives nothing and children do not
    take the descriptors for theirs; the sockets close on exec and belong to the caller.

    Raises:
        HostError: The variables contradict each other, or a descriptor is not a socket.
    """
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count:
        return {}
    if not re.fullmatch(r"[0-9]{1,4}", count) or int(count) > FDS_MAX:
        raise HostError("socket_activation", f"LISTEN_FDS={count!r} is not a number up to {FDS_MAX}")
    labels = names.split(":") if names else ["unknown"] * int(count)
    if len(labels) != int(count):
        raise HostError("socket_activation", f"{count} descriptors, but {len(labels)} names: {names!r}")
    sockets: dict[str, list[socket.socket]] = {}
    for fd, label in enumerate(labels, FIRST_FD):
        try:
            os.set_inheritable(fd, False)
            sockets.setdefault(label, []).append(socket.socket(fileno=fd))
        except OSError as error:
            raise HostError("socket_activation", f"descriptor {fd} ({label}): {error}") from error
    return sockets


def trio_listeners(sockets: Iterable[socket.socket]) -> list[trio.SocketListener]:
    """Listeners for `trio.serve_listeners` from sockets of `listen_fds`.

    Raises:
        ConfigError: A socket is no listening stream socket: the socket unit has ListenDatagram= or Accept=yes.
    """
    listeners = []
    for sock in sockets:
        try:
            listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
        except ValueError as error:
            raise ConfigError(
                "socket_activation",
                f"systemd passed a socket that accepts no connections: {error}",
                hint="The socket unit needs ListenStream= and Accept=no.",
            ) from error
    return listeners


async def keep_watchdog(*, healthy: Callable[[], bool]) -> None:
    """Ping systemd's watchdog at half its period for as long as this runs and *healthy* says so.

    Run it in the daemon's own nursery: a stuck event loop then stops the pings by itself. *healthy* answers for
    everything beside the loop (a database thread), at once and without waiting. When the pings stop, systemd kills
    the daemon after ``WatchdogSec`` and starts it anew. Returns at once when no watchdog is set for this process.

    Raises:
        HostError: The watchdog's period is no number, or systemd does not take the ping.
    """
    period = os.environ.get("WATCHDOG_USEC", "")
    if not period or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    if not re.fullmatch(r"[0-9]{1,19}", period) or int(period) == 0:
        raise HostError("watchdog", f"WATCHDOG_USEC={period!r} is not a number of microseconds")
    while True:
        if healthy():
            notify("WATCHDOG=1")
        await trio.sleep(int(period) / 2_000_000)


class Heartbeat:
    """Signs of life of a part that the event loop cannot vouch for, such as a thread; for *healthy* of `keep_watchdog`.

    Args:
        silence_s: How long the part may be silent, from now on, before it counts as dead.
    """

    def __init__(self, *, silence_s: float) -> None:
        self._silence_s = silence_s
        self._last = trio.current_time()

    def beat(self) -> None:
        """The part has just answered; that it answered with an error is a sign of life, too."""
        self._last = trio.current_time()

    def alive(self) -> bool:
        """Whether the last beat is recent enough."""
        return trio.current_time() - self._last <= self._silence_s


def credential(name: str) -> bytes | None:
    """The credential *name* that ``LoadCredential=`` or ``SetCredential=`` gave this unit, or None without one.

    Raises:
        ConfigError: It is there but unreadable, or larger than 1 MiB.
    """
    assert CREDENTIAL_NAME.fullmatch(name), f"no name of a credential: {name!r}"
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        return None
    path = Path(directory, name)
    try:
        with path.open("rb") as file:
            value = file.read(CREDENTIAL_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError("credential", f"{path}: {error.strerror}") from error
    if len(value) > CREDENTIAL_BYTES_MAX:
        raise ConfigError("credential", f"{path}: larger than {CREDENTIAL_BYTES_MAX} bytes")
    return value
