"""Finding the endorsement key where makers leave it: certificates, templates, nonces and chains in a real TPM's NV."""

import datetime
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import NameOID

from tccp.core.tpm_public import tpm_public_parse
from tccp.errors import TpmError
from tccp.tpm import open_tpm
from tccp.tpm.channel import Channel
from tccp.tpm.constants import Handle
from tccp.tpm.objects import create_primary, flush
from tccp.tpm.tcti import parse_tcti
from tccp.tpm.templates import EK_SLOTS, EkSlot
from tests.support.soft_tpm import SoftTpm
from tests.support.tpm2_tools import Tpm2Tools

SLOTS = {slot.name: slot for slot in EK_SLOTS}
L_2, H_2, H_3, L_1, H_1 = (SLOTS[name] for name in ("L-2", "H-2", "H-3", "L-1", "H-1"))
NONCE = b"a maker's nonce"
SECRET = hashlib.sha256(b"secret").digest()


@pytest.fixture
def tools(soft_tpm: SoftTpm, tmp_path: Path) -> Tpm2Tools:
    return Tpm2Tools(soft_tpm, tmp_path)


def write_nv(tools: Tpm2Tools, index: int, content: bytes) -> None:
    """Put *content* where a maker puts a certificate."""
    attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate"
    tools.run("nvdefine", hex(index), "-C", "p", "-s", str(len(content)), "-a", attributes)
    tools.run("nvwrite", hex(index), "-C", "p", "-i", tools.write("content", content))


def forget_manufacture(tools: Tpm2Tools) -> None:
    """Take away what swtpm_setup put into the TPM: certificates and persistent EKs."""
    for index in (H_3.certificate_nv, L_1.certificate_nv):
        tools.run("nvundefine", hex(index), "-C", "p")
    for handle in ("0x81010001", "0x81010016"):
        tools.run("evictcontrol", "-C", "o", "-c", handle)


async def derive(soft_tpm: SoftTpm, template: bytes) -> bytes:
    """The public area of the primary key that *template* gives in the endorsement hierarchy."""
    channel = Channel(await parse_tcti(soft_tpm.tcti).connect(), timeout_s=90)
    key = await create_primary(channel, Handle.ENDORSEMENT, template)
    await flush(channel, key.handle)
    await channel.aclose()
    return key.public


def certify(public: bytes) -> bytes:
    """A certificate for the key of the TPMT_PUBLIC *public*."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a maker")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    key = load_der_public_key(tpm_public_parse(public).spki)
    builder = x509.CertificateBuilder(name, name, key, 1, now, now + datetime.timedelta(days=1))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize("slot", EK_SLOTS, ids=lambda slot: slot.name)
async def test_every_kind_of_ek_is_found_by_its_certificate_and_activates(
    slot: EkSlot, soft_tpm: SoftTpm, tools: Tpm2Tools
) -> None:
    forget_manufacture(tools)
    public = await derive(soft_tpm, slot.templates[0])
    write_nv(tools, slot.certificate_nv, certify(public))

    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek()
        ak = await tpm.create_ak()
        credential = tools.make_credential(ek.public, ak.name, SECRET)

        assert ek.public == public
        assert await tpm.activate_credential(ak, ek, *credential) == SECRET


async def test_a_p256_key_is_preferred_when_the_maker_certified_several(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    public = await derive(soft_tpm, L_2.templates[0])
    write_nv(tools, L_2.certificate_nv, certify(public))

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert (await tpm.read_ek()).public == public
        assert tpm_public_parse((await tpm.read_ek(kind="rsa")).public).algorithm == "rsa2048"


async def test_without_a_certificate_the_default_key_comes_alone(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    forget_manufacture(tools)
    default = await derive(soft_tpm, L_2.templates[0])

    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek()

    assert (ek.public, ek.certificate, ek.chain) == (default, None, ())


@pytest.mark.parametrize("padding", [b"\0" * 100, b"\xff" * 700], ids=["zeros", "ones"])
async def test_padding_behind_a_certificate_is_cut_off(padding: bytes, soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    certificate = certify(await derive(soft_tpm, L_2.templates[0]))
    write_nv(tools, L_2.certificate_nv, certificate + padding)

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert (await tpm.read_ek()).certificate == certificate


@pytest.mark.parametrize("slot", [L_2, L_1], ids=lambda slot: slot.name)
async def test_a_makers_nonce_goes_into_the_template(slot: EkSlot, soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    forget_manufacture(tools)
    public = await derive(soft_tpm, slot.template_with_nonce(NONCE))
    write_nv(tools, slot.certificate_nv, certify(public))
    write_nv(tools, slot.certificate_nv + 1, NONCE)

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert (await tpm.read_ek()).public == public


@pytest.mark.parametrize("slot", [L_2, H_1], ids=lambda slot: slot.name)
async def test_a_makers_own_template_is_used(slot: EkSlot, soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    forget_manufacture(tools)
    template = slot.template_with_nonce(b"this maker's way")
    public = await derive(soft_tpm, template)
    write_nv(tools, slot.certificate_nv, certify(public))
    write_nv(tools, slot.template_nv, template)

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert (await tpm.read_ek()).public == public


async def test_a_certificate_about_another_tpms_key_is_refused(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    foreign = await derive(soft_tpm, L_2.template_with_nonce(b"another TPM"))
    write_nv(tools, L_2.certificate_nv, certify(foreign))

    async with open_tpm(soft_tpm.tcti) as tpm:
        with pytest.raises(TpmError, match="ek_certificate_mismatch"):
            await tpm.read_ek()
        # Nothing is left behind: three slots are free.
        for _ in range(3):
            await tpm.create_ak()


@pytest.mark.parametrize(
    "content", [b"\0", b"\xff" * 600, b"\x30\x82\xff\xff", b"\x30\x03\x02\x01\x00", bytes(2048)], ids=range(5)
)
async def test_what_is_no_certificate_is_named_so(content: bytes, soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    write_nv(tools, L_2.certificate_nv, content)

    async with open_tpm(soft_tpm.tcti) as tpm:
        with pytest.raises(TpmError, match="ek_certificate_malformed"):
            await tpm.read_ek()


async def test_an_index_that_was_never_written_holds_no_certificate(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    tools.run(
        "nvdefine", hex(L_2.certificate_nv), "-C", "p", "-s", "100", "-a", "ppwrite|ppread|authread|platformcreate"
    )

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert tpm_public_parse((await tpm.read_ek()).public).algorithm == "p384"


async def test_issuers_are_read_across_the_indices_that_they_are_cut_into(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    root, issuer = soft_tpm.authority.certificates
    chain = issuer + root
    for number, start in enumerate(range(0, len(chain), 700)):
        write_nv(tools, 0x01C00100 + number, chain[start : start + 700])

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert (await tpm.read_ek()).chain == (issuer, root)


async def test_issuers_are_read_from_padded_indices_too(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    root, issuer = soft_tpm.authority.certificates
    write_nv(tools, 0x01C00100, issuer + bytes(50))
    write_nv(tools, 0x01C001FF, root + b"\xff" * 50)

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert (await tpm.read_ek()).chain == (issuer, root)


async def test_a_password_on_the_endorsement_hierarchy_is_explained(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    tools.run("changeauth", "-c", "endorsement", "secret")

    async with open_tpm(soft_tpm.tcti) as tpm:
        with pytest.raises(TpmError, match="tpm_rc_bad_auth") as caught:
            await tpm.create_ak()

    assert "password" in caught.value.hint


async def test_a_persistent_object_of_another_kind_is_passed_over(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    tools.run("evictcontrol", "-C", "o", "-c", "0x81010016")
    tools.run("createprimary", "-C", "e", "-g", "sha1", "-G", "rsa1024:null:aes128cfb", "-c", "odd.ctx")
    tools.run("evictcontrol", "-C", "o", "-c", "odd.ctx", "0x81010000")
    tools.run("flushcontext", "-t")

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert tpm_public_parse((await tpm.read_ek()).public).algorithm == "p384"
