"""A sealed secret comes out of the TPM that made it, in a state that its authority approved, and not otherwise."""

import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tccp.errors import TpmError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.tpm import Tpm, open_tpm
from tccp.tpm.channel import Channel
from tccp.tpm.constants import SESSION_TYPE_POLICY, CommandCode, SessionAttribute
from tccp.tpm.policy import COUNTER_INDEX, Approval, Approved, object_policy, to_be_signed
from tccp.tpm.sealing import SealedBlob, _fulfil, _loaded, _storage_key, _verified
from tccp.tpm.session import salted_session
from tccp.tpm.tcti import Connection, parse_tcti
from tests.support.soft_tpm import SoftTpm, SoftTpmPool
from tests.support.tpm2_tools import Tpm2Tools
from tests.tpm.meddling import open_meddled

SECRET = bytes(range(32))
REFERENCE = b"r" * 32
SELECTION = PcrSelection(PcrBank.SHA256, (0, 4, 7))
EXTENDED = b"\xab" * 32


class Authority:
    """Signs what it is asked to."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def policy(self) -> bytes:
        return object_policy(self.key.public_key(), REFERENCE)

    def approve(self, pcrs: PcrValues, generation: int, *, reference: bytes = REFERENCE) -> Approval:
        approved = Approved(pcrs, generation)
        signature = self.key.sign(to_be_signed(approved, reference), ec.ECDSA(hashes.SHA256()))
        return Approval(approved, self.key.public_key(), reference, signature)

    async def approve_present(
        self, tpm: Tpm, *, selection: PcrSelection = SELECTION, reference: bytes = REFERENCE
    ) -> Approval:
        return self.approve(await tpm.read_pcrs(selection), await tpm.read_generation(), reference=reference)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def tpm(soft_tpm: SoftTpm) -> AsyncIterator[Tpm]:
    async with open_tpm(soft_tpm.tcti) as opened:
        yield opened


@pytest.fixture
async def blob(tpm: Tpm, authority: Authority) -> SealedBlob:
    return await tpm.seal(SECRET, authority.policy)


async def refusal(tpm: Tpm, blob: SealedBlob, approval: Approval) -> str:
    with pytest.raises(TpmError) as caught:
        await tpm.unseal(blob, approval)
    return caught.value.reason


@pytest.mark.parametrize("bank", [PcrBank.SHA256, PcrBank.SHA384])
async def test_a_secret_comes_back_in_the_approved_state(tpm: Tpm, authority: Authority, bank: PcrBank) -> None:
    blob = await tpm.seal(SECRET, authority.policy)
    approval = await authority.approve_present(tpm, selection=PcrSelection(bank, (0, 4, 7)))

    assert await tpm.unseal(blob, approval) == SECRET
    assert await tpm.unseal(blob, approval) == SECRET


async def test_another_boot_yields_nothing_until_it_is_approved(
    tpm: Tpm, authority: Authority, blob: SealedBlob
) -> None:
    approval = await authority.approve_present(tpm)
    assert await tpm.unseal(blob, approval) == SECRET
    await tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)

    assert await refusal(tpm, blob, approval) == "tpm_rc_value"
    assert await tpm.unseal(blob, await authority.approve_present(tpm)) == SECRET


async def test_a_state_can_be_approved_before_it_comes_about(tpm: Tpm, authority: Authority, blob: SealedBlob) -> None:
    expected = {0: bytes(32), 4: hashlib.sha256(bytes(32) + EXTENDED).digest(), 7: bytes(32)}
    approval = authority.approve(PcrValues(SELECTION, expected), await tpm.read_generation())
    assert await refusal(tpm, blob, approval) == "tpm_rc_value"

    await tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)

    assert await tpm.unseal(blob, approval) == SECRET


async def test_a_pcr_that_moves_after_the_check_closes_the_session(soft_tpm: SoftTpm, authority: Authority) -> None:
    armed = False

    async def extend_before_unseal(connection: Connection, code: CommandCode) -> None:
        if code is CommandCode.UNSEAL and armed:
            command = bytes.fromhex("8002 00000041 00000182 00000004 00000009 40000009 0000 00 0000 00000001 000b")
            await connection.send(command + EXTENDED)
            assert await connection.receive()

    async with open_meddled(soft_tpm.tcti, extend_before_unseal) as tpm:
        blob = await tpm.seal(SECRET, authority.policy)
        approval = await authority.approve_present(tpm)
        assert await tpm.unseal(blob, approval) == SECRET
        armed = True
        assert await refusal(tpm, blob, approval) == "tpm_rc_pcr_changed"


async def test_another_tpm_opens_nothing(
    tpm: Tpm, authority: Authority, blob: SealedBlob, soft_tpms: SoftTpmPool
) -> None:
    approval = await authority.approve_present(tpm)
    with soft_tpms.lend() as other:
        async with open_tpm(other.tcti) as other_tpm:
            await other_tpm.read_generation()
            assert await refusal(other_tpm, blob, approval) == "another_tpm"
            # What the file says of its TPM is for the message; the TPM itself knows its own blobs.
            own = await other_tpm.seal(SECRET, authority.policy)
            disguised = dataclasses.replace(blob, storage_name=own.storage_name)
            assert await refusal(other_tpm, disguised, approval) == "tpm_rc_integrity"
            assert await other_tpm.unseal(own, await authority.approve_present(other_tpm)) == SECRET


async def test_an_approval_by_another_authority_opens_nothing(tpm: Tpm, authority: Authority, blob: SealedBlob) -> None:
    other = Authority()

    assert await refusal(tpm, blob, await other.approve_present(tpm)) == "tpm_rc_policy_fail"
    assert await tpm.unseal(blob, await authority.approve_present(tpm)) == SECRET


async def test_an_approval_for_another_reference_opens_nothing(
    tpm: Tpm, authority: Authority, blob: SealedBlob
) -> None:
    approval = await authority.approve_present(tpm, reference=b"s" * 32)

    assert await refusal(tpm, blob, approval) == "tpm_rc_policy_fail"
    assert await refusal(tpm, blob, dataclasses.replace(approval, reference=REFERENCE)) == "tpm_rc_signature"


async def test_an_approval_cannot_be_made_to_say_something_else(
    tpm: Tpm, authority: Authority, blob: SealedBlob
) -> None:
    good = await authority.approve_present(tpm)
    await tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)
    present = await tpm.read_pcrs(SELECTION)
    later = dataclasses.replace(good, approved=Approved(good.approved.pcrs, good.approved.generation + 1))

    altered = dataclasses.replace(good, approved=Approved(present, good.approved.generation))
    assert await refusal(tpm, blob, altered) == "tpm_rc_signature"
    assert await refusal(tpm, blob, later) == "tpm_rc_signature"


async def test_an_approval_ends_when_the_counter_has_passed_its_generation(
    tpm: Tpm, authority: Authority, blob: SealedBlob
) -> None:
    old = await authority.approve_present(tpm)
    assert await tpm.unseal(blob, old) == SECRET

    assert await tpm.next_generation() == old.approved.generation + 1

    assert await refusal(tpm, blob, old) == "tpm_rc_policy"
    assert await tpm.unseal(blob, await authority.approve_present(tpm)) == SECRET


async def test_a_counter_that_is_removed_and_made_anew_brings_no_approval_back(
    soft_tpm: SoftTpm, authority: Authority, tmp_path: Path
) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        blob = await tpm.seal(SECRET, authority.policy)
        old = await authority.approve_present(tpm)
        await tpm.next_generation()
    Tpm2Tools(soft_tpm, tmp_path).run("nvundefine", "-C", "o", hex(COUNTER_INDEX))

    async with open_tpm(soft_tpm.tcti) as tpm:
        with pytest.raises(TpmError) as caught:
            await tpm.unseal(blob, old)
        assert caught.value.reason == "tpm_rc_handle"
        assert await tpm.read_generation() > old.approved.generation
        assert await refusal(tpm, blob, old) == "tpm_rc_policy"


async def test_an_index_that_is_no_counter_does_not_stand_in_for_it(
    soft_tpm: SoftTpm, authority: Authority, tmp_path: Path
) -> None:
    """Its name, which the policy contains, tells what kind of index it is."""
    async with open_tpm(soft_tpm.tcti) as tpm:
        blob = await tpm.seal(SECRET, authority.policy)
        old = await authority.approve_present(tpm)
        await tpm.next_generation()
    tools = Tpm2Tools(soft_tpm, tmp_path)
    index = hex(COUNTER_INDEX)
    tools.run("nvundefine", "-C", "o", index)
    tools.run("nvdefine", index, "-C", "o", "-s", "8", "-a", "ownerwrite|ownerread|authread|no_da")
    tools.run("nvwrite", index, "-C", "o", "-i", tools.write("zero", bytes(8)))

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert await refusal(tpm, blob, old) == "tpm_rc_value"


async def test_an_index_that_somebody_else_uses_is_named(soft_tpm: SoftTpm, tmp_path: Path) -> None:
    tools = Tpm2Tools(soft_tpm, tmp_path)
    tools.run("nvdefine", hex(COUNTER_INDEX), "-C", "o", "-s", "9", "-a", "ownerwrite|ownerread|authread|no_da")
    tools.run("nvwrite", hex(COUNTER_INDEX), "-C", "o", "-i", tools.write("nine", b"\xff" * 9))

    async with open_tpm(soft_tpm.tcti) as tpm:
        with pytest.raises(TpmError, match="another_nv_index"):
            await tpm.read_generation()


async def test_the_state_survives_a_reset_of_the_tpm(soft_tpm: SoftTpm, authority: Authority) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        blob = await tpm.seal(SECRET, authority.policy)
        approval = await authority.approve_present(tpm)
    soft_tpm.reset()

    async with open_tpm(soft_tpm.tcti) as tpm:
        assert await tpm.unseal(blob, approval) == SECRET


# ---- the bus


class Probe:
    """Writes down all that passes between CPU and TPM, and alters answers when told to."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.seen = b""
        self.forge_next_of: CommandCode | None = None
        self._last = 0

    async def send(self, data: bytes) -> None:
        self.seen += data
        self._last = int.from_bytes(data[6:10], "big")
        await self._inner.send(data)

    async def receive(self) -> bytes:
        data = await self._inner.receive()
        if self._last == self.forge_next_of:
            # A byte of the first parameter, behind the header, the size of the parameters and its own size.
            data = data[:20] + bytes([data[20] ^ 1]) + data[21:]
        self.seen += data
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextlib.asynccontextmanager
async def probed(soft_tpm: SoftTpm) -> AsyncIterator[tuple[Tpm, Channel, Probe]]:
    probe = Probe(await parse_tcti(soft_tpm.tcti).connect())
    channel = Channel(probe, timeout_s=30)
    tpm = Tpm(channel)
    try:
        yield tpm, channel, probe
    finally:
        await tpm.aclose()


async def test_who_listens_on_the_bus_does_not_learn_the_secret(soft_tpm: SoftTpm, authority: Authority) -> None:
    async with probed(soft_tpm) as (tpm, _channel, probe):
        blob = await tpm.seal(SECRET, authority.policy)
        assert await tpm.unseal(blob, await authority.approve_present(tpm)) == SECRET

        assert blob.public in probe.seen
        assert SECRET[:8] not in probe.seen


async def test_without_encryption_of_parameters_the_bus_shows_it(soft_tpm: SoftTpm, authority: Authority) -> None:
    """The control: the same commands, with the attribute left out."""
    async with probed(soft_tpm) as (tpm, channel, probe):
        blob = await tpm.seal(SECRET, authority.policy)
        approval = await authority.approve_present(tpm)
        async with (
            _storage_key(channel) as storage,
            _loaded(channel, storage, blob) as sealed,
            salted_session(channel, storage, SESSION_TYPE_POLICY) as session,
        ):
            await _fulfil(channel, session, approval, await _verified(channel, approval))
            await session.command(CommandCode.UNSEAL, [sealed], b"", SessionAttribute(0))

        assert SECRET in probe.seen


@pytest.mark.parametrize("code", [CommandCode.CREATE, CommandCode.UNSEAL])
async def test_an_answer_that_was_altered_on_the_bus_is_found_out(
    soft_tpm: SoftTpm, authority: Authority, code: CommandCode
) -> None:
    async with probed(soft_tpm) as (tpm, _channel, probe):
        blob = await tpm.seal(SECRET, authority.policy)
        approval = await authority.approve_present(tpm)
        probe.forge_next_of = code
        attempts = {
            CommandCode.CREATE: lambda: tpm.seal(SECRET, authority.policy),
            CommandCode.UNSEAL: lambda: tpm.unseal(blob, approval),
        }
        with pytest.raises(TpmError) as caught:
            await attempts[code]()

    assert caught.value.reason == "tpm_answer_forged"


# ---- tpm2-tools as the judge


async def test_tpm2_tools_open_what_we_sealed_by_the_same_approval_and_not_without(
    soft_tpm: SoftTpm, authority: Authority, tmp_path: Path
) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        blob = await tpm.seal(SECRET, authority.policy)
        approval = await authority.approve_present(tpm)
    tools = Tpm2Tools(soft_tpm, tmp_path)
    # The structure as C has it: two buffers of 128 bytes (TPM2B_ECC_PARAMETER), 32 of each in use.
    tools.write("unique", (b"\x20\x00" + bytes(128)) * 2)
    attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"
    tools.run("createprimary", "-C", "o", "-G", "ecc256:null:aes128cfb", "-a", attributes, "-u", "unique", "-c", "srk")
    tools.write("blob.pub", len(blob.public).to_bytes(2, "big") + blob.public)
    tools.write("blob.priv", len(blob.private).to_bytes(2, "big") + blob.private)
    tools.run("load", "-C", "srk", "-u", "blob.pub", "-r", "blob.priv", "-c", "blob")
    tools.run("flushcontext", "-t")

    with pytest.raises(RuntimeError):
        tools.run("unseal", "-c", "blob")

    spki = authority.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    tools.write("authority.pem", spki)
    tools.write("message", to_be_signed(approval.approved, REFERENCE))
    tools.write("signature", approval.signature)
    key = ["-C", "o", "-G", "ecc", "-u", "authority.pem", "-a", "userwithauth|sign", "-c", "authority", "-n", "name"]
    tools.run("loadexternal", *key)
    verify = ["-c", "authority", "-g", "sha256", "-m", "message", "-s", "signature", "-f", "ecdsa", "-t", "ticket"]
    tools.run("verifysignature", *verify)
    tools.run("flushcontext", "-t")
    tools.run("startauthsession", "--policy-session", "-S", "session")
    tools.write("operand", approval.approved.operand)
    tools.run("policynv", "-S", "session", "-i", "operand", hex(COUNTER_INDEX), "ule")
    tools.run("policypcr", "-S", "session", "-l", "sha256:0,4,7", "-L", "approved")
    assert tools.read("approved") == approval.approved.policy
    tools.write("reference", REFERENCE)
    tools.run("policyauthorize", "-S", "session", "-i", "approved", "-q", "reference", "-n", "name", "-t", "ticket")
    tools.run("unseal", "-c", "blob", "-p", "session:session", "-o", "secret")

    assert tools.read("secret") == SECRET
