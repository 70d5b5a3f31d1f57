"""Keys and sessions in the TPM's few slots: made, looked at, and always given back."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import trio

from tccp.errors import TpmError
from tccp.tpm import nv
from tccp.tpm.channel import PASSWORD, Channel, Session
from tccp.tpm.constants import SESSION_TYPE_POLICY, Algorithm, CommandCode, Handle, HandleRange
from tccp.tpm.marshal import malformed, tpm2b, u8, u16, u32
from tccp.tpm.structures import public_area

_NONCE_CALLER = bytes(16)
# Flushing is quick; a daemon that stops does not wait for a TPM that hangs.
_FLUSH_S = 10.0


@dataclass(frozen=True, slots=True)
class Primary:
    """A key that the TPM derived from a template and its hierarchy's seed."""

    handle: int
    public: bytes
    name: bytes


async def create_primary(channel: Channel, hierarchy: Handle, template: bytes) -> Primary:
    """Have the TPM derive the key of *template* (Part 3, 24.1)."""
    sensitive = tpm2b(tpm2b(b"") + tpm2b(b""))
    parameters = sensitive + tpm2b(template) + tpm2b(b"") + u32(0)
    answer = await channel.command(CommandCode.CREATE_PRIMARY, (hierarchy,), parameters, (PASSWORD,))
    (handle,) = answer.handles
    async with flushed_on_error(channel, handle):
        reader = answer.parameters
        public = reader.tpm2b()
        reader.tpm2b()  # creationData
        reader.tpm2b()  # creationHash
        reader.take(6)  # creationTicket: tag, hierarchy, and its digest
        reader.tpm2b()
        name = reader.tpm2b()
        reader.finish()
        if name != public_area(public).name:
            raise malformed("a key's name is not the digest of its public area")
    return Primary(handle, public, name)


async def read_public(channel: Channel, handle: int) -> bytes:
    """The TPMT_PUBLIC of a loaded key (Part 3, 12.4)."""
    reader = (await channel.command(CommandCode.READ_PUBLIC, (handle,))).parameters
    public = reader.tpm2b()
    reader.tpm2b()  # name
    reader.tpm2b()  # qualifiedName
    reader.finish()
    return public


async def flush(channel: Channel, handle: int) -> None:
    """Give the slot of *handle* back; a persistent key has none and stays (Part 3, 28.4)."""
    if handle >> 24 != HandleRange.PERSISTENT >> 24:
        await channel.command(CommandCode.FLUSH_CONTEXT, parameters=u32(handle), timeout_s=_FLUSH_S)


async def flush_surely(channel: Channel, handle: int) -> None:
    """Flush even when the task is cancelled; a TPM that is gone has nothing left to flush."""
    with trio.CancelScope(shield=True), contextlib.suppress(TpmError):
        await flush(channel, handle)


@contextlib.asynccontextmanager
async def flushed_on_error(channel: Channel, handle: int) -> AsyncGenerator[None]:
    """Keep *handle* when the body ends well, else flush it."""
    try:
        yield
    except BaseException:
        await flush_surely(channel, handle)
        raise


async def flush_leftovers(channel: Channel) -> None:
    """Free what clients before us left in the slots of a TPM that has no resource manager."""
    for first in (HandleRange.TRANSIENT, HandleRange.LOADED_SESSION):
        for handle in await nv.list_handles(channel, first):
            await flush(channel, handle)


@contextlib.asynccontextmanager
async def endorsement_session(channel: Channel) -> AsyncGenerator[Session]:
    """A policy session that an EK of the low range accepts: PolicySecret with the endorsement hierarchy (Part 3, 23.4).

    The session serves one command. Its nonces stand still, and that is harmless: no HMAC and no secret depends on them.
    """
    parameters = (
        tpm2b(_NONCE_CALLER) + tpm2b(b"") + u8(SESSION_TYPE_POLICY) + u16(Algorithm.NULL) + u16(Algorithm.SHA256)
    )
    answer = await channel.command(CommandCode.START_AUTH_SESSION, (Handle.NULL, Handle.NULL), parameters)
    (handle,) = answer.handles
    try:
        secret = tpm2b(b"") * 3 + u32(0)  # nonceTPM, cpHashA, policyRef, expiration
        await channel.command(CommandCode.POLICY_SECRET, (Handle.ENDORSEMENT, handle), secret, (PASSWORD,))
        yield Session(handle)
    finally:
        await flush_surely(channel, handle)
