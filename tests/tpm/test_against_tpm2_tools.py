"""What our client reads and makes, judged by tpm2-tools."""

import hashlib
from pathlib import Path

import pytest

from tccp.errors import TpmError
from tccp.model import PcrBank, PcrSelection
from tccp.tpm import KeyKind, open_tpm
from tests.support.soft_tpm import SoftTpm
from tests.support.tpm2_tools import Tpm2Tools

NONCE = hashlib.sha256(b"nonce").digest()
SOME_PCRS = PcrSelection(PcrBank.SHA256, (0, 4, 7, 10, 14, 17))
ALL_PCRS = PcrSelection(PcrBank.SHA384, tuple(range(24)))
KINDS: tuple[KeyKind, ...] = ("ecc", "rsa")
AK_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"


@pytest.fixture
def tools(soft_tpm: SoftTpm, tmp_path: Path) -> Tpm2Tools:
    return Tpm2Tools(soft_tpm, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
async def test_tpm2_checkquote_accepts_our_quote(kind: KeyKind, soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        await tpm.extend_pcr(4, PcrBank.SHA256, hashlib.sha256(b"a kernel").digest())
        ak = await tpm.create_ak(kind)
        quote, pcrs = await tpm.quote_with_pcrs(ak, NONCE, SOME_PCRS)

    check = [
        *("-u", tools.write_public_pem("ak.pem", ak.public)),
        *("-m", tools.write("attest", quote.attest), "-s", tools.write("signature", quote.signature)),
        *("-g", "sha256", "-l", f"sha256:{','.join(str(index) for index in SOME_PCRS.indexes)}"),
    ]
    tools.run("checkquote", *check, "-q", NONCE.hex(), "-f", tools.write("pcrs", pcrs.concatenated))
    with pytest.raises(RuntimeError):
        tools.run("checkquote", *check, "-q", bytes(32).hex(), "-f", "pcrs")
    with pytest.raises(RuntimeError):
        tools.run("checkquote", *check, "-q", NONCE.hex(), "-f", tools.write("others", bytes(len(pcrs.concatenated))))


@pytest.mark.parametrize("kind", KINDS)
async def test_tpm2_print_finds_all_pcrs_of_another_bank(kind: KeyKind, soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    """tpm2_checkquote 5.4 fails to compare the values of eight PCRs or more: it checks the rest here."""
    async with open_tpm(soft_tpm.tcti) as tpm:
        ak = await tpm.create_ak(kind)
        quote, pcrs = await tpm.quote_with_pcrs(ak, NONCE, ALL_PCRS)

    key = tools.write_public_pem("ak.pem", ak.public)
    tools.write("attest", quote.attest)
    tools.write("signature", quote.signature)
    tools.run("checkquote", "-u", key, "-m", "attest", "-s", "signature", "-g", "sha256", "-q", NONCE.hex())
    text = tools.run("print", "-t", "TPMS_ATTEST", "attest")
    assert "pcrSelect: ffffff" in text
    assert f"pcrDigest: {hashlib.sha256(pcrs.concatenated).hexdigest()}" in text


@pytest.mark.parametrize("bank", [PcrBank.SHA256, PcrBank.SHA384])
async def test_tpm2_pcrread_reads_the_same_values(bank: PcrBank, soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        for index in range(17):
            await tpm.extend_pcr(index, bank, bytes([index]) * bank.digest_bytes)
        pcrs = await tpm.read_pcrs(PcrSelection(bank, tuple(range(24))))

    tools.run("pcrread", f"{bank.hash_name}:{','.join(str(index) for index in range(24))}", "-o", "pcrs")
    assert tools.read("pcrs") == pcrs.concatenated


@pytest.mark.parametrize(("kind", "index"), [("ecc", "0x01c00016"), ("rsa", "0x01c00002")])
async def test_tpm2_nvread_reads_the_same_ek_certificate(
    kind: KeyKind, index: str, soft_tpm: SoftTpm, tools: Tpm2Tools
) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek(kind=kind)

    tools.run("nvread", index, "-C", "o", "-o", "certificate")
    assert ek.certificate
    assert tools.read("certificate") == ek.certificate


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("ecc", "ecc256:ecdsa-sha256:null"), ("rsa", "rsa2048:rsassa-sha256:null")]
)
async def test_tpm2_createprimary_makes_the_same_attestation_key(
    kind: KeyKind, algorithm: str, soft_tpm: SoftTpm, tools: Tpm2Tools
) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ak = await tpm.create_ak(kind)

    tools.run("createprimary", "-C", "e", "-g", "sha256", "-G", algorithm, "-a", AK_ATTRIBUTES, "-c", "ak.ctx")
    tools.run("readpublic", "-c", "ak.ctx", "-n", "ak.name", "-o", "ak.public")
    assert tools.read("ak.name") == ak.name
    assert tools.read("ak.public")[2:] == ak.public


@pytest.mark.parametrize("ek_kind", KINDS)
@pytest.mark.parametrize("ak_kind", KINDS)
async def test_we_activate_what_tpm2_makecredential_made(
    ek_kind: KeyKind, ak_kind: KeyKind, soft_tpm: SoftTpm, tools: Tpm2Tools
) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek(kind=ek_kind)
        ak = await tpm.create_ak(ak_kind)

        credential = tools.make_credential(ek.public, ak.name, NONCE)

        assert await tpm.activate_credential(ak, ek, *credential) == NONCE


async def test_a_credential_for_another_ak_stays_shut(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ek = await tpm.read_ek()
        ak = await tpm.create_ak("ecc")
        other = await tpm.create_ak("rsa")

        credential = tools.make_credential(ek.public, other.name, NONCE)

        with pytest.raises(TpmError, match="tpm_rc_integrity"):
            await tpm.activate_credential(ak, ek, *credential)
        assert await tpm.activate_credential(other, ek, *credential) == NONCE


async def test_the_clock_is_that_of_tpm2_readclock(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    soft_tpm.reset()
    async with open_tpm(soft_tpm.tcti) as tpm:
        clock = await tpm.read_clock()

    text = tools.run("readclock")
    assert f"reset_count: {clock.reset_count}\n" in text
    assert f"restart_count: {clock.restart_count}\n" in text


async def test_the_properties_are_those_of_tpm2_getcap(soft_tpm: SoftTpm, tools: Tpm2Tools) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        properties = await tpm.properties()
        banks = await tpm.pcr_banks()

    assert properties.manufacturer == "IBM"
    assert properties.vendor == "SW TPM"
    raw = [line.split()[-1] for line in tools.run("getcap", "properties-fixed").splitlines() if "raw" in line]
    first, second, third, fourth = (int(number) for number in properties.firmware.split("."))
    assert f"0x{first << 16 | second:X}" in raw
    assert f"0x{third << 16 | fourth:X}" in raw
    pcrs = tools.run("getcap", "pcrs")
    assert [bank for bank in PcrBank if f"- {bank.hash_name}: [ 0," in pcrs] == list(banks)
