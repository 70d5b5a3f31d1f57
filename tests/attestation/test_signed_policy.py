"""A policy with its operator's signature: believed from the operators that one names, as they wrote it."""

import pytest
from nacl.signing import SigningKey

from tccp.attestation.policy import POLICY_BYTES_MAX
from tccp.attestation.signed_policy import DOMAIN, HEADER_BYTES, is_signed, sign_policy, verify_policy
from tccp.errors import PolicyError

OURS, ANOTHERS, STRANGERS = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
KEYS = [ANOTHERS.verify_key, OURS.verify_key]
BODY = b'name = "tvmm"\nversion = 1\n'
SIGNED = sign_policy(BODY, OURS)


def refusal(content: bytes) -> str:
    with pytest.raises(PolicyError) as refused:
        verify_policy(content, KEYS)
    return refused.value.reason


def test_what_one_of_the_operators_has_signed_is_the_policy() -> None:
    for operator in (OURS, ANOTHERS):
        signed = sign_policy(BODY, operator)
        assert is_signed(signed)
        assert verify_policy(signed, KEYS) == BODY
    assert not is_signed(BODY)


def test_it_is_laid_out_for_people_and_signed_in_its_domain() -> None:
    head = SIGNED[:HEADER_BYTES]
    signature = OURS.sign(b"tccp/v1/policy\0" + BODY).signature

    assert head.splitlines() == [
        b"tccp/v1/signed-policy",
        b"key " + bytes(OURS.verify_key).hex().encode(),
        b"signature " + signature.hex().encode(),
        b"",
    ]
    assert SIGNED[HEADER_BYTES:] == BODY


def test_nothing_of_it_can_be_changed() -> None:
    for position in range(len(SIGNED)):
        altered = SIGNED[:position] + bytes([SIGNED[position] ^ 1]) + SIGNED[position + 1 :]
        assert refusal(altered) in {"malformed", "unknown_key", "bad_signature"}
    for cut in (SIGNED[:-1], SIGNED + b"\n", SIGNED[:HEADER_BYTES]):
        assert refusal(cut) == "bad_signature"


def test_a_key_that_nobody_named_signs_no_policy() -> None:
    assert refusal(sign_policy(BODY, STRANGERS)) == "unknown_key"
    with pytest.raises(PolicyError, match="unknown_key"):
        verify_policy(SIGNED, [])


def test_the_name_of_an_operator_is_not_the_signature_of_one() -> None:
    ours, strangers = bytes(OURS.verify_key).hex().encode(), bytes(STRANGERS.verify_key).hex().encode()

    assert refusal(sign_policy(BODY, STRANGERS).replace(strangers, ours)) == "bad_signature"
    assert refusal(sign_policy(BODY, ANOTHERS).replace(bytes(ANOTHERS.verify_key).hex().encode(), ours)) == (
        "bad_signature"
    )


def test_what_an_operator_signs_elsewhere_is_no_policy() -> None:
    signature = SIGNED[HEADER_BYTES - 130 : HEADER_BYTES - 2]
    for other in (BODY, DOMAIN + BODY, b"tccp/v2/policy\0" + BODY):
        elsewhere = OURS.sign(other).signature.hex().encode()
        assert refusal(SIGNED.replace(signature, elsewhere)) == "bad_signature"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        BODY,
        b"\n" + SIGNED,
        SIGNED.replace(b"\n\n", b"\n", 1),
        SIGNED.replace(b"key ", b"key  "),
        SIGNED.replace(bytes(OURS.verify_key).hex().encode(), bytes(OURS.verify_key).hex().upper().encode()),
        SIGNED.replace(bytes(OURS.verify_key).hex().encode(), bytes(OURS.verify_key).hex()[2:].encode()),
    ],
)
def test_what_is_laid_out_otherwise_is_no_signed_policy(content: bytes) -> None:
    assert refusal(content) == "malformed"


def test_the_longest_policy_may_be_signed_and_no_longer_one() -> None:
    longest = BODY.ljust(POLICY_BYTES_MAX, b"#")

    assert verify_policy(sign_policy(longest, OURS), KEYS) == longest
    assert refusal(sign_policy(longest + b"#", OURS)) == "too_large"
