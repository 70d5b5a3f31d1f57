"""Nodes that ask for the keys of VMs: enrol and register some, then use tickets up, as fast as the coordinator answers.

    python -m bench.load.releasing --control SOCKET --port PORT --nodes 32 --tickets 2000 --at-once 64

Prints one JSON line: how long it took, and the time of each request.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import trio
from nacl.signing import SigningKey

from bench.load.nodes import LoadNode, enrol_all, register_all
from tccp.control.client import ControlClient
from tccp.core.image import ImageKey
from tccp.image.entrusting import wrap_keys
from tccp.image.keys import RecipientPublicKey
from tccp.protocol.messages import KeyRefused, KeyRelease, KeyRequest, RenewalChallenge
from tccp.protocol.statements import CoordinatorStatement, coordinator_id, decode_coordinator
from tccp.protocol.ticket import DOMAIN, PolicyDemand, Ticket, TicketImage, VmShape, keys_info, sign_ticket
from tccp.protocol.vm_control import AddTenant, TenantInfo

IMAGES = 3
SHAPE = VmShape(vcpus=2, memory_mib=2048, firmware="direct", cmdline="console=ttyS0", networks=())


def make_request(tenant: SigningKey, coordinator: CoordinatorStatement) -> KeyRequest:
    """A ticket for a new VM of three images."""
    vm_id, tenant_key, now = os.urandom(16), bytes(tenant.verify_key), int(time.time())
    roles = ("kernel", "initrd", "disk")
    images = tuple(TicketImage(role, os.urandom(16), os.urandom(32)) for role in roles)  # type: ignore[arg-type]
    keys = [ImageKey.generate() for _ in range(1 + IMAGES)]
    ticket = Ticket(
        domain=DOMAIN,
        tenant_key=tenant_key,
        coordinator_id=coordinator_id(coordinator.identity_key),
        vm_id=vm_id,
        nonce=os.urandom(32),
        not_before_s=now - 60,
        not_after_s=now + 3600,
        shape=SHAPE,
        images=images,
        wrapped_keys=wrap_keys(keys, RecipientPublicKey(coordinator.release_key), keys_info(tenant_key, vm_id, images)),
        policy=PolicyDemand("tvmm", 1, {}),
        attributes={},
        disk_state="registered",
        permissions=(),
    )
    signed = sign_ticket(ticket, tenant)
    return KeyRequest(signed.ticket, signed.signature, os.urandom(32))


async def use_up(node: LoadNode, requests: list[KeyRequest], at_once: int, times_s: list[float]) -> None:
    """Ask for each, with *at_once* of them under way."""
    asked: dict[bytes, float] = {}

    def ask_more() -> None:
        while requests and len(asked) < at_once:
            request = requests.pop()
            asked[request.nonce] = time.perf_counter()
            node.connection.send_nowait(request)

    ask_more()
    while asked:
        message = await node.connection.receive_any()
        if isinstance(message, RenewalChallenge):
            node.answer(message)
        elif isinstance(message, KeyRelease | KeyRefused):
            assert isinstance(message, KeyRelease), message
            times_s.append(time.perf_counter() - asked.pop(message.nonce))
            ask_more()


async def run(arguments: argparse.Namespace) -> None:
    """Everything."""
    nodes = [LoadNode(f"release-{arguments.first + number}") for number in range(arguments.nodes)]
    failures = await register_all(arguments.port, nodes, enrol_all(arguments.control, nodes, "tvmm"))
    assert not failures, failures
    tenant = SigningKey.generate()
    with ControlClient(arguments.control) as client:
        client.ask(AddTenant(f"tenant-{arguments.first}", bytes(tenant.verify_key)), TenantInfo)
    coordinator = decode_coordinator(nodes[0].coordinator_statement)
    requests = [make_request(tenant, coordinator) for _ in range(arguments.tickets)]
    print(json.dumps({"ready": True}), flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    times_s: list[float] = []
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number, node in enumerate(nodes):
            share = requests[number :: len(nodes)]
            nursery.start_soon(use_up, node, share, max(arguments.at_once // len(nodes), 1), times_s)
    print(json.dumps({"seconds": time.perf_counter() - began, "times_s": times_s}), flush=True)
    for node in nodes:
        node.connection.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--tickets", type=int, required=True)
    parser.add_argument("--at-once", type=int, default=1)
    trio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
