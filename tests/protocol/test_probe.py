"""A question that makes a node quote: signed for one coordinator, one connection, one node and one nonce."""

import msgspec
import pytest
from nacl.signing import SigningKey

from tccp.errors import LaunchError
from tccp.protocol.probe import sign_probe, verify_probe_signature

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
COORDINATOR, SPKI, NONCE = b"c" * 32, b"t" * 32, b"n" * 32
PROBE = sign_probe("rack1-07", nonce=NONCE, key=KEY, coordinator_id=COORDINATOR, coordinator_spki=SPKI)


def test_what_a_tenant_has_signed_is_accepted() -> None:
    probe = sign_probe("rack1-07", nonce=NONCE, key=KEY, coordinator_id=COORDINATOR, coordinator_spki=SPKI)
    verify_probe_signature(probe, coordinator_id=COORDINATOR, coordinator_spki=SPKI)

    assert probe == PROBE
    assert (PROBE.node, PROBE.nonce, PROBE.tenant_key) == ("rack1-07", NONCE, bytes(KEY.verify_key))


@pytest.mark.parametrize(
    "change",
    [
        {"node": "rack1-08"},
        {"nonce": b"m" * 32},
        {"tenant_key": bytes(OTHER.verify_key)},
        {"tenant_key": b"\xff" * 32},  # no point of the curve
        {"signature": bytes(64)},
        {"signature": OTHER.sign(b"x").signature},
    ],
)
def test_nothing_of_it_can_be_changed(change: dict[str, object]) -> None:
    changed = msgspec.structs.replace(PROBE, **change)

    with pytest.raises(LaunchError) as refused:
        verify_probe_signature(changed, coordinator_id=COORDINATOR, coordinator_spki=SPKI)
    assert refused.value.reason == "probe_signature"


@pytest.mark.parametrize(("coordinator", "spki"), [(b"d" * 32, SPKI), (COORDINATOR, b"u" * 32), (SPKI, COORDINATOR)])
def test_it_cannot_be_passed_on_to_another_coordinator_or_connection(coordinator: bytes, spki: bytes) -> None:
    with pytest.raises(LaunchError, match="probe_signature"):
        verify_probe_signature(PROBE, coordinator_id=coordinator, coordinator_spki=spki)
