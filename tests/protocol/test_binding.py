"""A quote is bound to one exchange, nonce, coordinator, pair of TLS keys and identity: change any, change all."""

import itertools

import pytest

from tccp.errors import ProtocolError
from tccp.protocol import binding
from tccp.protocol.binding import Channel
from tccp.protocol.encoding import encode
from tccp.protocol.statements import (
    COORDINATOR_DOMAIN,
    NODE_DOMAIN,
    CoordinatorStatement,
    IdentityStatement,
    coordinator_id,
    decode_coordinator,
    decode_identity,
    encode_statement,
)

A, B = b"a" * 32, b"b" * 32
CHANNEL = Channel(A, A, A)
OTHER_CHANNELS = [Channel(B, A, A), Channel(A, B, A), Channel(A, A, B)]
LEASE = b"l" * 16


def test_no_part_of_a_binding_can_be_exchanged() -> None:
    values = [
        binding.registration(A, CHANNEL, b"identity"),
        binding.registration(B, CHANNEL, b"identity"),
        binding.registration(A, CHANNEL, b"another"),
        *(binding.registration(A, channel, b"identity") for channel in OTHER_CHANNELS),
        binding.renewal(A, CHANNEL, LEASE, b"identity"),
        binding.renewal(B, CHANNEL, LEASE, b"identity"),
        binding.renewal(A, CHANNEL, b"m" * 16, b"identity"),
        binding.renewal(A, CHANNEL, LEASE, b"another"),
        *(binding.renewal(A, channel, LEASE, b"identity") for channel in OTHER_CHANNELS),
        binding.coordinator_leaf(A, CHANNEL),
        binding.coordinator_leaf(B, CHANNEL),
        *(binding.coordinator_leaf(A, channel) for channel in OTHER_CHANNELS),
        binding.coordinator(A, b"identity"),
        binding.coordinator(B, b"identity"),
        binding.coordinator(A, b"another"),
        binding.tenant_leaf(A, A, A),
        binding.tenant_leaf(B, A, A),
        binding.tenant_leaf(A, B, A),
        binding.tenant_leaf(A, A, B),
        binding.coordinator_start(A, 1, A),
        binding.coordinator_start(B, 1, A),
        binding.coordinator_start(A, 256, A),
        binding.coordinator_start(A, 1, B),
    ]

    assert all(len(value) == 32 for value in values)
    for one, other in itertools.combinations(values, 2):
        assert one != other


def test_parts_of_other_lengths_are_bugs() -> None:
    assert Channel(A, B, A) == OTHER_CHANNELS[1]
    for lengths in ((31, 32, 32), (32, 31, 32), (32, 32, 31)):
        with pytest.raises(AssertionError):
            Channel(*(bytes(length) for length in lengths))
        with pytest.raises(AssertionError):
            binding.tenant_leaf(*(bytes(length) for length in lengths))
    for identity, root in ((31, 32), (32, 31), (33, 33)):
        with pytest.raises(AssertionError):
            binding.coordinator_start(bytes(identity), 1, bytes(root))
    for nonce, lease in ((31, 16), (33, 16), (32, 15), (32, 17)):
        with pytest.raises(AssertionError):
            binding.renewal(bytes(nonce), CHANNEL, bytes(lease), b"identity")
    for odd in (A[:-1], A + b"x"):
        with pytest.raises(AssertionError):
            binding.registration(odd, CHANNEL, b"identity")
        with pytest.raises(AssertionError):
            binding.coordinator_leaf(odd, CHANNEL)
        with pytest.raises(AssertionError):
            binding.coordinator(odd, b"statement")


def test_a_statement_of_one_kind_is_none_of_the_other() -> None:
    node = IdentityStatement(NODE_DOMAIN, "n", LEASE, A, b"h" * 1216, A, "1")
    coordinator = CoordinatorStatement(COORDINATOR_DOMAIN, A, A, A, A, b"h" * 1216, "1")

    assert decode_identity(encode_statement(node)) == node
    assert decode_coordinator(encode_statement(coordinator)) == coordinator
    for wrong, decoder in ((node, decode_coordinator), (coordinator, decode_identity)):
        with pytest.raises(ProtocolError):
            decoder(encode(wrong))


def test_a_statement_with_another_domain_is_refused() -> None:
    node = IdentityStatement("tccp/v2/node-identity", "n", LEASE, A, b"h" * 1216, A, "1")
    coordinator = CoordinatorStatement(NODE_DOMAIN, A, A, A, A, b"h" * 1216, "1")
    for decoder, statement in ((decode_identity, node), (decode_coordinator, coordinator)):
        with pytest.raises(ProtocolError, match="domain") as refused:
            decoder(encode(statement))
        assert refused.value.reason == "not_a_message"


def test_coordinators_with_other_keys_have_other_ids() -> None:
    assert coordinator_id(A) != coordinator_id(B)
