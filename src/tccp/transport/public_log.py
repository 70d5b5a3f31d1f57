"""Head and tiles of a coordinator's log, asked for on its port for tenants by somebody who need not trust it."""

from typing import TypeVar

import msgspec
import trio

from tccp.errors import RefusedError
from tccp.protocol.conversation import expect
from tccp.protocol.tenant_messages import (
    AddCosignature,
    AnyTenantMessage,
    GetHead,
    GetTile,
    LogHead,
    LogTile,
    TenantRefused,
)
from tccp.protocol.tenant_session import TenantRole, TenantSession
from tccp.transparency.tile import Tile
from tccp.transport.calling import call
from tccp.transport.connection import handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls import SERVER_NAME, tenant_context
from tccp.transport.tls_stream import TlsStream

CONNECT_S = 10.0
ANSWER_S = 60.0

M = TypeVar("M", bound=msgspec.Struct)


class PublicLog:
    """One connection, made by `open_public_log`. TLS proves nothing here: checkpoints are signed, tiles lead to roots.

    Every method raises ProtocolError, RefusedError or PeerGoneError as their names say.
    """

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream
        self._session = TenantSession(TenantRole.TENANT)

    async def head(self) -> bytes:
        """The newest checkpoint, with the cosignatures that the coordinator has."""
        return (await self._ask(GetHead(), LogHead)).checkpoint

    async def read_tile(self, tile: Tile) -> bytes:
        """Hashes of its tree; `head` has been asked before."""
        return (await self._ask(GetTile(level=tile.level, index=tile.index, width=tile.width), LogTile)).content

    async def add_cosignature(self, note: bytes) -> bytes:
        """Bring a checkpoint with a cosignature; the newest one."""
        return (await self._ask(AddCosignature(note=note), LogHead)).checkpoint

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    async def _ask(self, question: AnyTenantMessage, kind: type[M]) -> M:
        try:
            with trio.fail_after(ANSWER_S):
                self._stream.send_nowait(self._session.send(question))
                await self._stream.flush()
                while (answer := self._session.next_message()) is None:
                    data = await self._stream.receive()
                    if not data:
                        raise PeerGoneError("peer_gone", "the coordinator closed the connection")
                    self._session.receive_data(data)
        except trio.TooSlowError:
            raise PeerGoneError("peer_gone", f"no answer in {ANSWER_S:.0f} s") from None
        if isinstance(answer, TenantRefused):
            raise RefusedError(answer.reason, "the coordinator refused")
        return expect(answer, kind)


async def open_public_log(host: str, port: int) -> PublicLog:
    """Connect to a coordinator's port for tenants.

    Raises:
        HostError: ``unreachable``.
        ProtocolError: ``tls_handshake``.
    """
    stream = await call(host, port, within_s=CONNECT_S)
    return PublicLog(await handshake(stream, tenant_context(None), server_side=False, server_name=SERVER_NAME))
