"""What the network does."""

from tccp.errors import HostError


class PeerGoneError(HostError):
    """The peer closed the connection or vanished; ``reason`` is ``peer_gone``."""
