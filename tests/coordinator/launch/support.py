"""What tests of key releases look at, and forge."""

import msgspec

from tccp.config import ReleaseConfig
from tccp.protocol.ticket import SignedTicket, verify_ticket
from tests.support.live_coordinator import LiveCoordinator


async def kinds(coordinator: LiveCoordinator) -> list[str]:
    return [event.kind for event in await coordinator.log()]


async def nothing_was_released(coordinator: LiveCoordinator) -> bool:
    return "release" not in await kinds(coordinator) and not await coordinator.store.vms()


def forged(signed: SignedTicket, **changes: object) -> SignedTicket:
    """The ticket with other words in it, under the signature that it had."""
    ticket = verify_ticket(signed.ticket, signed.signature).ticket
    return SignedTicket(msgspec.msgpack.encode(msgspec.structs.replace(ticket, **changes)), signed.signature)


def accept_evidence_of(coordinator: LiveCoordinator, age_s: int) -> None:
    """As a reload does it: evidence of this age is good enough."""
    releases = ReleaseConfig(evidence_age_s=age_s)
    coordinator.services.config = msgspec.structs.replace(coordinator.services.config, releases=releases)


def framed(message: msgspec.Struct) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body
