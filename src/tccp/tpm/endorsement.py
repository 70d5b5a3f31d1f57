"""Finding the endorsement key and what its maker says of it (EK Credential Profile 2.5, 2.2).

NV indices -> certificate -> template -> key        a certificate and a key that do not belong together are an error
"""

from dataclasses import dataclass

from tccp.errors import TpmError
from tccp.tpm import nv
from tccp.tpm.channel import Channel
from tccp.tpm.constants import EK_CHAIN_NV, EK_PERSISTENT, Handle, HandleRange
from tccp.tpm.der import DerError, certificate_key_bits, key_bits, split_certificates, trim_certificate
from tccp.tpm.objects import create_primary, flush_surely, flushed_on_error, read_public
from tccp.tpm.structures import Ek, public_area
from tccp.tpm.templates import EK_SLOTS, EkSlot, KeyKind

_CHAIN_CERTIFICATES_MAX = 16
_CHAIN_BYTES_MAX = 32768


@dataclass(frozen=True, slots=True)
class _Certified:
    slot: EkSlot
    certificate: bytes


async def read_ek(channel: Channel, kind: KeyKind | None) -> Ek:
    """See `tccp.tpm.client.Tpm.read_ek`."""
    slots = [slot for slot in EK_SLOTS if kind in {None, slot.kind}]
    defined = frozenset(await nv.list_indexes(channel))
    certified = await _read_certificate(channel, slots, defined)
    if certified is None:
        key = await create_primary(channel, Handle.ENDORSEMENT, slots[0].templates[0])
        return Ek(key.handle, key.public, None, ())
    chain = await _read_chain(channel, defined)
    handle, public = await _find_key(channel, certified, defined)
    return Ek(handle, public, certified.certificate, chain)


async def _read_certificate(channel: Channel, slots: list[EkSlot], defined: frozenset[int]) -> _Certified | None:
    """The most preferred certificate in NV; None when the maker left none."""
    for slot in slots:
        data = await _read_if_defined(channel, slot.certificate_nv, defined)
        if data:
            try:
                return _Certified(slot, trim_certificate(data))
            except DerError as error:
                raise _malformed(slot, error) from error
    return None


async def _read_chain(channel: Channel, defined: frozenset[int]) -> tuple[bytes, ...]:
    """The issuers' certificates that the TPM holds: one string of bytes, cut over as many indices as it takes."""
    data = b""
    for index in sorted(defined.intersection(EK_CHAIN_NV)):
        if len(data) < _CHAIN_BYTES_MAX:
            data += await nv.read_index(channel, index) or b""
    return split_certificates(data, _CHAIN_CERTIFICATES_MAX)


async def _find_key(channel: Channel, certified: _Certified, defined: frozenset[int]) -> tuple[int, bytes]:
    """The handle and TPMT_PUBLIC of the key that the certificate is about.

    One that lies ready is taken, since making an RSA key takes a hardware TPM many seconds.

    Raises:
        TpmError: The TPM has no such key.
    """
    try:
        wanted = certificate_key_bits(certified.certificate)
    except DerError as error:
        raise _malformed(certified.slot, error) from error
    for handle in await nv.list_handles(channel, HandleRange.PERSISTENT):
        if handle in EK_PERSISTENT:
            public = await read_public(channel, handle)
            if _holds(public, wanted):
                return handle, public
    for template in await _templates(channel, certified.slot, defined):
        key = await create_primary(channel, Handle.ENDORSEMENT, template)
        async with flushed_on_error(channel, key.handle):
            if _holds(key.public, wanted):
                return key.handle, key.public
        await flush_surely(channel, key.handle)
    raise TpmError(
        "ek_certificate_mismatch",
        f"the certificate at NV index 0x{certified.slot.certificate_nv:08x} is about another key than this TPM's",
        hint="Was the TPM's endorsement seed changed (tpm2_changeeps), or the certificate overwritten?",
    )


async def _templates(channel: Channel, slot: EkSlot, defined: frozenset[int]) -> list[bytes]:
    """The templates that may give the key of *slot*, the maker's own first."""
    templates = list(slot.templates)
    nonce = await _read_if_defined(channel, slot.nonce_nv, defined)
    if nonce:
        templates.insert(0, slot.template_with_nonce(nonce))
    template = await _read_if_defined(channel, slot.template_nv, defined)
    if template:
        templates.insert(0, template)
    return templates


async def _read_if_defined(channel: Channel, index: int | None, defined: frozenset[int]) -> bytes | None:
    return await nv.read_index(channel, index) if index in defined and index is not None else None


def _holds(public: bytes, wanted: bytes) -> bool:
    """Whether *public* is about the key *wanted*; a kind of key that tccp does not know never is."""
    try:
        return key_bits(public_area(public).spki) == wanted
    except TpmError:
        return False


def _malformed(slot: EkSlot, error: DerError) -> TpmError:
    return TpmError("ek_certificate_malformed", f"NV index 0x{slot.certificate_nv:08x}: {error}")
