"""The coordinator's end of a tenant's connection: TLS that asks for no certificate, and messages in turn."""

from typing import TypeVar

import msgspec

from tccp.protocol.conversation import expect
from tccp.protocol.tenant_messages import AnyTenantMessage
from tccp.protocol.tenant_session import TenantRole, TenantSession
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls_stream import TlsStream

M = TypeVar("M", bound=msgspec.Struct)


class TenantConnection:
    """Messages over a TLS stream whose handshake is done."""

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream
        self._session = TenantSession(TenantRole.COORDINATOR)

    async def send(self, message: AnyTenantMessage) -> None:
        """Put *message* on the wire, and wait until the kernel has taken it.

        Raises:
            PeerGoneError: The peer is gone.
        """
        self._stream.send_nowait(self._session.send(message))
        await self._stream.flush()

    async def receive(self, kind: type[M]) -> M:
        """The tenant's next message, which must be a *kind*; raises as `receive_any`."""
        return expect(await self.receive_any(), kind)

    async def receive_any(self) -> AnyTenantMessage:
        """The tenant's next message.

        Raises:
            ProtocolError: It breaks the protocol.
            PeerGoneError: She is gone.
        """
        while (message := self._session.next_message()) is None:
            data = await self._stream.receive()
            if not data:
                raise PeerGoneError("peer_gone", "the tenant closed the connection")
            self._session.receive_data(data)
        return message

    @property
    def is_over(self) -> bool:
        """Nothing may be said any more."""
        return self._session.is_over
