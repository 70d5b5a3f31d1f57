"""What both ends of a move say to each other (`tccp.protocol.transfer`), over one stream of their own."""

from typing import Any, Protocol

import trio

from tccp.errors import HostError, ProtocolError
from tccp.node.vm.preamble import PREAMBLE_BYTES_MAX, Preamble, decode_preamble, encode_preamble
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.transfer import LENGTH_BYTES, WORD_BYTES_MAX
from tccp.transport.errors import PeerGoneError

SAY_S = 10.0
# What a stream of trio's or of `tccp.transport` says when there is nobody at its other end.
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, PeerGoneError, ProtocolError)


class ByteStream(Protocol):
    """A stream of trio's, or of `tccp.transport.bulk_stream`."""

    async def send_all(self, data: bytes) -> None:
        """All of it."""

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        """What there is; nothing at the end."""


class Talk:
    """One end of it. One task listens; any may speak."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._speaking = trio.Lock()

    async def introduce(self, preamble: Preamble) -> None:
        """Say first of all whose state comes, so that the other end can make ready for it.

        Raises:
            HostError: ``stream_broken``.
        """
        await self._send(encode_preamble(preamble))

    async def preamble(self) -> Preamble:
        """What is said first of all.

        Raises:
            HostError: ``stream_broken``, ``state_malformed``.
        """
        return decode_preamble(await self._frame(PREAMBLE_BYTES_MAX))

    async def say(self, word: Message) -> None:
        """Say *word*.

        Raises:
            HostError: ``stream_broken``.
        """
        body = encode(word)
        assert len(body) <= WORD_BYTES_MAX
        await self._send(len(body).to_bytes(LENGTH_BYTES, "big") + body)

    async def hear(self, kind: Any) -> Any:
        """The next word, of one of the messages in *kind*.

        Raises:
            HostError: ``stream_broken``, ``state_malformed``.
        """
        return decode_word(await self._frame(WORD_BYTES_MAX), kind)

    async def _send(self, data: bytes) -> None:
        """All of it or nothing: half a word would spoil every later one."""
        async with self._speaking:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAY_S) as scope:
                try:
                    await self._stream.send_all(data)
                except BROKEN as problem:
                    raise HostError("stream_broken", f"the other node has gone: {problem}") from problem
            if scope.cancelled_caught:
                raise HostError("stream_broken", f"the other node does not listen for {SAY_S:.0f} s")

    async def _frame(self, bytes_max: int) -> bytes:
        length = int.from_bytes(await self._exactly(LENGTH_BYTES), "big")
        if not 0 < length <= bytes_max:
            raise HostError("state_malformed", f"a word of {length} bytes")
        return await self._exactly(length)

    async def _exactly(self, count: int) -> bytes:
        received = b""
        try:
            while len(received) < count:
                data = await self._stream.receive_some(count - len(received))
                if not data:
                    raise HostError("stream_broken", "the other node has closed the stream")
                received += data
        except BROKEN as problem:
            raise HostError("stream_broken", f"the other node has gone: {problem}") from problem
        return received


def decode_word(body: bytes, kind: Any) -> Any:
    """A word of one of the messages in *kind*.

    Raises:
        HostError: ``state_malformed``.
    """
    try:
        return decode(body, kind)
    except ProtocolError as problem:
        raise HostError("state_malformed", f"no word about a move: {problem.detail}") from None
