"""From an EK certificate to a bound AK: which TPM holds the key that will sign this node's quotes?

An endorsement key cannot sign. So the node names an attestation key, and we encrypt a secret to the EK in such a way
that its TPM gives the secret out only while that very AK is loaded beside it (credential activation).

    certificate --verify_ek_certificate--> EkCertificate --bind_ek--> TrustedEk   (or pinned_ek: enrolled by hash)
    TrustedEk + AK's public area --challenge_ak--> ActivationChallenge --confirm_activation--> BoundAk

`TrustedEk` and `BoundAk` are made by these functions alone, so that holding one is the proof. Nothing here reads a
clock, a file or a source of randomness; the seed of the encryption is drawn inside the C core.

Source: TPM 2.0 Library, Part 1, 9.5.3.3 and 24 (credential protection); TCG EK Credential Profile for TPM 2.0.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta

from tccp.core.certificate import NEVER, Authorities, ek_certificate_verify
from tccp.core.credential import SECRET_BYTES, credential_make
from tccp.core.tpm_public import TpmPublic, tpm_public_check_ak, tpm_public_check_ek, tpm_public_parse
from tccp.errors import EnrolmentError
from tccp.model import SecretBytes, spki_sha256

__all__ = [
    "SECRET_BYTES",
    "ActivationChallenge",
    "BoundAk",
    "EkAuthorities",
    "EkCertificate",
    "TrustedEk",
    "bind_ek",
    "challenge_ak",
    "confirm_activation",
    "pinned_ek",
    "verify_ek_certificate",
]

CERTIFICATE_SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der"})
REVOCATION_SUFFIXES = frozenset({".crl"})  # as CERTIFICATE_SUFFIXES: in a folder of authorities, in either case
# What whoever shows a certificate can do about it.
HINTS = {
    "malformed": "one X.509 certificate is wanted, DER or PEM; `tccp node ek --certificate` writes it",
    "untrusted": "its issuer's certificate, or one above, is not among the authorities: makers publish theirs",
    "expired": "a certificate of the chain is not valid now: is the clock of this machine right?",
    "certificate_revoked": "its maker has taken it, or one above it, back: ask the maker why",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PROVED = object()  # held by this module alone: what carries it was made here


class EkAuthorities:
    """The authorities that an operator trusts to certify endorsement keys. None configured: nobody is trusted.

    Args:
        certificates: Contents of files, DER or PEM, one certificate or many each. Every certificate is trusted by
            itself: an intermediate needs no root above it.
        intermediates: Likewise, certificates that may stand between an EK and an authority, trusted in nothing.
        revocations: Contents of files of CRLs, DER or PEM: an EK is refused when its certificate, or one between it and
            an authority, stands in a list of its issuer's. An old list counts on; no list is no objection.

    Raises:
        EnrolmentError: ``malformed``, ``too_large``, ``key_attributes`` for one that is no authority, ``unsupported``
            for a CRL that is a delta, of other issuers' certificates, or with something critical that is not known.
    """

    def __init__(
        self, certificates: Iterable[bytes], intermediates: Iterable[bytes] = (), revocations: Iterable[bytes] = ()
    ) -> None:
        self._authorities = Authorities()
        for file in certificates:
            self._authorities.add(file)
        for file in intermediates:
            self._authorities.add_intermediates(file)
        self._next_update_s = min((self._authorities.add_revocations(file) for file in revocations), default=NEVER)

    def has_old_lists(self, now: datetime) -> bool:
        """Whether the maker has published a newer CRL than one of these, or said that he would by *now*."""
        return self._next_update_s < now.timestamp()

    def __len__(self) -> int:
        """How many different authorities are trusted."""
        return len(self._authorities)


@dataclass(frozen=True, slots=True)
class EkCertificate:
    """An EK certificate that a trusted authority issued. Texts are printable ASCII, empty where it says nothing."""

    spki: bytes
    manufacturer: str
    model: str
    version: str
    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    sha256: bytes
    authority_sha256: bytes
    """Of the authority, in DER, that the chain ended at."""
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse to be made by anything but `verify_ek_certificate`."""
        _demand_proof(proof)


@dataclass(frozen=True, slots=True)
class TrustedEk:
    """The endorsement key of a TPM: certified by a trusted authority, or enrolled by its hash."""

    public: TpmPublic
    certificate: EkCertificate | None
    """None when the key was enrolled by its hash."""
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse to be made by anything but `bind_ek` and `pinned_ek`."""
        _demand_proof(proof)

    @property
    def name(self) -> bytes:
        """The TPM's name of the key, computed by us."""
        return self.public.name

    @property
    def id(self) -> bytes:
        """SHA-256 of the key's SPKI: the TPM's identity in the perimeter record."""
        return spki_sha256(self.public.spki)


@dataclass(frozen=True, slots=True)
class ActivationChallenge:
    """A secret that only one TPM, with one AK loaded, can read. For one answer."""

    id_object: bytes
    """What TPM2B_ID_OBJECT contains, without its length."""
    encrypted_secret: bytes
    """What TPM2B_ENCRYPTED_SECRET contains, without its length."""
    ek: TrustedEk
    ak: TpmPublic
    secret: SecretBytes = field(repr=False, compare=False)
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse to be made by anything but `challenge_ak`."""
        _demand_proof(proof)

    @property
    def ak_public(self) -> bytes:
        """TPMT_PUBLIC of the AK."""
        return self.ak.area

    @property
    def ak_name(self) -> bytes:
        """The TPM's name of the AK, computed by us."""
        return self.ak.name


@dataclass(frozen=True, slots=True)
class BoundAk:
    """An attestation key that was loaded in the TPM of a trusted EK: restricted, made there, never to leave it."""

    ek: TrustedEk
    ak: TpmPublic
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse to be made by anything but `confirm_activation`."""
        _demand_proof(proof)

    @property
    def ak_public(self) -> bytes:
        """TPMT_PUBLIC of the AK."""
        return self.ak.area

    @property
    def ak_name(self) -> bytes:
        """The TPM's name of the AK, computed by us."""
        return self.ak.name

    @property
    def ak_spki(self) -> bytes:
        """DER SubjectPublicKeyInfo of the AK."""
        return self.ak.spki


def verify_ek_certificate(
    certificate: bytes, chain: Sequence[bytes], *, authorities: EkAuthorities, now: datetime
) -> EkCertificate:
    """Check that one of *authorities* certified an endorsement key, directly or through intermediates.

    Args:
        certificate: One certificate, DER or PEM, 64 KiB at most; zeros or ones that fill its NV index may follow.
        chain: Intermediate certificates as the node gave them, 16 at most; trusted in nothing.
        now: When; every certificate of the chain, the authority's too, must be valid then.

    Raises:
        EnrolmentError: ``malformed``, ``too_large``; ``untrusted`` (no chain to an authority, or a CRL that its issuer
            has not signed); ``expired``; ``certificate_revoked``;
            ``key_attributes`` (certified, but not as an EK); ``unsupported`` (SHA-1, a weak or strange key, a
            critical extension that nobody knows).
    """
    assert now.tzinfo is not None, "a time without its zone is no time"
    try:
        info = ek_certificate_verify(authorities._authorities, certificate, chain, int(now.timestamp()))
    except EnrolmentError as refusal:
        raise EnrolmentError(refusal.reason, refusal.detail, hint=HINTS.get(refusal.reason, "")) from None
    return EkCertificate(
        spki=info.spki,
        manufacturer=info.manufacturer,
        model=info.model,
        version=info.version,
        subject=info.subject,
        issuer=info.issuer,
        serial=info.serial,
        not_before=_time(info.not_before_s),
        not_after=_time(info.not_after_s),
        sha256=info.sha256,
        authority_sha256=info.authority_sha256,
        proof=_PROVED,
    )


def bind_ek(ek_public: bytes, certificate: EkCertificate) -> TrustedEk:
    """Check that *ek_public* is the key that *certificate* certifies, and an endorsement key.

    Args:
        ek_public: TPMT_PUBLIC or TPM2B_PUBLIC, as the node's TPM gives it.

    Raises:
        EnrolmentError: ``key_mismatch`` (another key), ``key_attributes``, ``malformed``, ``unsupported``.
    """
    public = _ek_public(ek_public)
    if public.spki != certificate.spki:
        raise EnrolmentError("key_mismatch", f"the certificate {certificate.sha256.hex()} is of another key")
    return TrustedEk(public=public, certificate=certificate, proof=_PROVED)


def pinned_ek(ek_public: bytes, *, pinned_sha256: bytes) -> TrustedEk:
    """Check that *ek_public* is the endorsement key that an operator enrolled by its hash, without a certificate.

    Args:
        pinned_sha256: SHA-256 of the key's SPKI, which `TrustedEk.id` gives again.

    Raises:
        EnrolmentError: ``key_mismatch`` (another key), ``key_attributes``, ``malformed``, ``unsupported``.
    """
    public = _ek_public(ek_public)
    if spki_sha256(public.spki) != pinned_sha256:
        raise EnrolmentError("key_mismatch", f"the EK is {spki_sha256(public.spki).hex()}, not the enrolled one")
    return TrustedEk(public=public, certificate=None, proof=_PROVED)


def challenge_ak(ak_public: bytes, *, ek: TrustedEk, secret: bytes) -> ActivationChallenge:
    """Encrypt *secret* so that only the TPM of *ek* can read it, and only with this AK loaded.

    Args:
        ak_public: TPMT_PUBLIC or TPM2B_PUBLIC. Its name is computed from these bytes, never taken from the node.
        secret: 32 fresh random bytes, for this challenge alone.

    Raises:
        EnrolmentError: ``key_attributes`` (not a restricted signing key made in its TPM), ``malformed``,
            ``unsupported``.
    """
    assert len(secret) == SECRET_BYTES, "the secret of a challenge has 32 bytes"
    ak = tpm_public_parse(ak_public)
    tpm_public_check_ak(ak)
    id_object, encrypted_secret = credential_make(ek.public.area, ak.name, secret)
    return ActivationChallenge(
        id_object=id_object,
        encrypted_secret=encrypted_secret,
        ek=ek,
        ak=ak,
        secret=SecretBytes(secret),
        proof=_PROVED,
    )


def confirm_activation(challenge: ActivationChallenge, answer: bytes) -> BoundAk:
    """Check that the node read the secret: its AK lives in the TPM of the EK. Compared in constant time.

    The caller asks once for each challenge; a second answer needs a new one.

    Raises:
        EnrolmentError: ``activation_failed``.
    """
    if not hmac.compare_digest(answer, challenge.secret.value):
        raise EnrolmentError("activation_failed", "the answer is not the secret that was encrypted to the EK")
    return BoundAk(ek=challenge.ek, ak=challenge.ak, proof=_PROVED)


def _ek_public(ek_public: bytes) -> TpmPublic:
    public = tpm_public_parse(ek_public)
    tpm_public_check_ek(public)
    return public


def _time(seconds: int) -> datetime:
    """Certificates that never end say 9999-12-31T23:59:59Z, which datetime can just hold."""
    return _EPOCH + timedelta(seconds=seconds)


def _demand_proof(proof: object) -> None:
    if proof is not _PROVED:
        raise TypeError("this value is made by the functions of tccp.attestation.enrolment alone")
