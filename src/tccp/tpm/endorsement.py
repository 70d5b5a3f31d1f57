"""Finding the endorsement key and what its maker says of it (EK Credential Profile 2.5, 2.2).

NV indices -> certificate -> template -> key        a certificate and a key that do not belong together are an error
"""

from tccp.errors import TpmError
from tccp.tpm import nv
from tccp.tpm.channel import Channel
from tccp.tpm.constants import EK_CHAIN_NV, EK_PERSISTENT, Handle, HandleRange
from tccp.tpm.der import DerError, certificate_key_bits, split_certificates, trim_certificate
from tccp.tpm.objects import create_primary, flush_surely, flushed_on_error, read_public
from tccp.tpm.structures import Ek, parse_public
from tccp.tpm.templates import EK_TEMPLATES, EkTemplate, KeyKind

_CHAIN_CERTIFICATES_MAX = 16
_CHAIN_BYTES_MAX = 32768


async def read_ek(channel: Channel, kind: KeyKind | None) -> Ek:
    """See `tccp.tpm.client.Tpm.read_ek`."""
    templates = [template for template in EK_TEMPLATES if kind in {None, template.kind}]
    defined = await nv.list_indexes(channel)
    index, certificate = await _read_certificate(channel, templates, defined)
    if certificate is None:
        key = await create_primary(channel, Handle.ENDORSEMENT, templates[0].public)
        return Ek(key.handle, key.public, None, ())
    chain = await _read_chain(channel, defined)
    handle, public = await _find_key(channel, [t for t in templates if t.certificate_nv == index], certificate)
    return Ek(handle, public, certificate, chain)


async def _read_certificate(
    channel: Channel, templates: list[EkTemplate], defined: list[int]
) -> tuple[int, bytes | None]:
    """The most preferred certificate in NV and its index; 0 and None when the maker left none."""
    for index in dict.fromkeys(template.certificate_nv for template in templates):
        if index not in defined:
            continue
        data = await nv.read_index(channel, index)
        if data is None:
            continue
        try:
            return index, trim_certificate(data)
        except DerError as error:
            raise TpmError("ek_certificate_malformed", f"NV index 0x{index:08x}: {error}") from error
    return 0, None


async def _read_chain(channel: Channel, defined: list[int]) -> tuple[bytes, ...]:
    """The issuers' certificates that the TPM holds: one string of bytes, cut over as many indices as it takes."""
    data = b""
    for index in defined:
        if index in EK_CHAIN_NV and len(data) < _CHAIN_BYTES_MAX:
            data += await nv.read_index(channel, index) or b""
    return split_certificates(data, _CHAIN_CERTIFICATES_MAX)


async def _find_key(channel: Channel, templates: list[EkTemplate], certificate: bytes) -> tuple[int, bytes]:
    """The handle and TPMT_PUBLIC of the key that *certificate* is about.

    One that lies ready is taken, since making an RSA key takes a hardware TPM many seconds.

    Raises:
        TpmError: The TPM has no such key.
    """
    try:
        wanted = certificate_key_bits(certificate)
    except DerError as error:
        raise TpmError("ek_certificate_malformed", str(error)) from error
    for handle in await nv.list_handles(channel, HandleRange.PERSISTENT):
        if handle in EK_PERSISTENT:
            public = await read_public(channel, handle)
            if _holds(public, wanted):
                return handle, public
    for template in templates:
        key = await create_primary(channel, Handle.ENDORSEMENT, template.public)
        async with flushed_on_error(channel, key.handle):
            if _holds(key.public, wanted):
                return key.handle, key.public
        await flush_surely(channel, key.handle)
    raise TpmError(
        "ek_certificate_mismatch",
        f"the certificate at NV index 0x{templates[0].certificate_nv:08x} is about another key than this TPM's",
        hint="Was the TPM's endorsement seed changed (tpm2_changeeps), or the certificate overwritten?",
    )


def _holds(public: bytes, wanted: bytes) -> bool:
    return parse_public(public).key_bits == wanted
