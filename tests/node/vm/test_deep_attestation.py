"""A quote made inside a guest, verified down to the node's identity statement; and everything that must not verify."""

import base64
import datetime as dt
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tccp.attestation.deep import GuestEvidence, verify_guest, vtpm_ek
from tccp.attestation.enrolment import challenge_ak, confirm_activation
from tccp.attestation.event_log import explain, replay_event_log
from tccp.attestation.vtpm_certificate import verify_vtpm_certificate
from tccp.errors import EnrolmentError, QuoteError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.node.vm.certificates import VtpmIssuer
from tests.support.machines import Guest, GuestImages, TestHost, booted, describe

PCRS = (0, 2, 4, 5, 7, 9)
TOOLS = ["tpm2"]
LIBRARY = "usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0"


@pytest.fixture(scope="session")
def tool_images(vm_folder: Path) -> GuestImages:
    """A guest with tpm2-tools: what is verified was made by somebody else's code."""
    files = {LIBRARY: Path(f"/{LIBRARY}").read_bytes()}
    return GuestImages(vm_folder / "tool-images", programs=TOOLS, files=files)


async def fetch(guest: Guest, path: str) -> bytes:
    return base64.b64decode("".join(await guest.run(f"base64 {path}")))


async def quote_inside(guest: Guest, nonce: bytes) -> GuestEvidence:
    """Quote with the AK that the node left in the vTPM, and read its certificate, all by tpm2-tools in the guest."""
    selection = PcrSelection.of(PcrBank.SHA256, PCRS)
    indexes = ",".join(map(str, PCRS))
    await guest.run(
        "mkdir /work; cd /work; export TPM2TOOLS_TCTI=device:/dev/tpmrm0; tpm2 nvread -C o 0x01C08000 -o ak.der"
    )
    await guest.run(
        f"tpm2 quote -c 0x81010010 -l sha256:{indexes} -q {nonce.hex()} -m attest -s signature -o pcrs -F values"
    )
    values = await fetch(guest, "pcrs")
    split = {index: values[32 * place : 32 * place + 32] for place, index in enumerate(PCRS)}
    return GuestEvidence(
        attest=await fetch(guest, "attest"),
        signature=await fetch(guest, "signature"),
        pcrs=PcrValues(selection, split),
        ak_certificate=await fetch(guest, "ak.der"),
    )


async def test_a_guests_quote_leads_to_the_node_and_says_what_was_booted(
    host: TestHost, tool_images: GuestImages
) -> None:
    description, nonce = describe(firmware="uefi", memory_mib=256), os.urandom(32)
    identity = host.identity
    statement, key = identity.statement, bytes(identity.signing_key.verify_key)
    async with booted(host, tool_images.diskless, description=description) as guest:
        evidence = await quote_inside(guest, nonce)
        log = await fetch(guest, "/sys/kernel/security/tpm0/binary_bios_measurements")
        certificates = guest.vm.vtpm.certificates
        assert evidence.ak_certificate == certificates.ak_certificate

        # The way of hardware TPMs, too: the vTPM itself proves that the AK lives beside the certified EK.
        await guest.run("tpm2 createek -G ecc -c ek -u ek.pub -f tpmt; tpm2 readpublic -c 0x81010010 -o ak.pub -f tpmt")
        ek = vtpm_ek(
            await fetch(guest, "ek.pub"),
            certificates.ek_certificate,
            vm_id=description.vm_id,
            statement=statement,
            signing_key=key,
        )
        challenge = challenge_ak(await fetch(guest, "ak.pub"), ek=ek, secret=os.urandom(32))
        header = bytes.fromhex("badcc0de00000001")
        blob = header + b"".join(
            len(part).to_bytes(2, "big") + part for part in (challenge.id_object, challenge.encrypted_secret)
        )
        await guest.run(
            f"echo {base64.b64encode(blob).decode()} | base64 -d > blob; tpm2 startauthsession --policy-session -S s"
        )
        await guest.run(
            "tpm2 policysecret -S s -c e; tpm2 activatecredential -c 0x81010010 -C ek -i blob -o secret -P session:s"
        )
        bound = confirm_activation(challenge, await fetch(guest, "secret"))

    verified = verify_guest(
        evidence, vm_id=description.vm_id, qualifying_data=nonce, statement=statement, signing_key=key
    )
    assert verified.claim.images == (("kernel", tool_images.kernel.root), ("initrd", tool_images.initrd.root))
    assert (
        bound.ak_spki
        == verify_vtpm_certificate(evidence.ak_certificate, "ak", statement=statement, signing_key=key).spki
    )

    # Measured boot: OVMF has measured the command line and the initrd into PCR 9, and the log explains the PCRs.
    cmdline = f"{description.cmdline} initrd=initrd\0".encode("utf-16-le")
    value = bytes(32)
    for event in (hashlib.sha256(cmdline).digest(), hashlib.sha256(tool_images.initramfs.read_bytes()).digest()):
        value = hashlib.sha256(value + event).digest()
    assert evidence.pcrs.values[9] == value
    assert evidence.pcrs.values[4] != bytes(32)
    explained = explain(replay_event_log(log), verified.quote.pcrs)
    assert explained is not None

    await the_chain_is_refused_when_any_link_is_another(host, evidence, description.vm_id, nonce)


async def the_chain_is_refused_when_any_link_is_another(
    host: TestHost, evidence: GuestEvidence, vm_id: bytes, nonce: bytes
) -> None:
    identity = host.identity
    statement, key = identity.statement, bytes(identity.signing_key.verify_key)
    spki = verify_vtpm_certificate(evidence.ak_certificate, "ak", statement=statement, signing_key=key).spki

    def refused(
        changed: GuestEvidence = evidence,
        *,
        vm: bytes = vm_id,
        nonce_asked: bytes = nonce,
        said: bytes = statement,
        signer: bytes = key,
    ) -> str:
        with pytest.raises((EnrolmentError, QuoteError)) as error:
            verify_guest(changed, vm_id=vm, qualifying_data=nonce_asked, statement=said, signing_key=signer)
        return error.value.reason

    assert refused(vm=bytes(16)) == "another_vm"
    assert refused(nonce_asked=bytes(32)) == "nonce_mismatch"
    assert refused(said=statement + b"\0") == "another_identity"
    other = VtpmIssuer("alpha", host.identity.signing_key.generate(), statement)
    assert refused(signer=bytes(other.signing_key.verify_key)) == "signature"
    values = dict(evidence.pcrs.values) | {9: bytes(32)}
    assert refused(replace(evidence, pcrs=PcrValues(evidence.pcrs.selection, values))) == "pcr_digest_mismatch"
    for position in range(0, len(evidence.ak_certificate), 7):
        altered = bytearray(evidence.ak_certificate)
        altered[position] ^= 1
        assert refused(replace(evidence, ak_certificate=bytes(altered))) in {"signature", "malformed"}
    # A certificate for the same key by the right node, but for another purpose or VM.
    own = VtpmIssuer("alpha", identity.signing_key, statement)
    now = dt.datetime.now(dt.UTC)
    as_ek = own.certify("ek", spki, own.claim(vm_id, ()), now=now)
    assert refused(replace(evidence, ak_certificate=as_ek)) == "key_attributes"
    elsewhere = own.certify("ak", spki, own.claim(bytes(16), ()), now=now)
    assert refused(replace(evidence, ak_certificate=elsewhere)) == "another_vm"
