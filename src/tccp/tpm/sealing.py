"""Secrets that only this TPM gives back, and only in a state that an authority has approved; see `tccp.tpm.policy`.

Whoever listens on the bus sees neither what goes in nor what comes out (`tccp.tpm.session`).
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from tccp.core.memory import wipe
from tccp.errors import TpmError
from tccp.tpm import nv, policy
from tccp.tpm.channel import PASSWORD, Channel
from tccp.tpm.constants import (
    EO_UNSIGNED_LE,
    SESSION_TYPE_HMAC,
    SESSION_TYPE_POLICY,
    CommandCode,
    Handle,
    SessionAttribute,
    Tag,
)
from tccp.tpm.marshal import Reader, malformed, tpm2b, u16, u32
from tccp.tpm.objects import Primary, create_primary, flush_surely
from tccp.tpm.session import Named, SaltedSession, salted_session
from tccp.tpm.structures import put_selection
from tccp.tpm.templates import STORAGE_TEMPLATE

SECRET_BYTES_MAX = 128


@dataclass(frozen=True, slots=True)
class SealedBlob:
    """A sealed secret, for the TPM that made it alone.

    Attributes:
        storage_name: The name of the TPM's storage key: another name, another TPM.
        public: TPMT_PUBLIC; its policy says who may open it.
        private: TPM2B_PRIVATE without its size; encrypted by the TPM.
    """

    storage_name: bytes
    public: bytes
    private: bytes = field(repr=False)


async def seal(channel: Channel, secret: bytes, object_policy: bytes) -> SealedBlob:
    """Seal *secret*, 128 bytes at most, under a policy that `policy.object_policy` made (Part 3, 12.1).

    No copy of it stays behind in our memory, nor one of what `unseal` returns.
    """
    if not 0 < len(secret) <= SECRET_BYTES_MAX:
        raise ValueError(f"between 1 and {SECRET_BYTES_MAX} bytes can be sealed, not {len(secret)}")
    async with _storage_key(channel) as storage, salted_session(channel, storage, SESSION_TYPE_HMAC) as session:
        template = policy.sealed_public(object_policy)
        # TPM2B_SENSITIVE_CREATE: no password, and the secret. In one piece, so that there is one copy to wipe.
        sensitive = (u16(4 + len(secret)), tpm2b(b""), u16(len(secret)), secret)
        parameters = b"".join((*sensitive, tpm2b(template), tpm2b(b""), u32(0)))
        parent = Named(storage.handle, storage.name)
        try:
            answer = await session.command(CommandCode.CREATE, [parent], parameters, SessionAttribute.DECRYPT)
        finally:
            wipe(parameters)
        reader = answer.parameters
        private, public = reader.tpm2b(), reader.tpm2b()
        # The TPM fills in `unique`, which is last and empty in the template.
        if not public.startswith(template[:-2]):
            raise malformed("a sealed object with another policy than was asked for")
        return SealedBlob(storage.name, public, private)


async def unseal(channel: Channel, blob: SealedBlob, approval: policy.Approval) -> bytes:
    """The secret in *blob*, if this TPM made it and is in the state that *approval* is about (Part 3, 12.7).

    Raises:
        TpmError: ``another_tpm``; ``tpm_rc_...`` when anything about the approval does not hold: the TPM decides.
    """
    ticket = await _verified(channel, approval)
    async with _storage_key(channel) as storage:
        if storage.name != blob.storage_name:
            raise TpmError(
                "another_tpm",
                "the keys are sealed to another TPM than this one",
                hint="On another machine restore them from the officers' shares: `tccp coordinator keys restore`.",
            )
        async with (
            _loaded(channel, storage, blob) as sealed,
            salted_session(channel, storage, SESSION_TYPE_POLICY) as session,
        ):
            await _fulfil(channel, session, approval, ticket)
            answer = await session.command(CommandCode.UNSEAL, [sealed], b"", SessionAttribute.ENCRYPT)
            secret = answer.parameters.tpm2b()
            answer.parameters.finish()
            answer.parameters.wipe()
            return secret


async def storage_name(channel: Channel) -> bytes:
    """By what name this TPM's storage key goes: `SealedBlob.storage_name` of what it has sealed."""
    async with _storage_key(channel) as storage:
        return storage.name


async def read_generation(channel: Channel) -> int:
    """The value of the counter; approvals of a smaller generation have ended. Made when it is missing.

    A counter that is made anew starts above every counter that the TPM has ever had (Part 3, 31.3).
    """
    if policy.COUNTER_INDEX not in await nv.list_indexes(channel):
        parameters = tpm2b(b"") + tpm2b(policy.counter_public())
        await channel.command(CommandCode.NV_DEFINE_SPACE, (Handle.OWNER,), parameters, (PASSWORD,))
    generation = await _counter(channel)
    return await next_generation(channel) if generation is None else generation


async def next_generation(channel: Channel) -> int:
    """Have the counter count: every approval of its present generation, or of an earlier one, ends for good."""
    counter = (Handle.OWNER, policy.COUNTER_INDEX)
    await channel.command(CommandCode.NV_INCREMENT, counter, b"", (PASSWORD,))
    generation = await _counter(channel)
    if generation is None:
        raise malformed("a counter that was counted and not written")
    return generation


async def _counter(channel: Channel) -> int | None:
    """What the counter has counted to; None when it never has."""
    data = await nv.read_index(channel, policy.COUNTER_INDEX)
    if data is None:
        return None
    if len(data) != policy.COUNTER_BYTES:
        raise TpmError(
            "another_nv_index",
            f"NV index 0x{policy.COUNTER_INDEX:08x} holds {len(data)} bytes, which is not a counter",
            hint="Somebody else uses this index of the TPM: have it removed (tpm2_nvundefine -C o).",
        )
    return int.from_bytes(data, "big")


@contextlib.asynccontextmanager
async def _storage_key(channel: Channel) -> AsyncGenerator[Primary]:
    storage = await create_primary(channel, Handle.OWNER, STORAGE_TEMPLATE)
    try:
        yield storage
    finally:
        await flush_surely(channel, storage.handle)


@contextlib.asynccontextmanager
async def _loaded(channel: Channel, storage: Primary, blob: SealedBlob) -> AsyncGenerator[Named]:
    """The sealed object, loaded (Part 3, 12.2)."""
    parameters = tpm2b(blob.private) + tpm2b(blob.public)
    answer = await channel.command(CommandCode.LOAD, (storage.handle,), parameters, (PASSWORD,))
    (handle,) = answer.handles
    try:
        yield Named(handle, policy.name_of(blob.public))
    finally:
        await flush_surely(channel, handle)


async def _fulfil(channel: Channel, session: SaltedSession, approval: policy.Approval, ticket: bytes) -> None:
    """Lead the policy of *session* to that of the sealed object (Part 3, 23.9, 23.7, 23.16)."""
    approved = approval.approved
    compared = tpm2b(approved.operand) + u16(0) + u16(EO_UNSIGNED_LE)
    counter = (policy.COUNTER_INDEX, policy.COUNTER_INDEX, session.handle)
    await channel.command(CommandCode.POLICY_NV, counter, compared, (PASSWORD,))
    selected = tpm2b(b"") + put_selection(approved.pcrs.selection)
    await channel.command(CommandCode.POLICY_PCR, (session.handle,), selected)
    authority = policy.name_of(policy.authority_public(approval.authority))
    parameters = tpm2b(approved.policy) + tpm2b(approval.reference) + tpm2b(authority) + ticket
    await channel.command(CommandCode.POLICY_AUTHORIZE, (session.handle,), parameters)


async def _verified(channel: Channel, approval: policy.Approval) -> bytes:
    """The TPM's ticket that the signature of *approval* is by its authority (Part 3, 12.3 and 20.1)."""
    key = tpm2b(b"") + tpm2b(policy.authority_public(approval.authority)) + u32(Handle.OWNER)
    answer = await channel.command(CommandCode.LOAD_EXTERNAL, (), key)
    (handle,) = answer.handles
    try:
        digest = policy.digest_to_sign(approval.approved, approval.reference)
        answer = await channel.command(CommandCode.VERIFY_SIGNATURE, (handle,), tpm2b(digest) + approval.tpm_signature)
        ticket = answer.parameters.rest()
        if Reader(ticket).uint(2) != Tag.VERIFIED:
            raise malformed("a ticket of another kind")
        return ticket
    finally:
        await flush_surely(channel, handle)
