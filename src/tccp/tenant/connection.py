"""A tenant's connection to a coordinator: nothing of hers goes out before the coordinator is verified.

    with TenantConnection.open(host, port, ca_certificate=None) as connection:
        verified = connection.verify(expected)          hello, introduction, perhaps an activation
        connection.read_tile(tile)                      only now

TLS proves nothing here that `tccp.tenant.verification` does not prove again; with a pinned authority it turns other
servers away a little earlier. Blocking, for commands; a daemon that wants it runs it in a thread.
"""

import datetime as dt
import os
import socket
import ssl
import time
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from nacl.signing import SigningKey

from tccp.errors import HostError, ProtocolError, RefusedError
from tccp.model import spki_sha256
from tccp.protocol.conversation import expect
from tccp.protocol.probe import sign_probe
from tccp.protocol.tenant_messages import (
    TENANT_PROTOCOL_VERSION,
    Activate,
    Activated,
    AnyTenantMessage,
    GetTile,
    Introduction,
    LogTile,
    Probed,
    TenantHello,
    TenantRefused,
)
from tccp.protocol.tenant_session import TenantRole, TenantSession
from tccp.tenant.verification import Expectation, VerifiedIntroduction, verify_introduction
from tccp.transparency.tile import Tile
from tccp.transport.certificates import spki_of_certificate
from tccp.transport.tls import SERVER_NAME, tenant_context

CONNECT_S = 10.0
# The coordinator may wait for its own TPM, behind nodes and other tenants.
ANSWER_S = 60.0
READ_BYTES = 65_536

M = TypeVar("M", bound=msgspec.Struct)


class TenantConnection:
    """One connection, made by `open`; a context manager closes it."""

    def __init__(self, stream: ssl.SSLSocket) -> None:
        self._stream = stream
        self._session = TenantSession(TenantRole.TENANT)
        certificate = stream.getpeercert(binary_form=True)
        assert certificate, "a TLS server shows a certificate"
        self.coordinator_spki = spki_sha256(spki_of_certificate(certificate))
        self.shown: Introduction | None = None

    @classmethod
    def open(cls, host: str, port: int, *, ca_certificate: bytes | None = None) -> Self:
        """Connect, and agree on keys.

        Args:
            ca_certificate: PEM of the authority that is pinned; None: nothing is known yet.

        Raises:
            HostError: ``unreachable``.
            ProtocolError: ``tls_handshake``: it shows a certificate of another authority, or speaks no TLS 1.3.
        """
        try:
            plain = socket.create_connection((host, port), CONNECT_S)
        except (OSError, UnicodeError) as problem:  # UnicodeError: nobody can be called so in DNS
            raise HostError("unreachable", f"{host}:{port}: {problem}") from None
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the hello waits 40 ms for an acknowledgement
        stream = plain
        try:
            stream = tenant_context(ca_certificate).wrap_socket(plain, server_hostname=SERVER_NAME)
            return cls(stream)
        except ssl.SSLError as problem:
            stream.close()
            hint = "It is not the coordinator that was pinned." if ca_certificate else ""
            raise ProtocolError("tls_handshake", str(problem), hint=hint) from None
        except OSError as problem:
            stream.close()
            raise HostError("unreachable", f"{host}:{port}: {problem}") from None
        except BaseException:
            stream.close()
            raise

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, without waiting for the peer."""
        self._stream.close()

    def verify(self, expected: Expectation) -> VerifiedIntroduction:
        """Have the coordinator prove itself.

        Raises:
            EvidenceError: It does not; nothing of ours was said.
            RefusedError: It does not want to.
            ProtocolError, HostError: As their names say.
        """
        nonce = os.urandom(32)
        self._send(TenantHello(version=TENANT_PROTOCOL_VERSION, tenant_nonce=nonce))
        self.shown = self._receive(Introduction)
        return verify_introduction(
            self.shown,
            expected,
            nonce=nonce,
            coordinator_spki=self.coordinator_spki,
            now=dt.datetime.now(tz=dt.UTC),
            secret=os.urandom(32),
            ask=self._activate,
        )

    def read_tile(self, tile: Tile) -> bytes:
        """Hashes of the log; a wrong one leads to a proof that does not hold."""
        self._send(GetTile(level=tile.level, index=tile.index, width=tile.width))
        return self._receive(LogTile).content

    def probe(self, node: str, *, nonce: bytes, key: SigningKey, coordinator_id: bytes) -> bytes:
        """Have a node quote; the receipt, which proves itself.

        Raises:
            RefusedError: It does not hold, or the coordinator does not know us.
        """
        own = self.coordinator_spki
        self._send(sign_probe(node, nonce=nonce, key=key, coordinator_id=coordinator_id, coordinator_spki=own))
        return self._receive(Probed).receipt

    def _activate(self, challenge: Activate) -> Activated:
        self._send(challenge)
        return self._receive(Activated)

    def _send(self, message: AnyTenantMessage) -> None:
        try:
            self._stream.settimeout(ANSWER_S)
            self._stream.sendall(self._session.send(message))
        except OSError as problem:
            raise HostError("peer_gone", f"the coordinator does not listen: {problem}") from None

    def _receive(self, kind: type[M]) -> M:
        deadline = time.monotonic() + ANSWER_S
        while (message := self._session.next_message()) is None:
            self._session.receive_data(self._read(deadline))
        if isinstance(message, TenantRefused):
            raise RefusedError(message.reason, "the coordinator refused")
        return expect(message, kind)

    def _read(self, deadline: float) -> bytes:
        try:
            self._stream.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._stream.recv(READ_BYTES)
        except TimeoutError:
            raise HostError("peer_gone", f"no answer in {ANSWER_S:.0f} s") from None
        except ssl.SSLError as problem:
            raise ProtocolError("tls_record", str(problem)) from None
        except OSError as problem:
            raise HostError("peer_gone", str(problem)) from None
        if not data:
            raise HostError("peer_gone", "the coordinator closed the connection")
        return data
