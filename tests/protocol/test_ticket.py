"""Tickets: what passes, and one vector for each way not to."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tccp.errors import LaunchError
from tccp.protocol.encoding import encode
from tccp.protocol.ticket import (
    HEADED_BY_KEY,
    PREFIX,
    SignedTicket,
    Ticket,
    VerifiedTicket,
    check_addressee,
    check_validity,
    keys_info,
    read_ticket_file,
    release_info,
    sign_ticket,
    verify_ticket,
)
from tests.vectors.launch.make import TENANT, vectors

DOCUMENT = json.loads((Path(__file__).parents[1] / "vectors/launch/vectors.json").read_text())
TICKETS = DOCUMENT["tickets"]
GOOD = SignedTicket(bytes.fromhex(TICKETS[0]["ticket"]), bytes.fromhex(TICKETS[0]["signature"]))


def accept(ticket: bytes, signature: bytes) -> VerifiedTicket:
    """As the coordinator of the vectors does."""
    verified = verify_ticket(ticket, signature)
    check_addressee(verified, bytes.fromhex(DOCUMENT["coordinator_id"]))
    check_validity(verified, 1000 * DOCUMENT["now_s"])
    return verified


@pytest.mark.parametrize("vector", TICKETS, ids=lambda vector: vector["name"])
def test_a_ticket_is_accepted_or_refused_for_its_reason(vector: dict[str, str]) -> None:
    ticket, signature = bytes.fromhex(vector["ticket"]), bytes.fromhex(vector["signature"])
    if vector["expect"] == "accepted":
        assert encode(accept(ticket, signature).ticket) == ticket
        return
    with pytest.raises(LaunchError) as refusal:
        accept(ticket, signature)
    assert refusal.value.reason == vector["expect"]


def test_the_vectors_are_those_that_their_program_makes() -> None:
    assert [(each["name"], each["expect"], each["ticket"], each["signature"]) for each in TICKETS] == [
        (name, reason, ticket.hex(), signature.hex()) for name, reason, ticket, signature in vectors()
    ]


@given(st.integers(0, 8 * len(GOOD.ticket) - 1))
def test_no_bit_of_a_ticket_can_be_changed(bit: int) -> None:
    altered = bytearray(GOOD.ticket)
    altered[bit // 8] ^= 1 << bit % 8

    with pytest.raises(LaunchError):
        verify_ticket(bytes(altered), GOOD.signature)


def test_what_a_stranger_changes_and_signs_is_a_ticket_of_the_stranger() -> None:
    """The control: the signature holds, so that only the record of tenants keeps her out."""
    stranger = SigningKey.generate()
    honest = verify_ticket(GOOD.ticket, GOOD.signature).ticket
    hers = sign_ticket(msgspec.structs.replace(honest, tenant_key=bytes(stranger.verify_key)), stranger)

    assert verify_ticket(hers.ticket, hers.signature).ticket.tenant_key == bytes(stranger.verify_key)


def test_every_ticket_begins_with_its_domain_and_its_tenants_key() -> None:
    assert GOOD.ticket.startswith(PREFIX + bytes(TENANT.verify_key))
    assert len(msgspec.structs.fields(Ticket)) == PREFIX[0] & 0x0F


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ticket_malformed"),
        (PREFIX, "ticket_malformed"),
        (GOOD.ticket[: HEADED_BY_KEY - 1], "ticket_malformed"),
        (GOOD.ticket[:HEADED_BY_KEY], "ticket_signature"),  # names a tenant, who has not signed that
        (b"\x8e" + GOOD.ticket[1:], "ticket_malformed"),
    ],
    ids=["nothing", "no key", "half a key", "a key alone", "another beginning"],
)
def test_whose_ticket_it_is_must_be_said_before_a_signature_is_looked_at(body: bytes, reason: str) -> None:
    with pytest.raises(LaunchError) as refusal:
        verify_ticket(body, GOOD.signature)
    assert refusal.value.reason == reason


def test_a_signed_body_that_is_no_ticket_is_malformed() -> None:
    """The signature holds, so what refuses it is the structure; it is looked at last."""
    for body in (GOOD.ticket[:HEADED_BY_KEY], GOOD.ticket + b"\xc0"):
        with pytest.raises(LaunchError) as refusal:
            verify_ticket(body, TENANT.sign(body).signature)
        assert refusal.value.reason == "ticket_malformed"


def test_a_file_that_is_no_ticket_is_refused_as_one() -> None:
    assert read_ticket_file(encode(GOOD)) == GOOD
    for content in (b"", b"\x00", GOOD.ticket, encode(GOOD) + b"\x00"):
        with pytest.raises(LaunchError) as refusal:
            read_ticket_file(content)
        assert refusal.value.reason == "ticket_malformed"


def test_whom_a_ticket_was_written_for_is_told() -> None:
    with pytest.raises(LaunchError) as refusal:
        check_addressee(verify_ticket(GOOD.ticket, GOOD.signature), b"\xab" * 32)
    assert refusal.value.detail == "for 0202020202020202, this is abababababababab"


def test_keys_are_bound_to_tenant_vm_and_images() -> None:
    images = verify_ticket(GOOD.ticket, GOOD.signature).ticket.images
    bound = {
        keys_info(tenant, vm_id, named)
        for tenant in (b"a" * 32, b"b" * 32)
        for vm_id in (b"a" * 16, b"b" * 16)
        for named in (images, images[::-1], images[:2])
    }
    assert len(bound) == 12


def test_released_keys_are_bound_to_ticket_vm_epoch_lease_and_nonce() -> None:
    one, other = (b"t" * 32, b"v" * 16, 1, b"l" * 16, b"n" * 32), (b"T" * 32, b"V" * 16, 2, b"L" * 16, b"N" * 32)
    bound = {release_info(*one[:at], other[at], *one[at + 1 :]) for at in range(5)}  # type: ignore[arg-type]

    assert len(bound | {release_info(*one)}) == 6
    assert {len(info) for info in bound} == {len(release_info(*one))}
