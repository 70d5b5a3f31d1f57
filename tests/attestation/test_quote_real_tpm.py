"""Quotes that a software TPM makes for tpm2-tools and for our own client: other people's code on the other side."""

import os
import subprocess
from pathlib import Path

import pytest

from tccp.attestation.quote import AkKey, VerifiedQuote, inspect_quote, verify_quote, wrap_signature
from tccp.cli.keys import public_key_bytes
from tccp.errors import QuoteError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.tpm import KeyKind, open_tpm
from tests.support.soft_tpm import SoftTpm

NONCE = bytes(range(32))
SELECTION = PcrSelection(PcrBank.SHA256, (0, 1, 7, 10))
# Of an AK: what tpm2_createak calls its kind, its scheme and its hash.
KINDS = [
    ("rsa2048", "rsassa", "sha256"),
    ("rsa2048", "rsassa", "sha512"),
    ("rsa2048", "rsapss", "sha256"),
    ("rsa2048", "rsapss", "sha384"),
    ("rsa3072", "rsapss", "sha512"),
    ("rsa3072", "rsassa", "sha256"),
    ("ecc256", "ecdsa", "sha256"),
    ("ecc256", "ecdsa", "sha384"),
    ("ecc384", "ecdsa", "sha384"),
    ("ecc384", "ecdsa", "sha512"),
]


class Tools:
    """tpm2-tools with one TPM, in one folder."""

    def __init__(self, soft_tpm: SoftTpm, folder: Path) -> None:
        self._environment = {**os.environ, "TPM2TOOLS_TCTI": soft_tpm.tcti}
        self._folder = folder

    def run(self, *command: str) -> None:
        # The tools leave what they loaded in the TPM, which has room for three.
        for each in (command, ("tpm2_flushcontext", "-t")):
            done = subprocess.run(
                each, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr

    def create_ak(self, kind: str, scheme: str, hash_name: str) -> AkKey:
        self.run("tpm2_createek", "-G", "ecc", "-c", "ek.ctx")
        self.run(
            *("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", kind, "-g", hash_name, "-s", scheme),
            *("-u", "ak.tss", "-n", "ak.name"),
        )
        self.run("tpm2_readpublic", "-c", "ak.ctx", "-f", "pem", "-o", "ak.pem")
        return AkKey.from_tpm_public(self.read("ak.tss"))

    def quote(self, scheme: str, hash_name: str, *, form: str = "tss") -> tuple[bytes, bytes]:
        pcrs = "sha256:" + ",".join(str(index) for index in SELECTION.indexes)
        self.run(
            *("tpm2_quote", "-c", "ak.ctx", "-l", pcrs, "-q", NONCE.hex(), "-g", hash_name, "--scheme", scheme),
            *("-m", "attest", "-s", "signature", "-f", form),
        )
        return self.read("attest"), self.read("signature")

    def pcrs(self) -> PcrValues:
        self.run("tpm2_pcrread", "sha256:" + ",".join(str(index) for index in SELECTION.indexes), "-o", "pcrs")
        values = self.read("pcrs")
        return PcrValues(SELECTION, {index: values[32 * i :][:32] for i, index in enumerate(SELECTION.indexes)})

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()


@pytest.fixture
def tools(soft_tpm: SoftTpm, tmp_path: Path) -> Tools:
    return Tools(soft_tpm, tmp_path)


@pytest.mark.parametrize(("kind", "scheme", "hash_name"), KINDS)
def test_the_quote_of_each_kind_of_ak_is_accepted(tools: Tools, kind: str, scheme: str, hash_name: str) -> None:
    ak = tools.create_ak(kind, scheme, hash_name)
    pcrs = tools.pcrs()
    attest, signature = tools.quote(scheme, hash_name)

    quote = verify_quote(attest, signature, pcrs, ak=ak, qualifying_data=NONCE)

    assert (quote.pcrs, quote.ak.name) == (pcrs, tools.read("ak.name"))
    assert verify_quote(
        attest, signature, pcrs, ak=AkKey.from_spki(public_key_bytes(tools.read("ak.pem"))), qualifying_data=NONCE
    ).safe
    with pytest.raises(QuoteError, match="nonce_mismatch"):
        verify_quote(attest, signature, pcrs, ak=ak, qualifying_data=bytes(32))


@pytest.mark.parametrize(("kind", "scheme"), [("rsa2048", "rsassa"), ("rsa2048", "rsapss"), ("ecc256", "ecdsa")])
def test_a_plain_signature_of_tpm2_tools_is_shown(tools: Tools, kind: str, scheme: str) -> None:
    ak = tools.create_ak(kind, scheme, "sha256")
    attest, bare = tools.quote(scheme, "sha256", form="plain")

    shown = inspect_quote(attest, wrap_signature(bare, ak=ak, pss=scheme == "rsapss"), ak=ak)

    assert (shown.scheme, shown.extra_data) == (scheme, NONCE)
    assert shown.covers(tools.pcrs())


@pytest.mark.parametrize("kind", ["ecc", "rsa"])
async def test_our_own_client_gets_quotes_that_are_accepted(soft_tpm: SoftTpm, kind: KeyKind) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ak = await tpm.create_ak(kind)
        quote, pcrs = await tpm.quote_with_pcrs(ak, NONCE, SELECTION)
        clock = await tpm.read_clock()

    verified = verify_quote(
        quote.attest, quote.signature, pcrs, ak=AkKey.from_tpm_public(ak.public), qualifying_data=NONCE
    )

    assert verified.ak.name == ak.name
    assert (verified.reset_count, verified.restart_count) == (clock.reset_count, clock.restart_count)


async def test_a_changed_pcr_and_a_reboot_show_in_the_next_quote(soft_tpm: SoftTpm) -> None:
    before = await _quoted(soft_tpm)
    async with open_tpm(soft_tpm.tcti) as tpm:
        await tpm.extend_pcr(7, PcrBank.SHA256, bytes(32))
    extended = await _quoted(soft_tpm)
    soft_tpm.reset()
    rebooted = await _quoted(soft_tpm)

    assert extended.pcrs != before.pcrs
    assert extended.reset_count == before.reset_count
    assert rebooted.pcrs == before.pcrs
    assert rebooted.reset_count == before.reset_count + 1


async def test_a_time_attestation_by_the_same_key_is_no_quote(tools: Tools) -> None:
    ak = tools.create_ak("ecc256", "ecdsa", "sha256")
    tools.run(
        *("tpm2_gettime", "-c", "ak.ctx", "-q", NONCE.hex(), "-g", "sha256", "-s", "ecdsa"),
        *("--attestation", "attest", "-o", "signature"),
    )
    pcrs = tools.pcrs()

    with pytest.raises(QuoteError, match="not_a_quote"):
        verify_quote(tools.read("attest"), tools.read("signature"), pcrs, ak=ak, qualifying_data=NONCE)


async def _quoted(soft_tpm: SoftTpm) -> VerifiedQuote:
    async with open_tpm(soft_tpm.tcti) as tpm:
        ak = await tpm.create_ak()
        quote, pcrs = await tpm.quote_with_pcrs(ak, NONCE, SELECTION)
    return verify_quote(quote.attest, quote.signature, pcrs, ak=AkKey.from_tpm_public(ak.public), qualifying_data=NONCE)
