"""Making a vTPM, and certifying it anew at every start, before its guest sees it.

The guest finds in NV, under the handles of TCG's registry, the certificate of its EK, and beside it that of its AK;
the AK itself is persistent, so that no template has to be known. All of it is written with platform authorization,
which firmware takes away from the guest.
"""

import socket

import trio

from tccp.attestation.vtpm_certificate import VtpmClaim
from tccp.core.tpm_public import tpm_public_parse
from tccp.errors import HostError, TccpError
from tccp.model import PcrBank
from tccp.node.vm.certificates import VtpmCertificates, VtpmIssuer, VtpmKeys
from tccp.node.vm.child import Child
from tccp.tpm.channel import Channel
from tccp.tpm.client import Tpm
from tccp.tpm.maker import keep_banks, make_persistent, shut_down, write_certificate
from tccp.tpm.tcti import StreamConnection

EK_CERTIFICATE_NV = 0x01C0000A  # ECC P-256, low range
AK_CERTIFICATE_NV = 0x01C08000  # the first of the platform's maker: that is who we are
AK_HANDLE = 0x81010010
BANKS = (PcrBank.SHA256,)
ANSWER_S = 20.0


async def certify_vtpm(
    data: socket.socket, maker: Child, vm_id: bytes, images: tuple[tuple[str, bytes], ...], issuer: VtpmIssuer
) -> tuple[VtpmCertificates, int]:
    """Give the vTPM behind *data* its keys, unless it has them, and certificates of now; shut it down.

    Args:
        maker: The process behind it, which ends on its own afterwards.

    Returns:
        Also how often it has been started, this time included.

    Raises:
        HostError: ``vtpm_failed``.
    """
    channel = Channel(StreamConnection(trio.SocketStream(trio.socket.from_stdlib_socket(data))), timeout_s=ANSWER_S)
    tpm = Tpm(channel)
    try:
        ek = await tpm.read_ek(kind="ecc")
        ak = await tpm.create_ak("ecc")
        keys = VtpmKeys(tpm_public_parse(ek.public).spki, tpm_public_parse(ak.public).spki)
        certificates = certified(keys, issuer.claim(vm_id, images), issuer)
        await keep_banks(channel, BANKS)
        await make_persistent(channel, ak.handle, AK_HANDLE)
        await write_certificate(channel, EK_CERTIFICATE_NV, certificates.ek_certificate)
        await write_certificate(channel, AK_CERTIFICATE_NV, certificates.ak_certificate)
        await tpm.flush(ek.handle)
        await tpm.flush(ak.handle)
        starts = (await tpm.read_clock()).reset_count
        await shut_down(channel)
    except TccpError as problem:
        with trio.move_on_after(1):
            await maker.wait()
        raise HostError("vtpm_failed", f"{problem}: {maker.said[-300:]}") from problem
    finally:
        await tpm.aclose()
    with trio.move_on_after(ANSWER_S):
        await maker.wait()
    return certificates, starts


def certified(keys: VtpmKeys, claim: VtpmClaim, issuer: VtpmIssuer) -> VtpmCertificates:
    """Certificates of now for keys that a vTPM, or another node, says it has.

    Raises:
        HostError: ``vtpm_failed``: they are none of a vTPM.
    """
    try:
        return issuer.certify_keys(keys, claim)
    except ValueError as problem:
        raise HostError("vtpm_failed", f"the keys that it shows: {problem}") from problem
