"""Nodes that are their keys and a connection: enrolment, registration, and an answer to each challenge.

The TPM is software in this process (`bench.load.software_tpm`) with real keys, so every quote is a fresh signature over
a fresh nonce. Hundreds or thousands of them live in one process; `bench.load.crowd` is that process.
"""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from bench.load.software_tpm import SoftwareTpm
from tccp.attestation.ek_id import ek_id_of, ek_spki_of
from tccp.control.client import ControlClient
from tccp.errors import TccpError
from tccp.model import PcrBank, PcrSelection
from tccp.node.identity import make_node_identity
from tccp.node.registration import connect, door_context
from tccp.protocol import binding
from tccp.protocol import control as c
from tccp.protocol.binding import Channel
from tccp.protocol.messages import (
    PROTOCOL_VERSION,
    Admitted,
    AnyMessage,
    Challenge,
    Evidence,
    Hello,
    RenewalChallenge,
    RenewalEvidence,
)
from tccp.transport.connection import Connection, RefusalError, fresh_nonce
from tccp.transport.tls_stream import TlsStream
from tccp.transport.trust import CoordinatorTrust, parse_trust

HANDSHAKES_AT_ONCE = 64
IMPORT_AT_ONCE = 2_000  # a request on the control socket is one frame
# What is wrong with bad evidence, in turn; and what the coordinator calls each.
FAULTS = {"signature": "signature", "nonce": "nonce", "pcrs": "pcr_digest"}


class LoadNode:
    """One node: its software TPM, its keys, its session."""

    def __init__(self, name: str) -> None:
        self.tpm, self.identity = SoftwareTpm(), make_node_identity(name)
        self.registration_s = 0.0
        self.fault = ""  # of its next answer, one of `FAULTS`
        self.answered_at = 0.0
        self.connection: Connection
        self.coordinator_statement: bytes
        self._context: ssl.SSLContext | None = None
        self._channel: Channel
        self._selection: PcrSelection
        self._digests: tuple[bytes, ...]

    @property
    def stream(self) -> TlsStream:
        """Its end of the connection."""
        stream = self.connection._stream
        assert isinstance(stream, TlsStream)
        return stream

    @property
    def fd(self) -> int:
        """The descriptor of its socket."""
        return self.stream._socket.fileno()

    async def register(self, port: int, trust: CoordinatorTrust) -> None:
        """Messages 1 to 4, without looking at the coordinator's evidence."""
        began = time.perf_counter()
        if self._context is None:
            self._context = door_context(self.identity, trust)
        self.connection = await connect("127.0.0.1", port, self.identity, self._context)
        try:
            await self._be_admitted(trust)
        except BaseException:
            self.connection.close()
            raise
        self.registration_s = time.perf_counter() - began

    async def _be_admitted(self, trust: CoordinatorTrust) -> None:
        self._channel = self.connection.channel(trust.coordinator_id, own_end_is_coordinator=False)
        hello = Hello(PROTOCOL_VERSION, fresh_nonce().value, b"", (), self.tpm.ek_public, self.tpm.ak_public)
        await self.connection.send(hello)
        challenge = await self.connection.receive(Challenge)
        self.coordinator_statement = challenge.coordinator.statement
        credential = self.tpm.activate_credential(challenge.id_object, challenge.encrypted_secret)
        self._selection = PcrSelection(PcrBank(challenge.bank), challenge.pcr_indexes)
        bound = binding.registration(challenge.nonce, self._channel, self.identity.statement)
        attest, signature, pcrs = self.tpm.quote(bound, self._selection)
        self._digests = tuple(pcrs.values.values())
        evidence = Evidence(credential, self.identity.statement, attest, signature, self._digests, b"")
        await self.connection.send(evidence)
        await self.connection.receive(Admitted)

    def answer(self, asked: RenewalChallenge) -> None:
        """A fresh quote, or a bad one."""
        fault, self.fault = self.fault, ""
        nonce = bytes(32) if fault == "nonce" else asked.nonce
        bound = binding.renewal(nonce, self._channel, asked.lease_id, self.identity.statement)
        attest, signature, _ = self.tpm.quote(bound, self._selection)
        if fault == "signature":
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        digests = tuple(b"\xbd" * 32 for _ in self._digests) if fault == "pcrs" else self._digests
        self.answered_at = time.perf_counter()
        self.connection.send_nowait(RenewalEvidence(attest, signature, digests))

    def arrived(self) -> Iterator[AnyMessage]:
        """What the coordinator says, read from the socket without waiting.

        Raises:
            ConnectionError: It has closed the connection.
        """
        data = self.stream._socket.recv(65_536)
        if not data:
            raise ConnectionResetError
        self.stream._incoming.write(data)
        session = self.connection._session
        try:
            while plain := self.stream._tls.read(65_536):
                session.receive_data(plain)
        except ssl.SSLWantReadError:
            pass
        while (message := session.next_message()) is not None:
            yield message


def enrol_all(control: Path, nodes: list[LoadNode], policy: str) -> CoordinatorTrust:
    """Take every node into the perimeter; what they trust."""
    with ControlClient(control) as client:
        for start in range(0, len(nodes), IMPORT_AT_ONCE):
            enrolled = tuple(
                c.EnrolledNode(
                    name=node.identity.name,
                    ek_id=ek_id_of(node.tpm.ek_public),
                    ek_public=ek_spki_of(node.tpm.ek_public),
                    policy=policy,
                    attributes={},
                )
                for node in nodes[start : start + IMPORT_AT_ONCE]
            )
            client.ask(c.ImportNodes(c.PerimeterRecord(enrolled)), c.Done)
        return parse_trust(client.ask(c.GetTrust(), c.TrustFile).body)


async def register_all(port: int, nodes: list[LoadNode], trust: CoordinatorTrust) -> list[str]:
    """Register every node, `HANDSHAKES_AT_ONCE`; what went wrong."""
    limiter, failures = trio.CapacityLimiter(HANDSHAKES_AT_ONCE), []

    async def one(node: LoadNode) -> None:
        try:
            async with limiter:
                await node.register(port, trust)
        except (TccpError, RefusalError) as problem:
            failures.append(f"{node.identity.name}: {problem!r}")

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(one, node)
    return failures
