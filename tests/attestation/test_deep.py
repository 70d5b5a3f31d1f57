"""From a guest's quote to the node that runs it: each link holds, and nothing stands in for another.

With a real vTPM in a real guest: `tests/node/vm/test_deep_attestation.py`.
"""

import datetime as dt
import hashlib
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import NameOID
from nacl.signing import SigningKey

from tccp.attestation.deep import GuestEvidence, VerifiedGuest, verify_guest, vtpm_ek
from tccp.attestation.vtpm_certificate import (
    AK_PURPOSE,
    CERTIFICATE_BYTES_MAX,
    DOMAIN,
    IMAGES_MAX,
    VTPM_CLAIM,
    VtpmClaim,
    VtpmKey,
    decode_claim,
    verify_vtpm_certificate,
)
from tccp.errors import EnrolmentError, QuoteError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.node.vm.certificates import VtpmIssuer
from tests.attestation.test_quote import FORGER, NONCE, PCRS, good_attest
from tests.support.certificates import NOW, new_key
from tests.support.public_areas import ek_area

VM, STATEMENT = b"\x07" * 16, b"an identity statement"
NODE = VtpmIssuer("alpha", SigningKey(b"\x01" * 32), STATEMENT)
SIGNER = bytes(NODE.signing_key.verify_key)
IMAGES = (("kernel", b"\x0a" * 32), ("initrd", b"\x0b" * 32))
CLAIM = NODE.claim(VM, IMAGES)
DER, SPKI_FORMAT = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
AK_SPKI = FORGER.public_key.public_bytes(DER, SPKI_FORMAT)
AK_CERTIFICATE = NODE.certify("ak", AK_SPKI, CLAIM, now=NOW)
ATTEST = good_attest().encode()
EVIDENCE = GuestEvidence(ATTEST, FORGER.sign(ATTEST), PCRS, AK_CERTIFICATE)


def verified(
    evidence: GuestEvidence = EVIDENCE,
    *,
    vm: bytes = VM,
    nonce: bytes = NONCE,
    statement: bytes = STATEMENT,
    signer: bytes = SIGNER,
) -> VerifiedGuest:
    return verify_guest(evidence, vm_id=vm, qualifying_data=nonce, statement=statement, signing_key=signer)


def refusal(certificate: bytes) -> str:
    with pytest.raises(EnrolmentError) as caught:
        verified(replace(EVIDENCE, ak_certificate=certificate))
    return caught.value.reason


def certificate_of(
    key: ed25519.Ed25519PublicKey | rsa.RSAPublicKey, *extensions: x509.ExtensionType, serial: int = 1
) -> bytes:
    """One that the node signs, with these extensions."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alpha")])
    builder = x509.CertificateBuilder(name, name, key, serial, NOW, NOW + dt.timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signing_key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(NODE.signing_key))
    return builder.sign(signing_key, None).public_bytes(DER)


ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
FOR_AK = x509.ExtendedKeyUsage([AK_PURPOSE])
CLAIMED = x509.UnrecognizedExtension(VTPM_CLAIM, CLAIM.encode())


def test_a_guest_is_the_one_whose_node_says_so() -> None:
    guest = verified()

    assert guest.claim == CLAIM
    assert guest.claim.statement_sha256 == hashlib.sha256(STATEMENT).digest()
    assert (guest.quote.pcrs, guest.quote.qualifying_data, guest.quote.ak.spki) == (PCRS, NONCE, AK_SPKI)


def test_another_vm_boot_node_or_nonce_is_another() -> None:
    other = SigningKey(b"\x02" * 32).verify_key
    for change, reason in (
        ({"vm": bytes(16)}, "another_vm"),
        ({"statement": b"of another boot"}, "another_identity"),
        ({"signer": bytes(other)}, "signature"),
        ({"signer": b"no key"}, "malformed"),
        ({"nonce": bytes(32)}, "nonce_mismatch"),
    ):
        with pytest.raises((EnrolmentError, QuoteError)) as caught:
            verified(**change)
        assert caught.value.reason == reason


def test_not_met_the_certificate_of_a_former_node_vouches_on_for_a_key_that_has_moved() -> None:
    """The key goes along with its VM. By the newest statement, which the log has, the former node's word is nothing."""
    there = VtpmIssuer("beta", SigningKey(b"\x02" * 32), b"the statement of another node")
    there_signer = bytes(there.signing_key.verify_key)
    moved = replace(EVIDENCE, ak_certificate=there.certify("ak", AK_SPKI, there.claim(VM, IMAGES), now=NOW))

    assert verified(moved, statement=there.statement, signer=there_signer).quote == verified(EVIDENCE).quote
    with pytest.raises(EnrolmentError, match="signature"):
        verified(EVIDENCE, statement=there.statement, signer=there_signer)


def test_a_quote_of_other_values_is_refused() -> None:
    evil = PcrValues(PCRS.selection, dict(PCRS.values) | {7: b"\xee" * 32})

    with pytest.raises(QuoteError, match="pcr_digest_mismatch"):
        verified(replace(EVIDENCE, pcrs=evil))
    with pytest.raises(ValueError, match="PCR 16 and 23"):
        verified(replace(EVIDENCE, pcrs=PcrValues(PcrSelection.of(PcrBank.SHA256, [16]), {16: bytes(32)})))


def test_no_bit_of_a_certificate_can_be_changed() -> None:
    # One whose last bit is zero, so that it could be called unused.
    even = next(made for _ in range(100) if (made := NODE.certify("ak", AK_SPKI, CLAIM, now=NOW))[-1] & 1 == 0)
    for position in range(len(even)):
        altered = bytearray(even)
        altered[position] ^= 1
        assert refusal(bytes(altered)) in {"signature", "malformed"}


def test_a_certificate_for_something_else_is_none() -> None:
    assert refusal(NODE.certify("ek", AK_SPKI, CLAIM, now=NOW)) == "key_attributes"
    assert (
        refusal(certificate_of(ED25519, x509.ExtendedKeyUsage([AK_PURPOSE, AK_PURPOSE]), CLAIMED)) == "key_attributes"
    )
    assert refusal(certificate_of(ED25519, CLAIMED)) == "malformed"
    assert refusal(certificate_of(ED25519, FOR_AK)) == "malformed"
    assert refusal(certificate_of(ED25519, FOR_AK, x509.UnrecognizedExtension(VTPM_CLAIM, b"no claim"))) == "malformed"
    assert refusal(AK_CERTIFICATE + bytes(CERTIFICATE_BYTES_MAX)) == "too_large"
    assert refusal(b"") == "malformed"


def test_a_key_that_cannot_quote_is_no_ak() -> None:
    assert refusal(certificate_of(ED25519, FOR_AK, CLAIMED)) == "key_attributes"
    weak = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - weak on purpose
    assert refusal(certificate_of(weak, FOR_AK, CLAIMED)) == "key_attributes"


def test_the_ek_of_a_vtpm_is_the_certified_one() -> None:
    key, other = new_key(), new_key()
    certificate = NODE.certify("ek", key.public_key().public_bytes(DER, SPKI_FORMAT), CLAIM, now=NOW)

    def bound(area: bytes, certificate: bytes = certificate, vm: bytes = VM) -> bytes:
        return vtpm_ek(area, certificate, vm_id=vm, statement=STATEMENT, signing_key=SIGNER).public.area

    assert bound(ek_area(key)) == ek_area(key)
    for area, shown, vm, reason in (
        (ek_area(other), certificate, VM, "key_mismatch"),
        (ek_area(key), AK_CERTIFICATE, VM, "key_attributes"),
        (ek_area(key), certificate, bytes(16), "another_vm"),
    ):
        with pytest.raises(EnrolmentError, match=reason):
            bound(area, shown, vm)


# ---- the claim -----------------------------------------------------------------------------------------------------


def test_a_claim_is_read_as_it_was_written() -> None:
    for images in ((), IMAGES, tuple(("data", bytes([number]) * 32) for number in range(IMAGES_MAX))):
        claim = VtpmClaim(VM, bytes(32), images)
        assert decode_claim(claim.encode()) == claim


@pytest.mark.parametrize(
    "value",
    [
        b"",
        DOMAIN,
        CLAIM.encode()[1:],
        CLAIM.encode().replace(b"v1", b"v2"),
        CLAIM.encode()[: len(DOMAIN) + 47],
        CLAIM.encode()[:-1],
        CLAIM.encode() + b"\0",
        CLAIM.encode() + b"\xff",
        CLAIM.encode() + b"\x04disk",
        CLAIM.encode() + b"\x04DISK" + bytes(32),
        CLAIM.encode() + b"\x11" + b"d" * 17 + bytes(32),
        VtpmClaim(VM, bytes(32), (("data", bytes(32)),) * (IMAGES_MAX + 1)).encode(),
    ],
)
def test_what_is_no_claim_is_refused(value: bytes) -> None:
    with pytest.raises(EnrolmentError, match="malformed"):
        decode_claim(value)


def test_nobody_else_says_that_a_guest_or_its_key_was_verified() -> None:
    with pytest.raises(TypeError, match="verify_guest"):
        VerifiedGuest(CLAIM, verified().quote, object())
    key = verify_vtpm_certificate(AK_CERTIFICATE, "ak", statement=STATEMENT, signing_key=SIGNER)
    with pytest.raises(TypeError, match="verify_vtpm_certificate"):
        VtpmKey(key.spki, CLAIM, object())
    with pytest.raises(TypeError, match="verify_guest"):
        replace(verified(), proof=object())
