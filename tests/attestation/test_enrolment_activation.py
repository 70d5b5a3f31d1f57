"""Credential activation against real software TPMs, by our client and by tpm2-tools."""

import os
from pathlib import Path

import pytest

from tccp.attestation.enrolment import (
    EkAuthorities,
    TrustedEk,
    bind_ek,
    challenge_ak,
    confirm_activation,
    pinned_ek,
    verify_ek_certificate,
)
from tccp.core.credential import credential_make
from tccp.core.tpm_public import tpm_public_parse
from tccp.errors import EnrolmentError, TpmError
from tccp.model import spki_sha256
from tccp.tpm import Ek, KeyKind, open_tpm
from tests.support import public_areas as areas
from tests.support.certificates import NOW, new_key
from tests.support.soft_tpm import SoftTpm, SoftTpmPool
from tests.support.tpm2_tools import Tpm2KeyTools

FOREVER_LATER = NOW.replace(year=2030)


def pin(area: bytes) -> TrustedEk:
    return pinned_ek(area, pinned_sha256=spki_sha256(tpm_public_parse(area).spki))


def certified(ek: Ek, soft_tpm: SoftTpm) -> TrustedEk:
    """As the coordinator does it: the maker's root is trusted, the issuer between is known."""
    assert ek.certificate is not None
    root, issuer = soft_tpm.authority.certificates
    authorities = EkAuthorities([root], [issuer])
    return bind_ek(
        ek.public, verify_ek_certificate(ek.certificate, ek.chain, authorities=authorities, now=FOREVER_LATER)
    )


@pytest.fixture
def tools(soft_tpm: SoftTpm, tmp_path: Path) -> Tpm2KeyTools:
    return Tpm2KeyTools(soft_tpm, tmp_path)


# ---- honest TPMs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ak_kind", ["ecc", "rsa"])
@pytest.mark.parametrize("ek_kind", ["ecc", "rsa"])
async def test_a_tpm_proves_that_its_ak_lives_beside_its_certified_ek(
    ek_kind: KeyKind, ak_kind: KeyKind, soft_tpm: SoftTpm
) -> None:
    secret = os.urandom(32)
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek(kind=ek_kind)
        ak = await tpm.create_ak(ak_kind)
        trusted = certified(ek, soft_tpm)
        challenge = challenge_ak(ak.public, ek=trusted, secret=secret)
        answer = await tpm.activate_credential(ak, ek, challenge.id_object, challenge.encrypted_secret)

    bound = confirm_activation(challenge, answer)

    assert bound.ak_name == ak.name  # ours, computed, is the TPM's
    assert trusted.name == areas.name_of(ek.public)
    assert trusted.certificate is not None
    assert trusted.certificate.model == "swtpm"


@pytest.mark.parametrize(
    ("ek_algorithm", "ak_algorithm", "scheme"), [("rsa", "ecc", "ecdsa"), ("ecc", "rsa", "rsassa")]
)
def test_tpm2_tools_open_our_credentials_and_we_know_their_names(
    ek_algorithm: str, ak_algorithm: str, scheme: str, tools: Tpm2KeyTools
) -> None:
    secret = os.urandom(32)
    ek_public = tools.create_ek(ek_algorithm)
    ak_public = tools.create_ak(ak_algorithm, scheme)

    challenge = challenge_ak(ak_public, ek=pin(ek_public), secret=secret)

    assert challenge.ak_name == tools.read("ak.name")
    confirm_activation(challenge, tools.activate(challenge.id_object, challenge.encrypted_secret))


@pytest.mark.parametrize("algorithm", ["rsa", "ecc"])
def test_our_credentials_have_the_structure_of_those_of_tpm2_tools(algorithm: str, tools: Tpm2KeyTools) -> None:
    secret = os.urandom(32)
    ek_public = tools.create_ek(algorithm)
    ak = tpm_public_parse(tools.create_ak("ecc", "ecdsa"))

    theirs = tools.make_credential(ek_public[2:], ak.name, secret)
    ours = credential_make(ek_public, ak.name, secret)

    assert [len(part) for part in ours] == [len(part) for part in theirs]
    assert ours[0][:2] == theirs[0][:2]
    assert tools.activate(*theirs) == tools.activate(*ours) == secret


@pytest.mark.parametrize("algorithm", ["rsa3072", "ecc384"])
def test_large_endorsement_keys_of_a_tpm_are_read(algorithm: str, tools: Tpm2KeyTools) -> None:
    public = tpm_public_parse(tools.create_ek(algorithm))

    assert public.algorithm == {"rsa3072": "rsa3072", "ecc384": "p384"}[algorithm]
    pin(public.area)


# ---- attacks ---------------------------------------------------------------------------------------------------


async def test_the_ak_of_another_tpm_is_not_activated(soft_tpms: SoftTpmPool) -> None:
    """Mallory shows the EK of a good TPM and the AK of a bad one, and asks each for help."""
    with soft_tpms.lend() as good, soft_tpms.lend() as bad:
        async with open_tpm(good.tcti) as good_tpm, open_tpm(bad.tcti) as bad_tpm:
            good_ek, good_ak = await good_tpm.read_ek(), await good_tpm.create_ak()
            bad_ek, bad_ak = await bad_tpm.read_ek(), await bad_tpm.create_ak()
            trusted = certified(good_ek, good)
            challenge = challenge_ak(bad_ak.public, ek=trusted, secret=os.urandom(32))
            blobs = challenge.id_object, challenge.encrypted_secret

            with pytest.raises(TpmError):
                await bad_tpm.activate_credential(bad_ak, bad_ek, *blobs)
            with pytest.raises(TpmError):
                await good_tpm.activate_credential(good_ak, good_ek, *blobs)

            # The control: had we taken the name of the AK from the node, the good TPM would help the bad one.
            careless = credential_make(trusted.public.area, good_ak.name, challenge.secret.value)
            answer = await good_tpm.activate_credential(good_ak, good_ek, *careless)
            assert confirm_activation(challenge, answer).ak_name == bad_ak.name


async def test_the_ek_certificate_of_another_tpm_is_refused(soft_tpms: SoftTpmPool) -> None:
    with soft_tpms.lend() as good, soft_tpms.lend() as bad:
        async with open_tpm(good.tcti) as good_tpm, open_tpm(bad.tcti) as bad_tpm:
            good_ek, bad_ek = await good_tpm.read_ek(), await bad_tpm.read_ek()
        trusted = certified(good_ek, good)

        assert trusted.certificate is not None
        with pytest.raises(EnrolmentError, match="key_mismatch"):
            bind_ek(bad_ek.public, trusted.certificate)


def test_an_unrestricted_key_of_the_tpm_is_no_ak(tools: Tpm2KeyTools) -> None:
    """It would sign a quote that its owner wrote: the TPM gives the secret out for it, so the attributes must tell."""
    ek_public = tools.create_ek("ecc")
    free = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
    tools.run("createprimary", "-C", "e", "-G", "ecc256:ecdsa-sha256:null", "-a", free, "-c", "free.ctx")
    tools.run("readpublic", "-c", "free.ctx", "-f", "tss", "-o", "free.pub")
    public = tools.read("free.pub")
    secret = os.urandom(32)

    with pytest.raises(EnrolmentError, match="key_attributes"):
        challenge_ak(public, ek=pin(ek_public), secret=secret)

    # The control: with the attributes unchecked, activation alone would have accepted the key.
    blobs = credential_make(ek_public, tpm_public_parse(public).name, secret)
    assert tools.activate(*blobs, key="free.ctx") == secret

    # Nor does it help to claim the attributes of an AK: the name is another one then.
    claimed = areas.with_attributes(tpm_public_parse(public).area, areas.AK_ATTRIBUTES)
    challenge = challenge_ak(claimed, ek=pin(ek_public), secret=secret)
    with pytest.raises(RuntimeError, match="activatecredential"):
        tools.activate(challenge.id_object, challenge.encrypted_secret, key="free.ctx")


def test_a_software_key_that_claims_to_be_an_ak_is_not_activated(tools: Tpm2KeyTools) -> None:
    ek_public = tools.create_ek("ecc")
    software = areas.ak_area(new_key())
    (tools.directory / "software.pub").write_bytes(areas.tpm2b(software))
    tools.run("loadexternal", "-C", "n", "-u", "software.pub", "-c", "software.ctx")  # a TPM loads any public area
    tools.run("readpublic", "-c", "software.ctx", "-n", "software.name")

    challenge = challenge_ak(software, ek=pin(ek_public), secret=os.urandom(32))

    assert challenge.ak_name == tools.read("software.name")
    with pytest.raises(RuntimeError, match="activatecredential"):
        tools.activate(challenge.id_object, challenge.encrypted_secret, key="software.ctx")


def test_no_byte_of_a_credential_can_be_changed(tools: Tpm2KeyTools) -> None:
    ek_public = tools.create_ek("ecc")
    challenge = challenge_ak(tools.create_ak("ecc", "ecdsa"), ek=pin(ek_public), secret=os.urandom(32))

    for position in range(0, len(challenge.id_object), 16):
        altered = bytearray(challenge.id_object)
        altered[position] ^= 1
        with pytest.raises(RuntimeError, match="activatecredential"):
            tools.activate(bytes(altered), challenge.encrypted_secret)
    confirm_activation(challenge, tools.activate(challenge.id_object, challenge.encrypted_secret))
