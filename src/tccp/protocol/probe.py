"""A tenant's question about one node, which she signs: only whom the coordinator knows may make a node quote."""

import hashlib

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tccp.errors import LaunchError
from tccp.protocol.tenant_messages import Probe

PROBE = "probe"  # the kind of its entry in the log
_DOMAIN = b"tccp/v1/probe\0"


def sign_probe(node: str, *, nonce: bytes, key: SigningKey, coordinator_id: bytes, coordinator_spki: bytes) -> Probe:
    """A question about *node* for one connection.

    Args:
        nonce: 32 bytes of hers, fresh; the log's entry repeats them.
        coordinator_spki: SHA-256 of the coordinator's TLS key on this connection.
    """
    signature = key.sign(_signed(node, nonce, coordinator_id, coordinator_spki)).signature
    return Probe(node=node, nonce=nonce, tenant_key=bytes(key.verify_key), signature=signature)


def verify_probe_signature(probe: Probe, *, coordinator_id: bytes, coordinator_spki: bytes) -> None:
    """Check that the tenant of the question's key asks us, on a connection to this TLS key.

    Raises:
        LaunchError: ``probe_signature``.
    """
    try:
        signed = _signed(probe.node, probe.nonce, coordinator_id, coordinator_spki)
        VerifyKey(probe.tenant_key).verify(signed, probe.signature)
    except (BadSignatureError, ValueError):
        raise LaunchError("probe_signature", "the key in the question has not signed it for us") from None


def _signed(node: str, nonce: bytes, coordinator_id: bytes, coordinator_spki: bytes) -> bytes:
    return _DOMAIN + coordinator_id + coordinator_spki + nonce + hashlib.sha256(node.encode()).digest()
