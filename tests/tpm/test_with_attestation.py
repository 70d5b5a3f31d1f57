"""Where the node's side meets the verifier's: what a TPM gives through `tccp.tpm` convinces `tccp.attestation`."""

import hashlib
from datetime import UTC, datetime

import pytest

from tccp.attestation.enrolment import (
    EkAuthorities,
    TrustedEk,
    bind_ek,
    challenge_ak,
    confirm_activation,
    verify_ek_certificate,
)
from tccp.attestation.quote import AkKey, verify_quote
from tccp.errors import EnrolmentError, TpmError
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection
from tccp.tpm import Ek, KeyKind, open_tpm
from tests.support.soft_tpm import EkAuthority, SoftTpm, SoftTpmPool

KINDS: tuple[KeyKind, ...] = ("ecc", "rsa")
PROVING_PCRS = PcrSelection.of(PcrBank.SHA384, set(range(24)) - RESETTABLE_PCRS)
SECRET = hashlib.sha256(b"secret").digest()
NONCE = hashlib.sha256(b"nonce").digest()


def trust(ek: Ek, authority: EkAuthority) -> TrustedEk:
    root, issuer = authority.certificates
    assert ek.certificate
    certificate = verify_ek_certificate(
        ek.certificate, (issuer, *ek.chain), authorities=EkAuthorities([root]), now=datetime.now(UTC)
    )
    return bind_ek(ek.public, certificate)


@pytest.mark.parametrize("ek_kind", KINDS)
@pytest.mark.parametrize("ak_kind", KINDS)
async def test_a_tpm_enrols_and_quotes(ek_kind: KeyKind, ak_kind: KeyKind, soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek(kind=ek_kind)
        ak = await tpm.create_ak(ak_kind)
        challenge = challenge_ak(ak.public, ek=trust(ek, soft_tpm.authority), secret=SECRET)
        answer = await tpm.activate_credential(ak, ek, challenge.id_object, challenge.encrypted_secret)
        quote, pcrs = await tpm.quote_with_pcrs(ak, NONCE, PROVING_PCRS)
        clock = await tpm.read_clock()

    bound = confirm_activation(challenge, answer)
    assert bound.ak_name == ak.name
    verified = verify_quote(
        quote.attest, quote.signature, pcrs, ak=AkKey.from_spki(bound.ak_spki), qualifying_data=NONCE
    )
    assert verified.pcrs == pcrs
    assert (verified.reset_count, verified.restart_count) == (clock.reset_count, clock.restart_count)


@pytest.mark.parametrize("ek_kind", KINDS)
async def test_a_tpm_does_not_vouch_for_the_ak_of_another(ek_kind: KeyKind, soft_tpms: SoftTpmPool) -> None:
    with soft_tpms.lend() as one, soft_tpms.lend() as other:
        async with open_tpm(one.tcti) as tpm, open_tpm(other.tcti) as foreign:
            ek, ak = await tpm.read_ek(kind=ek_kind), await tpm.create_ak()
            foreign_ek, foreign_ak = await foreign.read_ek(kind=ek_kind), await foreign.create_ak()
            challenge = challenge_ak(foreign_ak.public, ek=trust(ek, one.authority), secret=SECRET)
            credential = (challenge.id_object, challenge.encrypted_secret)

            with pytest.raises(TpmError, match="tpm_rc_"):
                await tpm.activate_credential(ak, ek, *credential)
            with pytest.raises(TpmError, match="tpm_rc_"):
                await foreign.activate_credential(foreign_ak, foreign_ek, *credential)


async def test_an_ek_is_not_that_of_another_tpms_certificate(soft_tpms: SoftTpmPool) -> None:
    with soft_tpms.lend() as one, soft_tpms.lend() as other:
        async with open_tpm(one.tcti) as tpm, open_tpm(other.tcti) as foreign:
            ek, foreign_ek = await tpm.read_ek(), await foreign.read_ek()

        mixed = Ek(ek.handle, ek.public, foreign_ek.certificate, ())
        with pytest.raises(EnrolmentError, match="key_mismatch"):
            trust(mixed, one.authority)
