"""A policy with its operator's signature, in one file that people can read::

    tccp/v1/signed-policy
    key <64 hex digits>
    signature <128 hex digits>

    name = "tvmm-2026"
    ...

The signature (Ed25519) is over the domain, a zero byte and the policy, byte for byte as it stands below the empty line.
"""

import re
from collections.abc import Collection

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tccp.attestation.policy import POLICY_BYTES_MAX
from tccp.errors import PolicyError

DOMAIN = b"tccp/v1/policy"
HEADER = re.compile(rb"tccp/v1/signed-policy\nkey ([0-9a-f]{64})\nsignature ([0-9a-f]{128})\n\n")
HEADER_BYTES = len(b"tccp/v1/signed-policy\nkey \nsignature \n\n") + 64 + 128


def sign_policy(body: bytes, key: SigningKey) -> bytes:
    """The policy *body* signed by an operator."""
    signature = key.sign(DOMAIN + b"\0" + body).signature
    head = f"tccp/v1/signed-policy\nkey {bytes(key.verify_key).hex()}\nsignature {signature.hex()}\n\n"
    return head.encode("ascii") + body


def is_signed(content: bytes) -> bool:
    """Whether *content* claims to be a signed policy."""
    return content.startswith(b"tccp/v1/signed-policy\n")


def verify_policy(content: bytes, keys: Collection[VerifyKey]) -> bytes:
    """The policy that one of *keys* has signed.

    Raises:
        PolicyError: ``malformed``, ``too_large``; ``unknown_key``: somebody else's; ``bad_signature``.
    """
    if len(content) > HEADER_BYTES + POLICY_BYTES_MAX:
        raise PolicyError("too_large", f"{len(content)} bytes are not a signed policy")
    head = HEADER.match(content)
    if head is None:
        raise PolicyError("malformed", "no signed policy")
    claimed_key, signature = (bytes.fromhex(digits.decode("ascii")) for digits in head.groups())
    body = content[head.end() :]
    for key in keys:
        if bytes(key) == claimed_key:
            try:
                key.verify(DOMAIN + b"\0" + body, signature)
            except BadSignatureError:
                raise PolicyError("bad_signature", "the policy is not what this key has signed") from None
            return body
    raise PolicyError("unknown_key", f"signed by {claimed_key.hex()}, who is none of those given")
