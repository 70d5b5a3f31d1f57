"""Many nodes in one process: enrol, register, and answer every challenge, until standard input closes.

    python -m bench.load.nodes --control SOCKET --port PORT --count 1000 [--policy tvmm]

Prints one JSON line when all are admitted, and one at the end.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import trio

from bench.load.software_tpm import SoftwareTpm
from tccp.control.client import ControlClient
from tccp.errors import TccpError
from tccp.model import PcrBank, PcrSelection
from tccp.node.identity import make_node_identity
from tccp.node.registration import connect, door_context
from tccp.protocol import binding
from tccp.protocol import control as c
from tccp.protocol.messages import (
    PROTOCOL_VERSION,
    Admitted,
    Challenge,
    Evidence,
    Hello,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
)
from tccp.transport.connection import RefusalError, fresh_nonce
from tccp.transport.trust import CoordinatorTrust, parse_trust

HANDSHAKES_AT_ONCE = 64


class LoadNode:
    """One node: its software TPM, its keys, its session."""

    def __init__(self, name: str, delay_s: float) -> None:
        self.tpm, self.identity = SoftwareTpm(), make_node_identity(name)
        self.delay_s = delay_s
        self.registration_s = 0.0
        self.renewals = 0

    async def live(
        self, port: int, trust: CoordinatorTrust, limiter: trio.CapacityLimiter, admitted: trio.Event
    ) -> None:
        """Register, then answer challenges."""
        async with limiter:
            began = time.perf_counter()
            connection = await connect("127.0.0.1", port, self.identity, door_context(self.identity, trust))
            channel = connection.channel(trust.coordinator_id, own_end_is_coordinator=False)
            await connection.send(
                Hello(PROTOCOL_VERSION, fresh_nonce().value, b"", (), self.tpm.ek_public, self.tpm.ak_public)
            )
            challenge = await connection.receive(Challenge)
            credential = self.tpm.activate_credential(challenge.id_object, challenge.encrypted_secret)
            selection = PcrSelection(PcrBank(challenge.bank), challenge.pcr_indexes)
            bound = binding.registration(challenge.nonce, channel, self.identity.statement)
            attest, signature, pcrs = self.tpm.quote(bound, selection)
            digests = tuple(pcrs.values.values())
            await connection.send(Evidence(credential, self.identity.statement, attest, signature, digests, b""))
            lease_id = (await connection.receive(Admitted)).lease_id
            self.registration_s = time.perf_counter() - began
        admitted.set()
        while True:
            asked = await connection.receive(RenewalChallenge)
            if self.delay_s:
                await trio.sleep(self.delay_s)
            bound = binding.renewal(asked.nonce, channel, lease_id, self.identity.statement)
            attest, signature, _ = self.tpm.quote(bound, selection)
            await connection.send(RenewalEvidence(attest, signature, digests))
            await connection.receive(Renewed)
            self.renewals += 1


async def run(control: Path, port: int, names: list[str], policy: str, delay_s: float) -> None:
    """Everything; see the module."""
    nodes = [LoadNode(name, delay_s) for name in names]
    with ControlClient(control) as client:
        trust = parse_trust(client.ask(c.GetTrust(), c.TrustFile).body)
        for node in nodes:
            request = c.EnrolNode(node.identity.name, b"", node.tpm.ek_public, policy, {})
            client.ask(request, c.NodeInfo)
    limiter, events = trio.CapacityLimiter(HANDSHAKES_AT_ONCE), [trio.Event() for _ in nodes]
    began, failures = time.perf_counter(), 0

    async def one(node: LoadNode, admitted: trio.Event) -> None:
        nonlocal failures
        try:
            await node.live(port, trust, limiter, admitted)
        except (TccpError, RefusalError) as problem:
            failures += 1
            print(f"{node.identity.name}: {problem!r}", file=sys.stderr)
            admitted.set()

    async with trio.open_nursery() as nursery:
        for node, event in zip(nodes, events, strict=True):
            nursery.start_soon(one, node, event)
        for event in events:
            await event.wait()
        times = [node.registration_s for node in nodes]
        _say(event="registered", seconds=time.perf_counter() - began, failures=failures, times_s=times)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        _say(event="end", renewals=sum(node.renewals for node in nodes), failures=failures)
        nursery.cancel_scope.cancel()


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
    trio.run(run, options.control, options.port, names, options.policy, options.delay_ms / 1000)


if __name__ == "__main__":
    main()
