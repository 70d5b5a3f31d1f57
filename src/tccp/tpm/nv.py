"""Reading the TPM's non-volatile memory (TPM 2.0 Library, Part 3, 31)."""

from dataclasses import dataclass

from tccp.errors import TpmError
from tccp.tpm.channel import PASSWORD, Channel
from tccp.tpm.constants import Capability, CommandCode, Handle, HandleRange, NvAttribute
from tccp.tpm.marshal import Reader, malformed, u16, u32

# What every TPM hands out at once, whatever its TPM_PT_NV_BUFFER_MAX.
_BLOCK_BYTES = 512
# The largest EK certificate of the makers' that we know has 2 KiB.
_INDEX_BYTES_MAX = 8192
_HANDLES_MAX = 1024
_HANDLES_A_CALL = 254
_HANDLE_MAX = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class NvIndex:
    """What TPMS_NV_PUBLIC says of an index (Part 2, 13.5)."""

    index: int
    attributes: NvAttribute
    data_bytes: int


async def list_handles(channel: Channel, first: int) -> list[int]:
    """All handles of the kind that begins at *first*."""
    handles: list[int] = []
    more = True
    while more and len(handles) < _HANDLES_MAX:
        start = max(handles) + 1 if handles else first
        parameters = u32(Capability.HANDLES) + u32(start) + u32(_HANDLES_A_CALL)
        reader = (await channel.command(CommandCode.GET_CAPABILITY, parameters=parameters)).parameters
        more = bool(reader.uint(1))
        if reader.uint(4) != Capability.HANDLES:
            raise malformed("another capability than handles")
        found = [reader.uint(4) for _ in range(reader.count(4))]
        reader.finish()
        if more and not (found and start <= max(found) < _HANDLE_MAX):
            raise malformed("a list of handles that goes on and does not get further")
        handles += found
    return handles


async def list_indexes(channel: Channel) -> list[int]:
    """The NV indices that are defined."""
    return await list_handles(channel, HandleRange.NV_INDEX)


async def read_index(channel: Channel, index: int) -> bytes | None:
    """All that index *index* holds, padding included; None when nothing was written to it.

    Raises:
        TpmError: It cannot be read without a password, or is larger than any certificate.
    """
    described = await _read_public(channel, index)
    if NvAttribute.WRITTEN not in described.attributes:
        return None
    return await _read_data(channel, described)


async def _read_data(channel: Channel, described: NvIndex) -> bytes:
    index = described.index
    if described.data_bytes > _INDEX_BYTES_MAX:
        raise TpmError("nv_too_large", f"NV index 0x{index:08x} holds {described.data_bytes} bytes")
    # The index's own password is empty for certificates; the owner may have set one for the hierarchy.
    reader_handle = index if NvAttribute.AUTH_READ in described.attributes else Handle.OWNER
    data = b""
    while len(data) < described.data_bytes:
        wanted = min(_BLOCK_BYTES, described.data_bytes - len(data))
        answer = await channel.command(
            CommandCode.NV_READ, (reader_handle, index), u16(wanted) + u16(len(data)), (PASSWORD,)
        )
        block = answer.parameters.tpm2b()
        answer.parameters.finish()
        if len(block) != wanted:
            raise malformed(f"{len(block)} bytes of NV where {wanted} were asked for")
        data += block
    return data


async def _read_public(channel: Channel, index: int) -> NvIndex:
    answer = await channel.command(CommandCode.NV_READ_PUBLIC, (index,))
    public = Reader(answer.parameters.tpm2b())
    answer.parameters.tpm2b()  # the index's name
    answer.parameters.finish()
    if public.uint(4) != index:
        raise malformed(f"an answer about another NV index than 0x{index:08x}")
    public.uint(2)  # nameAlg
    attributes = NvAttribute(public.uint(4))
    public.tpm2b()  # authPolicy
    data_bytes = public.uint(2)
    public.finish()
    return NvIndex(index, attributes, data_bytes)
