"""The connections over which one VM moves from node to node."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tccp.node.vm.talk import ByteStream, Talk
from tccp.protocol.transfer import SourceWord
from tccp.transport.bulk_stream import BulkWire

BESIDE_DISKS = 2  # of talk and state


class BulkStream(ByteStream, BulkWire, Protocol):
    """What `tccp.transport.bulk_stream` makes."""


@dataclass(frozen=True, slots=True)
class Streams:
    """All of them lead to the same boot of the same node, and nobody else can read them.

    Attributes:
        state: Memory, devices and vTPM, in plaintext: TLS to the very node that was chosen, and no other.
        disks: One for each disk; the same holds for them.
        on_word: Called at the destination with what the source says of how far it is.
        on_here: Called there with the marks of vTPM and disks, once all of it is there and before the source, which may
            let go of it then, is told.
    """

    talk: Talk
    state: BulkStream
    disks: Sequence[BulkStream] = ()
    on_word: Callable[[SourceWord], None] = field(default=lambda _word: None)
    on_here: Callable[[bytes], None] = field(default=lambda _marks: None)


def streams_of(
    connections: Sequence[BulkStream],
    on_word: Callable[[SourceWord], None] = lambda _word: None,
    on_here: Callable[[bytes], None] = lambda _marks: None,
) -> Streams:
    """*connections* in the order of their numbers: words, state, disks."""
    talk, state, *disks = connections
    return Streams(Talk(talk), state, disks, on_word, on_here)
