"""One end of a connection whose order of messages is a table: what may be said now, and what has been said.

Each protocol of ours has its table, its roles and its states; what they do with them is here.
"""

import enum
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

import msgspec

from tccp.errors import ProtocolError
from tccp.protocol.encoding import decode, encode
from tccp.protocol.framing import FrameReader, frame


class End(enum.Enum):
    """Who speaks: one of two."""

    @property
    def peer(self) -> Self:
        """The other end."""
        (other,) = (end for end in type(self) if end is not self)
        return other


R = TypeVar("R", bound=End)
S = TypeVar("S", bound=enum.Enum)
M = TypeVar("M", bound=msgspec.Struct)

Transitions = Mapping[tuple[R, S, type], S]


class Conversation(Generic[R, S, M]):
    """Both sides run the same table.

    Args:
        transitions: (sender, state before, message) -> state after; whatever is not in it is not legal.
        kinds: The union of all messages.
    """

    def __init__(self, transitions: Transitions[R, S], kinds: Any, *, own: R, new: S, closed: S) -> None:
        self.role, self.state = own, new
        self._transitions, self._kinds = transitions, kinds
        self._peer, self._closed = own.peer, closed
        self._frames = FrameReader()

    def send(self, message: M) -> bytes:
        """The bytes to put on the wire. Sending out of turn is a bug of ours: KeyError."""
        self.state = self._transitions[self.role, self.state, type(message)]
        return frame(encode(message))

    def receive_data(self, data: bytes) -> None:
        """Take bytes as they arrive, cut anywhere."""
        self._frames.receive_data(data)

    def next_message(self) -> M | None:
        """The peer's next message, or None until more data has come.

        Raises:
            ProtocolError: The peer broke the protocol; the conversation is over from then on.
                Any other exception from this method is a bug in tccp.
        """
        try:
            payload = self._frames.next_frame()
            if payload is None:
                return None
            message: M = decode(payload, self._kinds)
            self.state = self._after(message)
        except ProtocolError:
            self.state = self._closed
            raise
        return message

    def _after(self, message: M) -> S:
        after = self._transitions.get((self._peer, self.state, type(message)))
        if after is None:
            said = type(message).__name__
            raise ProtocolError("out_of_turn", f"{said} from the {self._peer.value} while {self.state.value}")
        return after

    @property
    def is_over(self) -> bool:
        """Nothing may be said any more."""
        return self.state is self._closed

    @property
    def holds_partial_message(self) -> bool:
        """Part of a message has arrived: a peer that vanishes now broke off in the middle."""
        return self._frames.holds_partial_frame


K = TypeVar("K", bound=msgspec.Struct)


def expect(message: msgspec.Struct, kind: type[K]) -> K:
    """*message*, known to be a *kind*.

    Raises:
        ProtocolError: It is another message, legal in its place but not for the caller.
    """
    if not isinstance(message, kind):
        raise ProtocolError("out_of_turn", f"{type(message).__name__} where {kind.__name__} was due")
    return message
