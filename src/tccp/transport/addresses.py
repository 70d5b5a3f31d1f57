"""From where connections come, and how many at once from there: one host shall not have all the places.

An IPv4 address is one place. Of an IPv6 address the first 64 bits are: whoever has a network has all that is below it.
"""

import ipaddress
from collections import Counter

import structlog
import trio

from tccp.measures import Tally

PREFIX_BITS = 64
UNKNOWN = "unknown"  # the peer had left before it was asked for its address: all those share one place

log = structlog.get_logger()


def place_of(address: str) -> str:
    """By what connections from *address* are counted: ``192.0.2.7``, ``2001:db8:1:2::/64``."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, PREFIX_BITS), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)


def place_of_peer(stream: trio.SocketStream) -> str:
    """By what the connection of *stream* is counted."""
    try:
        host, *_ = stream.socket.getpeername()
    except (OSError, ValueError):
        return UNKNOWN
    return place_of(host)


class PerAddress:
    """How many connections there are from each address; at most *most* at once.

    Args:
        refused: Counts those that were not taken, under *port*.
    """

    def __init__(self, most: int, port: str, refused: Tally) -> None:
        self._most, self._port, self._refused = most, port, refused
        self._connected = Counter[str]()

    def take(self, place: str) -> bool:
        """Whether one more from *place* may be served; if so, `release` it afterwards."""
        if self._connected[place] >= self._most:
            self._refused.add(self._port)
            log.debug("too_many_of_one_address", port=self._port, place=place)
            return False
        self._connected[place] += 1
        return True

    def release(self, place: str) -> None:
        """One of *place* is over."""
        self._connected[place] -= 1
        if not self._connected[place]:
            del self._connected[place]  # else everybody who ever came would stay in memory
