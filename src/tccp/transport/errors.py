"""What the network does."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tccp.errors import HostError


class PeerGoneError(HostError):
    """The peer closed the connection or vanished; ``reason`` is ``peer_gone``."""


@contextmanager
def gone_after(seconds: float) -> Iterator[None]:
    """A peer that takes longer is gone.

    Raises:
        PeerGoneError: It did.
    """
    try:
        with trio.fail_after(max(seconds, 0.0)):
            yield
    except trio.TooSlowError:
        raise PeerGoneError("peer_gone", f"took longer than {seconds:.0f} s") from None
