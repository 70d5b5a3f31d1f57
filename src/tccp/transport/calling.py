"""Calling somebody by host and port, within a time."""

import trio

from tccp.errors import HostError


async def call(host: str, port: int, *, within_s: float) -> trio.SocketStream:
    """A TCP connection to *host*, who may have been named by anybody.

    Raises:
        HostError: ``unreachable``: nobody answers there in time, or nobody can be called so.
    """
    if not 1 <= port <= 65_535:
        raise HostError("unreachable", f"{host}:{port}: no such port")
    try:
        with trio.fail_after(within_s):
            return await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as problem:
        raise HostError("unreachable", f"{host}:{port}: {problem or 'no answer'}") from None
    except ValueError as problem:  # of whoever encodes names for DNS: a label that is empty, too long, no name at all
        raise HostError("unreachable", f"{host!r} can be no host: {problem}") from None
