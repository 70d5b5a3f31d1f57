"""What comes from a wire is a legal message or a ProtocolError, never anything else."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import ProtocolError
from tccp.protocol.control_roles import ROLE_NEEDED, CoordinatorRequest, NodeRequest
from tccp.protocol.encoding import ITEMS_MAX, decode, encode
from tccp.protocol.messages import AnyMessage, Refused, RenewalEvidence

EVIDENCE = RenewalEvidence(attest=b"a" * 100, signature=b"s" * 64, pcrs=(b"p" * 32,))


def test_a_message_survives_the_way() -> None:
    assert decode(encode(EVIDENCE), AnyMessage) == EVIDENCE


@given(st.binary(max_size=400))
def test_garbage_is_a_protocol_error_and_nothing_else(garbage: bytes) -> None:
    try:
        message = decode(garbage, AnyMessage)
    except ProtocolError:
        return
    assert decode(encode(message), AnyMessage) == message


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(), st.lists))
def test_well_formed_msgpack_that_is_no_message_is_a_protocol_error(value: object) -> None:
    for payload in (msgpack.packb(value), msgpack.packb(["renewal_evidence", value]), msgpack.packb([value, b"", b""])):
        with pytest.raises(ProtocolError, match="not_a_message"):
            decode(payload, AnyMessage)


@given(st.integers(0, 220), st.integers(0, 255))
def test_a_changed_byte_gives_another_message_or_a_protocol_error(position: int, value: int) -> None:
    payload = bytearray(encode(EVIDENCE))
    payload[position % len(payload)] = value
    try:
        message = decode(bytes(payload), AnyMessage)
    except ProtocolError:
        return
    assert encode(message) == bytes(payload)


@pytest.mark.parametrize(
    "plain",
    [
        ["refused"],
        ["refused", "reason", "more"],
        ["refused", b"reason"],
        ["refused", "Reason with spaces"],
        ["refused", "r" * 65],
        ["refused", "reason\n"],
        {"type": "refused", "reason": "x"},
        ["renewal_evidence", "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh", b"s" * 64, [b"p" * 32]],  # base64 is not bytes
        ["renewal_evidence", b"a" * 2305, b"s" * 64, [b"p" * 32]],
        ["renewal_evidence", b"a" * 100, b"s" * 64, []],
        ["renewal_evidence", b"a" * 100, b"s" * 64, [b"p" * 32] * 25],
        ["renewal_evidence", b"a" * 100, b"s" * 64, [b"p" * 65]],
    ],
)
def test_what_breaks_a_constraint_of_the_schema_is_refused(plain: object) -> None:
    with pytest.raises(ProtocolError, match="not_a_message"):
        decode(msgpack.packb(plain), AnyMessage)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x91" * 100_000,  # nested arrays
        b"\xdd\xff\xff\xff\xff",  # an array that announces 4 billion items
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd4\x01\x00",  # an extension type
        b"\xc1",  # never used by msgpack
        encode(EVIDENCE) + b"\xc0",
        encode(EVIDENCE)[:-1],
        b"",
    ],
)
def test_what_would_cost_memory_or_is_no_single_object_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="not_a_message"):
        decode(payload, AnyMessage)


def test_an_array_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ProtocolError, match="exceeds max_array_len"):
        decode(msgpack.packb([0] * (ITEMS_MAX + 1)), AnyMessage)


@pytest.mark.parametrize(
    ("largest", "larger", "kind"),
    [
        ([0] * ITEMS_MAX, [0] * (ITEMS_MAX + 1), tuple[int, ...]),
        ("x" * 65_536, "x" * 65_537, str),
        ({str(number): 0 for number in range(256)}, {str(number): 0 for number in range(257)}, dict[str, int]),
        ({"1": 0}, {1: 0}, dict[str | int, int]),  # keys that can be made to collide
        (b"", msgpack.ExtType(1, b"x"), Any),
    ],
    ids=["array", "text", "map", "key", "extension"],
)
def test_limits_hold_whatever_the_type_would_take(largest: object, larger: object, kind: Any) -> None:
    taken = decode(msgpack.packb(largest), kind)
    assert (list(taken) if isinstance(taken, tuple) else taken) == largest

    with pytest.raises(ProtocolError) as refused:
        decode(msgpack.packb(larger), kind)
    assert refused.value.reason == "not_a_message"
    assert refused.value.detail.startswith("not msgpack: ")


def test_a_field_of_another_type_is_not_made_to_fit() -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(msgpack.packb("7"), int)
    assert refused.value.reason == "not_a_message"


def test_every_request_of_the_control_socket_needs_a_role() -> None:
    requests = {*CoordinatorRequest.__args__, *NodeRequest.__args__}

    assert requests == set(ROLE_NEEDED)
    assert all(role > 0 for role in ROLE_NEEDED.values())


def test_reasons_of_ours_fit_the_schema() -> None:
    assert decode(encode(Refused(reason="pcr_not_in_policy")), AnyMessage) == Refused(reason="pcr_not_in_policy")
