"""Hosts that lie about whose key signs their quotes. Each lie is refused, and works where its defence is left out."""

import datetime as dt
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from tccp.attestation import enrolment
from tccp.attestation.ek_id import ek_id_of, ek_spki_of
from tccp.attestation.enrolment import ActivationChallenge, BoundAk, EkAuthorities
from tccp.attestation.quote import AkKey, wrap_signature
from tccp.core.tpm_public import tpm_public_parse
from tccp.errors import RefusedError
from tccp.model import PcrSelection
from tccp.node.registration import NodeTpm
from tccp.protocol import control as c
from tccp.protocol.messages import Challenge, Hello
from tccp.tpm import Ak, Quote
from tccp.tpm.constants import Handle, ObjectAttribute
from tccp.tpm.marshal import tpm2b, u16, u32
from tccp.tpm.objects import create_primary
from tccp.tpm.templates import AK_TEMPLATES
from tests.support.live_coordinator import POLICY, ZERO, HonestNode, LiveCoordinator

ATTRIBUTES = slice(4, 8)  # of a TPMT_PUBLIC
SIGN = 0x15D  # TPM2_Sign (TPM 2.0 Library, Part 3, 20.2)
GOOD_DIGEST = hashlib.sha256(ZERO + ZERO).digest()


def forged(attest: bytes) -> bytes:
    """The quote as it would be if the PCRs were those of the policy: its digest is what it ends with."""
    return attest[:-32] + GOOD_DIGEST


# ---- keys that are no AK of the enrolled TPM ----


class BorrowsAnEk(HonestNode):
    """A TPM that is not enrolled, behind the EK and the certificate of one that is."""

    def __init__(self, coordinator: LiveCoordinator, name: str, host: NodeTpm, other: NodeTpm) -> None:
        super().__init__(coordinator, name, replace(other, ek=host.ek))

    async def credential(self, challenge: Challenge) -> bytes:
        return os.urandom(32)


class SignsInSoftware(HonestNode):
    """An AK that looks right, made by a program, which signs whatever it likes."""

    def __init__(self, coordinator: LiveCoordinator, name: str, host: NodeTpm, _: NodeTpm) -> None:
        super().__init__(coordinator, name, host)
        self.key = ec.generate_private_key(ec.SECP256R1())
        point = self.key.public_key().public_numbers()
        template = AK_TEMPLATES["ecc"]
        unique = tpm2b(point.x.to_bytes(32, "big")) + tpm2b(point.y.to_bytes(32, "big"))
        self.public = template[:-4] + unique

    async def hello(self) -> Hello:
        return msgspec.structs.replace(await super().hello(), ak_public=self.public)

    async def credential(self, challenge: Challenge) -> bytes:
        return os.urandom(32)

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        real, _ = await super().quote(bound_to, selection)
        attest = forged(real.attest)
        signature = self.key.sign(attest, ec.ECDSA(hashes.SHA256()))
        assert decode_dss_signature(signature)
        return Quote(attest, wrap_signature(signature, ak=AkKey.from_tpm_public(self.public))), (ZERO, ZERO)


class HasAnUnrestrictedAk(HonestNode):
    """An AK in the right TPM that signs any digest, so that a quote can be made up."""

    async def hello(self) -> Hello:
        template = AK_TEMPLATES["ecc"]
        attributes = int.from_bytes(template[ATTRIBUTES], "big") & ~ObjectAttribute.RESTRICTED
        unrestricted = template[: ATTRIBUTES.start] + u32(attributes) + template[ATTRIBUTES.stop :]
        key = await create_primary(self.host.tpm._channel, Handle.ENDORSEMENT, unrestricted)
        self.host = replace(self.host, ak=Ak(key.handle, key.public, key.name))
        return await super().hello()

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        real, _ = await super().quote(bound_to, selection)
        attest = forged(real.attest)
        digest = tpm2b(hashlib.sha256(attest).digest())
        no_ticket = u16(0x8024) + u32(Handle.NULL) + tpm2b(b"")
        password = u32(9) + u32(Handle.PASSWORD_SESSION) + bytes(5)
        body = u32(SIGN) + u32(self.host.ak.handle) + password + digest + u16(0x0010) + no_ticket
        answer = await self.host.tpm._channel._exchange(u16(0x8002) + u32(6 + len(body)) + body, 30.0, "")
        assert answer[6:10] == bytes(4), answer.hex()
        return Quote(attest, answer[14 : 14 + int.from_bytes(answer[10:14], "big")]), (ZERO, ZERO)


def believe_any_credential(challenge: ActivationChallenge, _: bytes) -> BoundAk:
    return BoundAk(ek=challenge.ek, ak=challenge.ak, proof=enrolment._PROVED)


def from_spki_alone(public: bytes) -> AkKey:
    return AkKey.from_spki(tpm_public_parse(public).spki)


@pytest.mark.parametrize("attack", [BorrowsAnEk, SignsInSoftware])
async def test_an_ak_outside_of_the_enrolled_tpm_is_refused(
    attack: Callable[..., HonestNode], coordinator: LiveCoordinator, host: NodeTpm, other_host: NodeTpm
) -> None:
    await coordinator.enrol("alpha", host)

    assert await attack(coordinator, "alpha", host, other_host).is_refused() == "activation_failed"


@pytest.mark.parametrize("attack", [BorrowsAnEk, SignsInSoftware])
async def test_without_activation_it_would_be_admitted(
    attack: Callable[..., HonestNode],
    coordinator: LiveCoordinator,
    host: NodeTpm,
    other_host: NodeTpm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await coordinator.enrol("alpha", host)
    monkeypatch.setattr("tccp.coordinator.registration.confirm_activation", believe_any_credential)

    assert await attack(coordinator, "alpha", host, other_host).is_admitted()


async def test_an_unrestricted_ak_is_refused(coordinator: LiveCoordinator, host: NodeTpm) -> None:
    await coordinator.enrol("alpha", host)

    assert await HasAnUnrestrictedAk(coordinator, "alpha", host).is_refused() == "key_attributes"


async def test_without_the_attributes_an_unrestricted_ak_would_be_admitted(
    coordinator: LiveCoordinator, host: NodeTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await coordinator.enrol("alpha", host)
    monkeypatch.setattr(enrolment, "tpm_public_check_ak", lambda _: None)
    monkeypatch.setattr(AkKey, "from_tpm_public", from_spki_alone)

    assert await HasAnUnrestrictedAk(coordinator, "alpha", host).is_admitted()


async def test_the_restricted_ak_of_a_tpm_signs_no_quote_that_was_made_up(
    coordinator: LiveCoordinator, host: NodeTpm
) -> None:
    class ForgesWithItsAk(HasAnUnrestrictedAk):
        async def hello(self) -> Hello:
            return await HonestNode.hello(self)

    await coordinator.enrol("alpha", host)

    with pytest.raises(AssertionError):  # TPM_RC_TICKET: it has not hashed that itself
        await ForgesWithItsAk(coordinator, "alpha", host).register()
    assert await coordinator.leases() == {}


# ---- EKs ----


def certificate_of_our_own(ek_public: bytes) -> tuple[bytes, bytes]:
    """An authority that nobody trusts, and its certificate for an EK; both DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    maker, tpm = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("TPM maker", "a TPM"))
    now = dt.datetime.now(tz=dt.UTC)

    def issue(public_key: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=not ca,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )
        builder = x509.CertificateBuilder(maker, maker if ca else tpm, public_key, x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()).public_bytes(DER)

    ek = serialization.load_der_public_key(ek_spki_of(ek_public))
    assert isinstance(ek, ec.EllipticCurvePublicKey)
    return issue(key.public_key(), ca=True), issue(ek, ca=False)


DER = serialization.Encoding.DER


async def import_by_id(coordinator: LiveCoordinator, name: str, host: NodeTpm) -> None:
    node = c.EnrolledNode(name=name, ek_id=ek_id_of(host.ek.public), ek_public=b"", policy=POLICY, attributes={})
    await coordinator.ask(c.ImportNodes(record=c.PerimeterRecord(nodes=(node,))), c.Done)


def with_certificate(host: NodeTpm, certificate: bytes) -> NodeTpm:
    return replace(host, ek=replace(host.ek, certificate=certificate, chain=()))


async def test_an_ek_that_nobody_has_enrolled_is_refused(coordinator: LiveCoordinator, host: NodeTpm) -> None:
    assert await HonestNode(coordinator, "alpha", host).is_refused() == "not_enrolled"


async def test_an_ek_certified_by_another_authority_is_refused(coordinator: LiveCoordinator, host: NodeTpm) -> None:
    _, certificate = certificate_of_our_own(host.ek.public)
    await import_by_id(coordinator, "alpha", host)

    assert await HonestNode(coordinator, "alpha", with_certificate(host, certificate)).is_refused() == "untrusted"
    shown = await coordinator.ask(c.ShowNode(name="alpha"), c.NodeInfo)
    assert (shown.state, shown.last_refusal.partition(":")[0]) == ("refused", "untrusted")


async def test_if_that_authority_were_trusted_it_would_be_admitted(coordinator: LiveCoordinator, host: NodeTpm) -> None:
    authority, certificate = certificate_of_our_own(host.ek.public)
    await import_by_id(coordinator, "alpha", host)
    coordinator.services.authorities = EkAuthorities([authority])

    assert await HonestNode(coordinator, "alpha", with_certificate(host, certificate)).is_admitted()


async def test_an_ek_certified_by_another_authority_cannot_be_enrolled(
    coordinator: LiveCoordinator, host: NodeTpm
) -> None:
    _, certificate = certificate_of_our_own(host.ek.public)

    with pytest.raises(RefusedError, match="untrusted"):
        await coordinator.enrol("alpha", with_certificate(host, certificate))
    assert await coordinator.store.list_nodes() == []


async def test_the_certificate_of_another_ek_does_not_help(
    coordinator: LiveCoordinator, host: NodeTpm, other_host: NodeTpm
) -> None:
    await coordinator.enrol("alpha", host)
    await coordinator.enrol("beta", other_host)
    assert host.ek.certificate is not None

    mixed = with_certificate(other_host, host.ek.certificate)
    assert await HonestNode(coordinator, "beta", mixed).is_refused() == "key_mismatch"


async def test_a_node_enrolled_without_its_certificate_must_show_one_all_the_same(
    coordinator: LiveCoordinator, host: NodeTpm
) -> None:
    await import_by_id(coordinator, "alpha", host)

    assert await HonestNode(coordinator, "alpha", with_certificate(host, b"")).is_refused() == "malformed"


async def test_a_node_enrolled_by_its_key_needs_no_certificate(coordinator: LiveCoordinator, host: NodeTpm) -> None:
    await coordinator.enrol("alpha", host, by_key=True)

    assert await HonestNode(coordinator, "alpha", with_certificate(host, b"")).is_admitted()


async def test_a_name_belongs_to_one_tpm_and_a_tpm_to_one_name(
    coordinator: LiveCoordinator, host: NodeTpm, other_host: NodeTpm
) -> None:
    await coordinator.enrol("alpha", host)

    with pytest.raises(RefusedError, match="name_bound"):
        await coordinator.enrol("alpha", other_host)
    with pytest.raises(RefusedError, match="ek_bound"):
        await coordinator.enrol("beta", host)
    assert await HonestNode(coordinator, "alpha", other_host).is_refused() == "not_enrolled"
