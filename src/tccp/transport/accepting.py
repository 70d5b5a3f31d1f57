"""Taking connections in, at most so many at once, and at most so many from one address."""

import contextlib
import errno
from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog
import trio

from tccp.bugs import contained
from tccp.errors import HostError, ProtocolError
from tccp.transport.addresses import PerAddress, place_of_peer
from tccp.transport.errors import PeerGoneError

ACCEPT_PAUSE_S = 0.1

log = structlog.get_logger()


async def serve_connections(
    listeners: Sequence[trio.SocketListener],
    serve_one: Callable[[trio.SocketStream], Awaitable[None]],
    *,
    connections_max: int,
    per_address: PerAddress | None = None,
) -> None:
    """Serve those who connect until cancelled, each in a task; who comes too many waits in the kernel's backlog.

    One is taken in for each turn of the loop, so that those who are in come first: a crowd waits, and is not served
    so slowly that all of it gives up.

    Args:
        serve_one: Closes its stream, raises nothing that a peer can cause, and returns in bounded time. A bug in it
            costs one connection.
        per_address: Who comes too many from one address is closed at once, without a word. None: there is no limit.

    Raises:
        HostError: ``listener_lost``.
    """
    places = trio.Semaphore(connections_max)

    async def serve(stream: trio.SocketStream) -> None:
        place = place_of_peer(stream) if per_address is not None else ""
        taken = per_address is None or per_address.take(place)
        try:
            if taken:
                with contained("connection_bug", address=address_of(stream)):
                    await serve_one(stream)
            else:
                stream.socket.close()
        finally:
            if per_address is not None and taken:
                per_address.release(place)
            places.release()

    async def accept(listener: trio.SocketListener) -> None:
        while True:
            await places.acquire()
            try:
                stream = await listener.accept()
            except OSError as problem:
                # Too many files: some of them will be closed. Anything else means that the listener is lost.
                if problem.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    raise HostError("listener_lost", str(problem)) from None
                log.error("cannot_accept", detail=str(problem))
                places.release()
                await trio.sleep(ACCEPT_PAUSE_S)
            else:
                nursery.start_soon(serve, stream)

    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(accept, listener)


def name_of(listener: trio.SocketListener) -> str:
    """Where it listens, as people write it: ``HOST:PORT``."""
    host, port, *_ = listener.socket.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(stream: trio.SocketStream) -> str:
    """Where a peer comes from, for our log."""
    try:
        host, port, *_ = stream.socket.getpeername()
    except (OSError, ValueError):
        return "unknown"
    return f"{host}:{port}"


@contextlib.contextmanager
def forgiving(address: str) -> Iterator[None]:
    """What a peer can cause ends its connection, with a line in the log; so does a bug of ours that it brings out."""
    with contained("connection_bug", address=address):
        try:
            yield
        except PeerGoneError as problem:
            log.debug("node_gone", address=address, detail=problem.detail)
        except ProtocolError as problem:
            log.info("protocol_error", address=address, reason=problem.reason, detail=problem.detail)
        except HostError as problem:
            log.error("session_failed", address=address, reason=problem.reason, detail=problem.detail)
