"""Many nodes in one process: enrol, register, and answer every challenge, until standard input closes.

    python -m bench.load.nodes --control SOCKET --port PORT --count 1000 [--policy tvmm]

Prints one JSON line when all are admitted, and one at the end.
"""

import argparse
import collections
import json
import select
import ssl
import sys
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
    Renewed,
)
from tccp.transport.connection import Connection, RefusalError, fresh_nonce
from tccp.transport.tls_stream import TlsStream
from tccp.transport.trust import CoordinatorTrust, parse_trust

HANDSHAKES_AT_ONCE = 64


class LoadNode:
    """One node: its software TPM, its keys, its session."""

    def __init__(self, name: str) -> None:
        self.tpm, self.identity = SoftwareTpm(), make_node_identity(name)
        self.registration_s = 0.0
        self.connection: Connection
        self.coordinator_statement: bytes
        self._channel: Channel
        self._selection: PcrSelection
        self._digests: tuple[bytes, ...]

    async def register(self, port: int, trust: CoordinatorTrust) -> None:
        """Messages 1 to 4, without looking at the coordinator's evidence."""
        began = time.perf_counter()
        self.connection = await connect("127.0.0.1", port, self.identity, door_context(self.identity, trust))
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
        self.registration_s = time.perf_counter() - began

    def answer(self, asked: RenewalChallenge) -> None:
        """A fresh quote."""
        bound = binding.renewal(asked.nonce, self._channel, asked.lease_id, self.identity.statement)
        attest, signature, _ = self.tpm.quote(bound, self._selection)
        self.connection.send_nowait(RenewalEvidence(attest, signature, self._digests))


async def register_all(control: Path, port: int, nodes: list[LoadNode], policy: str) -> None:
    """Enrol and register every node."""
    with ControlClient(control) as client:
        trust = parse_trust(client.ask(c.GetTrust(), c.TrustFile).body)
        enrolled = tuple(
            c.EnrolledNode(
                name=node.identity.name,
                ek_id=ek_id_of(node.tpm.ek_public),
                ek_public=ek_spki_of(node.tpm.ek_public),
                policy=policy,
                attributes={},
            )
            for node in nodes
        )
        client.ask(c.ImportNodes(c.PerimeterRecord(enrolled)), c.Done)
    limiter = trio.CapacityLimiter(HANDSHAKES_AT_ONCE)
    began, failures = time.perf_counter(), 0

    async def one(node: LoadNode) -> None:
        nonlocal failures
        try:
            async with limiter:
                await node.register(port, trust)
        except (TccpError, RefusalError) as problem:
            failures += 1
            print(f"{node.identity.name}: {problem!r}", file=sys.stderr)

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(one, node)
    times = [node.registration_s for node in nodes]
    _say(event="registered", seconds=time.perf_counter() - began, failures=failures, times_s=times)


def answer_all(nodes: list[LoadNode], delay_s: float) -> None:
    """Answer challenges, each after *delay_s*, until standard input ends.

    A loop over epoll and the node's own session and TLS: one core of this must keep one core of a coordinator busy.
    """
    poll = select.epoll()
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    by_fd = {}
    for node in nodes:
        stream = node.connection._stream
        by_fd[stream._socket.fileno()] = node, stream
        poll.register(stream._socket.fileno(), select.EPOLLIN)
    renewals, waiting = 0, collections.deque[tuple[float, LoadNode, RenewalChallenge]]()
    while True:
        timeout = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        for fd, _ in poll.poll(timeout):
            if fd == sys.stdin.fileno():
                _say(event="end", renewals=renewals)
                return
            node, stream = by_fd[fd]
            for message in _arrived(node.connection, stream):
                if isinstance(message, RenewalChallenge):
                    waiting.append((time.monotonic() + delay_s, node, message))
                else:
                    assert isinstance(message, Renewed), message
                    renewals += 1
        while waiting and waiting[0][0] <= time.monotonic():
            _, node, asked = waiting.popleft()
            node.answer(asked)


def _arrived(connection: Connection, stream: TlsStream) -> Iterator[AnyMessage]:
    stream._incoming.write(stream._socket.recv(65_536))
    session = connection._session
    try:
        while True:
            session.receive_data(stream._tls.read(65_536))
    except ssl.SSLWantReadError:
        pass
    while (message := session.next_message()) is not None:
        yield message


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first node's name")
    parser.add_argument("--policy", default="tvmm")
    parser.add_argument("--delay-ms", type=float, default=0, help="round-trip time that each answer takes beside")
    options = parser.parse_args()
    names = [f"load-{number}" for number in range(options.first, options.first + options.count)]
    nodes = [LoadNode(name) for name in names]
    trio.run(register_all, options.control, options.port, nodes, options.policy)
    answer_all(nodes, options.delay_ms / 1000)


if __name__ == "__main__":
    main()
