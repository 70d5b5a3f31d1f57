"""A TPM 2.0 client on trio: endorsement and attestation keys, credential activation, quotes, PCRs.

    async with open_tpm("device:/dev/tpmrm0") as tpm:
        ek = await tpm.read_ek()
        ak = await tpm.create_ak()
        quote, pcrs = await tpm.quote_with_pcrs(ak, nonce, selection)

It speaks to the TPM in the clear, but for sealed secrets (`tccp.tpm.session`): the other side of an attestation
believes only what the TPM signed, and who alters what passes between us and our own TPM is outside of what tccp
defends against.
"""

import contextlib
import hashlib
from collections.abc import AsyncGenerator

import trio

from tccp.errors import TpmError
from tccp.measures import Durations
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.tpm import endorsement, sealing
from tccp.tpm.channel import PASSWORD, TIMEOUT_HINT, Channel
from tccp.tpm.constants import Algorithm, Capability, CommandCode, Handle, HandleRange, ObjectAttribute, Property
from tccp.tpm.marshal import Reader, malformed, tpm2b, u16, u32
from tccp.tpm.objects import create_primary, endorsement_session, flush, flush_leftovers, flush_surely
from tccp.tpm.policy import Approval
from tccp.tpm.structures import (
    Ak,
    Clock,
    Ek,
    Quote,
    TpmProperties,
    bank_inactive,
    check_selection,
    parse_attest,
    public_area,
    put_selection,
    take_selections,
)
from tccp.tpm.tcti import Tcti, parse_tcti
from tccp.tpm.templates import AK_TEMPLATES, KeyKind

_PCRS_A_READ = 8
_TRIES_MAX = 8
_CREDENTIAL_BYTES_MAX = 1024
_PROPERTIES_WANTED = 64
_SECOND_CLIENT_HINT = "Is another program connected to it? swtpm serves one client and lets the next wait in silence."


@contextlib.asynccontextmanager
async def open_tpm(tcti: str | Tcti, *, timeout_s: float = 90.0, first_answer_s: float = 10.0) -> AsyncGenerator["Tpm"]:
    """Connect to a TPM; at the end give back every slot that was taken, and disconnect.

    Where no resource manager stands before the TPM, keys and sessions that earlier clients left are flushed first.

    Args:
        tcti: For instance ``device:/dev/tpmrm0`` or ``swtpm:path=/run/swtpm.sock``.
        timeout_s: How long the TPM may take over one command before it counts as dead.
        first_answer_s: How long swtpm, which serves one client at a time, may take to connect and to answer at all.

    Raises:
        ConfigError: No TPM is there, or we may not use it; the hint says what to do.
        TpmError: It is there, and does not work.
    """
    place = parse_tcti(tcti) if isinstance(tcti, str) else tcti
    first_s = min(first_answer_s, timeout_s) if place.one_client_only else timeout_s
    channel = None
    with trio.move_on_after(first_s):
        channel = Channel(await place.connect(), timeout_s=timeout_s)
    if channel is None:
        raise TpmError("tpm_timeout", f"{place} does not take a connection", hint=_SECOND_CLIENT_HINT)
    tpm = Tpm(channel)
    try:
        await tpm.greet(first_s, _SECOND_CLIENT_HINT if place.one_client_only else TIMEOUT_HINT)
        if not place.has_resource_manager:
            await flush_leftovers(channel)
        yield tpm
    finally:
        await tpm.aclose()


class Tpm:
    """One connection to a TPM, made by `open_tpm`. Any number of tasks may use it; it does one thing at a time.

    Every method raises TpmError when the TPM refuses (``tpm_rc_...``), is gone (``tpm_gone``), does not answer
    (``tpm_timeout``) or answers nonsense (``tpm_malformed_response``). A cancelled method has either not begun or
    leaves nothing behind in the TPM.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._transient: set[int] = set()

    @property
    def closed(self) -> bool:
        """Whether every further command fails."""
        return self._channel.closed

    @property
    def durations(self) -> dict[str, Durations]:
        """How long commands took, by their names in lower case."""
        return {code.name.lower(): durations for code, durations in self._channel.durations.items()}

    async def greet(self, timeout_s: float, timeout_hint: str) -> None:
        """Wait until the TPM answers at all. `open_tpm` has done it."""
        parameters = u32(Capability.TPM_PROPERTIES) + u32(Property.FIXED) + u32(1)
        await self._channel.command(
            CommandCode.GET_CAPABILITY, parameters=parameters, timeout_s=timeout_s, timeout_hint=timeout_hint
        )

    async def aclose(self) -> None:
        """Give all slots back and disconnect."""
        for handle in tuple(self._transient):
            await flush_surely(self._channel, handle)
        self._transient.clear()
        await self._channel.aclose()

    # ---- keys --------------------------------------------------------------------------------------------------

    async def read_ek(self, *, kind: KeyKind | None = None) -> Ek:
        """The endorsement key, with the certificate that its maker put into the TPM.

        A P-256 or P-384 key with a certificate is preferred, then an RSA-2048 key with one; without any certificate the
        default key of *kind* (``"ecc"`` when None) comes alone. Flush it when it has served.

        Raises:
            TpmError: ``ek_certificate_mismatch`` when the certificate is about another key than the TPM holds,
                ``ek_certificate_malformed`` when it is none.
        """
        ek = await endorsement.read_ek(self._channel, kind)
        self._own(ek.handle)
        return ek

    async def create_ak(self, kind: KeyKind = "ecc") -> Ak:
        """The attestation key: ECDSA P-256 with SHA-256, or RSASSA 2048 with SHA-256.

        It is derived from the endorsement seed, so the same TPM gives the same key until the seed is changed.
        """
        key = await create_primary(self._channel, Handle.ENDORSEMENT, AK_TEMPLATES[kind])
        self._own(key.handle)
        return Ak(key.handle, key.public, key.name)

    async def activate_credential(self, ak: Ak, ek: Ek, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """The secret that somebody wrapped for *ek*, given out only because *ak* is in the same TPM (Part 3, 12.5).

        Args:
            id_object: What TPM2B_ID_OBJECT contains, without its own size in front: an HMAC (itself sized), then the
                encrypted credential.
            encrypted_secret: What TPM2B_ENCRYPTED_SECRET contains, without its size in front.

        Raises:
            TpmError: ``tpm_rc_integrity`` and its like when the credential was made for another EK or AK.
        """
        if max(len(id_object), len(encrypted_secret)) > _CREDENTIAL_BYTES_MAX:
            raise TpmError("credential_too_large", f"more than {_CREDENTIAL_BYTES_MAX} bytes")
        async with contextlib.AsyncExitStack() as stack:
            ek_session = PASSWORD
            if not public_area(ek.public).attributes & ObjectAttribute.USER_WITH_AUTH:
                ek_session = await stack.enter_async_context(endorsement_session(self._channel))
            answer = await self._channel.command(
                CommandCode.ACTIVATE_CREDENTIAL,
                (ak.handle, ek.handle),
                tpm2b(id_object) + tpm2b(encrypted_secret),
                (PASSWORD, ek_session),
            )
        secret = answer.parameters.tpm2b()
        answer.parameters.finish()
        return secret

    async def flush(self, handle: int) -> None:
        """Give the slot of a key back. A persistent key has none and stays where it is."""
        await flush(self._channel, handle)
        self._transient.discard(handle)

    def _own(self, handle: int) -> None:
        if handle >> 24 == HandleRange.TRANSIENT >> 24:
            self._transient.add(handle)

    # ---- PCRs and quotes ---------------------------------------------------------------------------------------

    async def quote(self, ak: Ak, qualifying_data: bytes, selection: PcrSelection) -> Quote:
        """Have *ak* sign the PCRs of *selection* together with *qualifying_data*, 64 bytes at most (Part 3, 18.4).

        Raises:
            TpmError: ``pcr_bank_inactive`` when the TPM does not keep the bank.
        """
        parameters = tpm2b(qualifying_data) + u16(Algorithm.NULL) + put_selection(selection)
        answer = await self._channel.command(CommandCode.QUOTE, (ak.handle,), parameters, (PASSWORD,))
        quote = Quote(answer.parameters.tpm2b(), answer.parameters.rest())
        check_selection(parse_attest(quote.attest).selections, selection)
        return quote

    async def read_pcrs(self, selection: PcrSelection) -> PcrValues:
        """The values of the PCRs of *selection*, all of one moment.

        A TPM does not count extensions of the PCRs that anybody may reset (16 and 21 to 23), so those may be younger.

        Raises:
            TpmError: ``pcr_bank_inactive`` when the TPM does not keep the bank, ``pcrs_keep_changing`` when no moment
                could be had.
        """
        for _ in range(_TRIES_MAX):
            values: dict[int, bytes] = {}
            counters: set[int] = set()
            while len(values) < len(selection.indexes):
                left = [index for index in selection.indexes if index not in values]
                counter, found = await self._read_some_pcrs(PcrSelection.of(selection.bank, left[:_PCRS_A_READ]))
                counters.add(counter)
                values |= found
            if len(counters) == 1:
                return PcrValues(selection, values)
        raise _keep_changing()

    async def _read_some_pcrs(self, selection: PcrSelection) -> tuple[int, dict[int, bytes]]:
        """pcrUpdateCounter, and the value of at least one PCR of *selection* (Part 3, 22.4)."""
        reader = (await self._channel.command(CommandCode.PCR_READ, parameters=put_selection(selection))).parameters
        counter = reader.uint(4)
        found = [(bank, mask) for bank, mask in take_selections(reader) if mask]
        if not found:
            raise bank_inactive(selection.bank)
        bank, mask = found[0]
        if len(found) > 1 or bank != selection.bank or mask & ~selection.mask:
            raise malformed("PCRs that nobody asked for")
        indexes = [index for index in selection.indexes if mask >> index & 1]
        if reader.count(2) != len(indexes):
            raise malformed("another number of PCR values than of PCRs")
        values = {index: reader.tpm2b() for index in indexes}
        reader.finish()
        if any(len(value) != selection.bank.digest_bytes for value in values.values()):
            raise malformed("a PCR value of another size than its bank's")
        return counter, values

    async def quote_with_pcrs(self, ak: Ak, qualifying_data: bytes, selection: PcrSelection) -> tuple[Quote, PcrValues]:
        """A quote together with the very values that it covers, tried again when a PCR was extended between the two.

        Raises:
            TpmError: As for `quote` and `read_pcrs`.
        """
        for _ in range(_TRIES_MAX):
            pcrs = await self.read_pcrs(selection)
            quote = await self.quote(ak, qualifying_data, selection)
            # Both of our attestation keys sign with SHA-256, and the digest over the values is of the same kind.
            if hashlib.sha256(pcrs.concatenated).digest() == parse_attest(quote.attest).digest:
                return quote, pcrs
        raise _keep_changing()

    async def extend_pcr(self, index: int, bank: PcrBank, digest: bytes) -> None:
        """Extend PCR *index* of *bank* with *digest* (Part 3, 22.2)."""
        if len(digest) != bank.digest_bytes:
            raise ValueError(f"a {bank.hash_name} digest has {bank.digest_bytes} bytes, not {len(digest)}")
        await self._channel.command(CommandCode.PCR_EXTEND, (index,), u32(1) + u16(bank) + digest, (PASSWORD,))

    async def pcr_banks(self) -> tuple[PcrBank, ...]:
        """The PCR banks that the TPM keeps, of those that we know."""
        parameters = u32(Capability.PCRS) + u32(0) + u32(_PROPERTIES_WANTED)
        reader = await self._capability(Capability.PCRS, parameters)
        active = {bank for bank, mask in take_selections(reader) if mask}
        reader.finish()
        return tuple(bank for bank in PcrBank if bank in active)

    # ---- sealed secrets ----------------------------------------------------------------------------------------

    async def seal(self, secret: bytes, object_policy: bytes) -> sealing.SealedBlob:
        """*secret* (128 bytes at most), for this TPM under `tccp.tpm.policy.object_policy`; hidden from the bus."""
        return await sealing.seal(self._channel, secret, object_policy)

    async def unseal(self, blob: sealing.SealedBlob, approval: Approval) -> bytes:
        """What `seal` took, in the state that *approval* is about; hidden from the bus.

        Raises:
            TpmError: ``another_tpm``, or ``tpm_rc_policy`` (a counter that has passed), ``tpm_rc_value`` (other PCRs),
                ``tpm_rc_signature``, ``tpm_rc_policy_fail`` (another authority or reference).
        """
        return await sealing.unseal(self._channel, blob, approval)

    async def storage_name(self) -> bytes:
        """By what name this TPM's storage key goes; what another TPM has sealed names another."""
        return await sealing.storage_name(self._channel)

    async def read_generation(self) -> int:
        """The counter that ends approvals; it is made when the TPM has none."""
        return await sealing.read_generation(self._channel)

    async def next_generation(self) -> int:
        """End every approval up to the present generation for good; returns the new one."""
        return await sealing.next_generation(self._channel)

    # ---- the rest ----------------------------------------------------------------------------------------------

    async def read_clock(self) -> Clock:
        """The TPM's clock and its counts of resets and restarts (Part 3, 29.1)."""
        reader = (await self._channel.command(CommandCode.READ_CLOCK)).parameters
        clock = Clock(reader.uint(8), reader.uint(8), reader.uint(4), reader.uint(4), bool(reader.uint(1)))
        reader.finish()
        return clock

    async def properties(self) -> TpmProperties:
        """Who made the TPM, as it says itself."""
        parameters = u32(Capability.TPM_PROPERTIES) + u32(Property.FIXED) + u32(_PROPERTIES_WANTED)
        reader = await self._capability(Capability.TPM_PROPERTIES, parameters)
        found = {reader.uint(4): reader.uint(4) for _ in range(reader.count(8))}
        reader.finish()
        words = [found.get(Property.VENDOR_STRING_1 + offset, 0) for offset in range(4)]
        version = (found.get(Property.FIRMWARE_VERSION_1, 0), found.get(Property.FIRMWARE_VERSION_2, 0))
        return TpmProperties(
            manufacturer=_text([found.get(Property.MANUFACTURER, 0)]),
            vendor=_text(words),
            firmware=".".join(f"{word >> 16}.{word & 0xFFFF}" for word in version),
        )

    async def _capability(self, capability: Capability, parameters: bytes) -> Reader:
        reader = (await self._channel.command(CommandCode.GET_CAPABILITY, parameters=parameters)).parameters
        reader.uint(1)  # moreData: what we ask for comes in one piece
        if reader.uint(4) != capability:
            raise malformed(f"another capability than {capability.name}")
        return reader


def _text(words: list[int]) -> str:
    """Characters packed four to a word, as printable ASCII."""
    raw = b"".join(u32(word) for word in words)
    return " ".join("".join(chr(byte) for byte in raw if 0x20 <= byte < 0x7F).split())


def _keep_changing() -> TpmError:
    return TpmError(
        "pcrs_keep_changing",
        f"a PCR was extended during each of {_TRIES_MAX} readings",
        hint="Something measures without pause; is IMA measuring every file that is read? Try again later.",
    )
