"""What only the maker of a TPM does, with platform authorization: banks, certificates in NV, persistent keys."""

from collections.abc import Sequence

from tccp.model import PCR_COUNT, PcrBank
from tccp.tpm.channel import PASSWORD, Channel
from tccp.tpm.constants import Algorithm, CommandCode, Handle, HandleRange, NvAttribute
from tccp.tpm.marshal import tpm2b, u8, u16, u32
from tccp.tpm.nv import list_handles

_BLOCK_BYTES = 512
_SHUTDOWN_CLEAR = 0
_SELECT_BYTES = PCR_COUNT // 8
# Written by the platform, read by everybody, as the EK Credential Profile 2.5 (2.2.1) wants EK certificates to be.
_CERTIFICATE = (
    NvAttribute.PLATFORM_WRITE
    | NvAttribute.PLATFORM_READ
    | NvAttribute.OWNER_READ
    | NvAttribute.AUTH_READ
    | NvAttribute.NO_DICTIONARY_ATTACKS
    | NvAttribute.PLATFORM_CREATE
)


async def keep_banks(channel: Channel, banks: Sequence[PcrBank]) -> None:
    """Have the TPM keep PCRs of *banks* alone, from its next start on (Part 3, 22.5)."""
    selections = [
        u16(bank) + u8(_SELECT_BYTES) + (b"\xff" if bank in banks else b"\0") * _SELECT_BYTES for bank in PcrBank
    ]
    parameters = u32(len(selections)) + b"".join(selections)
    await channel.command(CommandCode.PCR_ALLOCATE, (Handle.PLATFORM,), parameters, (PASSWORD,))


async def make_persistent(channel: Channel, handle: int, persistent: int) -> None:
    """Keep the key at *handle* at *persistent*, too, unless something is there (Part 3, 28.5)."""
    if persistent not in await list_handles(channel, HandleRange.PERSISTENT):
        await channel.command(CommandCode.EVICT_CONTROL, (Handle.OWNER, handle), u32(persistent), (PASSWORD,))


async def write_certificate(channel: Channel, index: int, certificate: bytes) -> None:
    """Put *certificate* into NV index *index*, in place of what was there (Part 3, 31.3, 31.4 and 31.7)."""
    if index in await list_handles(channel, HandleRange.NV_INDEX):
        await channel.command(CommandCode.NV_UNDEFINE_SPACE, (Handle.PLATFORM, index), b"", (PASSWORD,))
    public = u32(index) + u16(Algorithm.SHA256) + u32(_CERTIFICATE) + tpm2b(b"") + u16(len(certificate))
    parameters = tpm2b(b"") + tpm2b(public)
    await channel.command(CommandCode.NV_DEFINE_SPACE, (Handle.PLATFORM,), parameters, (PASSWORD,))
    for at in range(0, len(certificate), _BLOCK_BYTES):
        parameters = tpm2b(certificate[at : at + _BLOCK_BYTES]) + u16(at)
        await channel.command(CommandCode.NV_WRITE, (Handle.PLATFORM, index), parameters, (PASSWORD,))


async def shut_down(channel: Channel) -> None:
    """Prepare for losing power (Part 3, 9.4)."""
    await channel.command(CommandCode.SHUTDOWN, parameters=u16(_SHUTDOWN_CLEAR))
