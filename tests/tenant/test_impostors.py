"""Whoever plays the coordinator is found out before the tenant has said a word of her own.

What she said is looked at where it can be read: at the impostor's end of TLS.
"""

import datetime as dt
import hashlib
import secrets
import shutil
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from tccp.attestation.quote import AkKey
from tccp.coordinator.custody.key_set import KeySet
from tccp.coordinator.tenants import TenantDesk
from tccp.errors import EventLogError, EvidenceError, PolicyError, ProtocolError, TccpError
from tccp.model import PcrBank
from tccp.protocol.encoding import decode
from tccp.protocol.framing import FrameReader
from tccp.protocol.statements import decode_coordinator
from tccp.protocol.tenant_messages import Activate, AnyTenantMessage, GetTile, Introduction, TenantHello
from tccp.protocol.tenant_session import TenantRole, TenantSession
from tccp.tenant.policy import parse_tenant_policy
from tccp.tpm import open_tpm
from tccp.transparency.checkpoint import VerifiedCheckpoint, parse_checkpoint
from tccp.transparency.note import parse_note
from tccp.transport.certificates import Authority, der_of_pem
from tests.support.coordinator_keys import make_keys
from tests.support.event_logs import EV_IPL, event, header
from tests.support.live_coordinator import LiveCoordinator
from tests.support.soft_tpm import SoftTpm, SoftTpmPool
from tests.support.tenants import Tenant, coordinator_with_log, grow, interceptor_before, policy_for, relay_to

EVIL = b"\xab" * 32


class Said(list[AnyTenantMessage]):
    """What tenants said to coordinators of this process, in the clear."""

    @property
    def kinds(self) -> list[type]:
        return [type(message) for message in self]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    kept = Said()
    next_message = TenantSession.next_message

    def keep(session: TenantSession) -> AnyTenantMessage | None:
        message = next_message(session)
        if session.role is TenantRole.COORDINATOR and message is not None:
            kept.append(message)
        return message

    monkeypatch.setattr(TenantSession, "next_message", keep)
    return kept


async def who_pinned_the_true_one(folder: Path, tpm: SoftTpm) -> tuple[Tenant, KeySet]:
    """A tenant who has pinned the true coordinator, which is down now, and whose keys these are."""
    (folder / "true").mkdir()
    keys, _ = await make_keys(folder / "true" / "state", tpm.tcti)
    tenant = Tenant(folder, policy_for(tpm, folder))
    async with coordinator_with_log(folder / "true", tpm) as coordinator:
        await tenant.add(coordinator.tenants_port)
    return tenant, keys


def at(tenant: Tenant, port: int) -> None:
    """The name that she connects to leads to *port* now."""
    pinned = tenant.store.load()
    tenant.store.save(msgspec.structs.replace(pinned, address=f"127.0.0.1:{port}"))


async def reason_of(tenant: Tenant, port: int) -> str:
    """Why she turns away; what she has pinned stays as it was."""
    at(tenant, port)
    before = tenant.store.load()
    with pytest.raises(TccpError) as caught:
        await tenant.check()
    assert isinstance(caught.value, EvidenceError | ProtocolError)
    assert tenant.store.load() == before
    return caught.value.reason


def own_words(said: Said) -> list[AnyTenantMessage]:
    """All that is not random numbers."""
    return [message for message in said if not isinstance(message, TenantHello | Activate)]


# ---- other keys


async def test_another_coordinator_is_turned_away_by_tls(
    coordinator_tpm: SoftTpm, other_coordinator_tpm: SoftTpm, tmp_path: Path, said: Said
) -> None:
    tenant, _ = await who_pinned_the_true_one(tmp_path, coordinator_tpm)
    (tmp_path / "impostor").mkdir()
    async with coordinator_with_log(tmp_path / "impostor", other_coordinator_tpm) as impostor:
        said.clear()
        assert await reason_of(tenant, impostor.tenants_port) == "tls_handshake"
    assert said == []


async def impostor_with(keys: KeySet, folder: Path, tpm: SoftTpm, *but: str) -> Path:
    """A coordinator's folder with the true one's *keys*, all *but* some that are made anew."""
    fresh = {name: secrets.token_bytes(32) for name in but}
    await make_keys(folder / "impostor" / "state", tpm.tcti, keys=msgspec.structs.replace(keys, **fresh))
    return folder / "impostor"


@pytest.mark.parametrize(
    ("swapped", "reason"),
    [((), "bad_signature"), (("identity_seed",), "coordinator_signature")],
    ids=["another TPM", "another identity"],
)
async def test_stolen_keys_do_not_make_a_coordinator(
    swapped: tuple[str, ...],
    reason: str,
    *,
    coordinator_tpm: SoftTpm,
    other_coordinator_tpm: SoftTpm,
    tmp_path: Path,
    said: Said,
) -> None:
    tenant, keys = await who_pinned_the_true_one(tmp_path, coordinator_tpm)
    folder = await impostor_with(keys, tmp_path, other_coordinator_tpm, *swapped)
    async with coordinator_with_log(folder, other_coordinator_tpm) as impostor:
        said.clear()
        assert await reason_of(tenant, impostor.tenants_port) == reason
    assert said.kinds == [TenantHello]


@pytest.mark.parametrize("swapped", ["log_seed", "release_seed"])
async def test_a_swapped_key_of_the_true_coordinator_is_found(
    swapped: str, coordinator_tpm: SoftTpm, tmp_path: Path, said: Said
) -> None:
    """Its identity signed the new key, and its TPM quoted it: only who has pinned the old one can tell."""
    tenant, keys = await who_pinned_the_true_one(tmp_path, coordinator_tpm)
    folder = await impostor_with(keys, tmp_path, coordinator_tpm, swapped)
    async with coordinator_with_log(folder, coordinator_tpm) as impostor:
        said.clear()
        assert await reason_of(tenant, impostor.tenants_port) == "coordinator_keys"
    assert said.kinds == [TenantHello]


async def test_an_authority_that_the_statement_does_not_name_is_not_pinned(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statement and quote are the true ones; what would turn others away from then on is somebody else's."""
    other = der_of_pem(Authority.create("another", now=dt.datetime.now(tz=dt.UTC)).certificate)
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        await shows_instead(coordinator, monkeypatch, ca_certificate=other)
        with pytest.raises(EvidenceError, match="coordinator_keys"):
            await tenant.add(coordinator.tenants_port)
        assert tenant.store.names() == []
        monkeypatch.undo()
        await tenant.add(coordinator.tenants_port)  # the control


async def test_another_tpm_of_the_same_maker_does_not_take_the_place_of_the_pinned_one_by_itself(
    coordinator_tpm: SoftTpm, other_coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    """A policy that names the maker alone would believe who has stolen all keys and bought a machine of that kind."""
    tenant, keys = await who_pinned_the_true_one(tmp_path, coordinator_tpm)
    pinned = tenant.store.load()
    folder = await impostor_with(keys, tmp_path, other_coordinator_tpm)
    async with coordinator_with_log(folder, other_coordinator_tpm) as impostor:
        with pytest.raises(EvidenceError, match="attestation key"):
            await tenant.add(impostor.tenants_port)
        assert tenant.store.load() == pinned
        # The control: who has pinned nothing yet believes it.
        assert (await tenant.add(impostor.tenants_port, name="new")).pinned.identity == pinned.identity


# ---- other platforms


async def test_a_coordinator_that_booted_something_else_is_found_out(
    soft_tpms: SoftTpmPool, tmp_path: Path, said: Said
) -> None:
    with soft_tpms.lend() as tpm:
        tenant, keys = await who_pinned_the_true_one(tmp_path, tpm)
        async with open_tpm(tpm.tcti) as attacker:
            await attacker.extend_pcr(4, PcrBank.SHA256, EVIL)
        # Whoever approves states for its keys has approved this one as well.
        folder = await impostor_with(keys, tmp_path, tpm)
        async with coordinator_with_log(folder, tpm) as tampered:
            said.clear()
            assert await reason_of(tenant, tampered.tenants_port) == "pcr_not_in_policy"
    assert said.kinds == [TenantHello]


async def test_an_event_log_explains_what_was_booted_or_is_found_out(
    soft_tpms: SoftTpmPool, tmp_path: Path, said: Said
) -> None:
    loaded = b"another boot loader"
    with soft_tpms.lend() as tpm:
        async with open_tpm(tpm.tcti) as firmware:
            await firmware.extend_pcr(4, PcrBank.SHA256, hashlib.sha256(loaded).digest())
        value = hashlib.sha256(bytes(32) + hashlib.sha256(loaded).digest()).hexdigest()
        fitting = policy_for(tpm, tmp_path, pcrs=f'[pcrs]\n0 = ["{"00" * 32}"]\n4 = ["{value}"]\n')
        tenant, surprised = Tenant(tmp_path / "a", fitting), Tenant(tmp_path / "b", policy_for(tpm, tmp_path))
        async with coordinator_with_log(tmp_path, tpm) as coordinator:
            with_event_log(coordinator, tmp_path, header(PcrBank.SHA256) + event(4, EV_IPL, loaded))
            kept = tmp_path / "kept"
            with pytest.raises(PolicyError, match="its event log of 1 events leads to just these values"):
                await surprised.add(coordinator.tenants_port, keep_event_log=kept)
            assert loaded in kept.read_bytes()
            await tenant.add(coordinator.tenants_port)

            with_event_log(coordinator, tmp_path, header(PcrBank.SHA256) + event(4, EV_IPL, b"a good boot loader"))
            with pytest.raises(PolicyError, match="its event log does not say why: event_log_mismatch"):
                await surprised.add(coordinator.tenants_port)
            with pytest.raises(EventLogError, match="event_log_mismatch"):
                await tenant.add(coordinator.tenants_port)
    assert surprised.store.names() == []


def with_event_log(coordinator: LiveCoordinator, folder: Path, log: bytes) -> None:
    """Have its firmware say that."""
    (folder / "event_log").write_bytes(log)
    config = coordinator.services.config
    tpm = msgspec.structs.replace(config.tpm, event_log=str(folder / "event_log"))
    coordinator.services.config = msgspec.structs.replace(config, tpm=tpm)


async def test_another_version_than_the_policy_names_is_found_out(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.setattr("tccp.coordinator.identity.__version__", "6.6.6")
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path, extra='software = ["0.1.0", "0.1.1"]'))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        with pytest.raises(EvidenceError, match="software_not_in_policy"):
            await tenant.add(coordinator.tenants_port)
    assert own_words(said) == []


# ---- the true coordinator, and somebody between


async def test_a_relay_that_ends_tls_is_found_by_the_binding_of_the_channel(
    coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    """It passes on genuine evidence, fresh, over the tenant's own nonce; but for another TLS key than she saw."""
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        own = Authority.create("interceptor", now=dt.datetime.now(tz=dt.UTC))
        with interceptor_before(coordinator.tenants_port, own) as interceptor, pytest.raises(EvidenceError) as caught:
            await tenant.add(interceptor.port)

        assert caught.value.reason == "nonce_mismatch"
        assert tenant.store.names() == []
        assert [type(message) for message in decoded(bytes(interceptor.said))] == [TenantHello]


async def test_a_client_that_does_not_check_tells_the_relay_what_it_knows(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the check the next words go to whoever is there."""
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm, entries=5) as coordinator:
        await tenant.add(coordinator.tenants_port)
        await grow(coordinator, 2)
        believes_anything(monkeypatch)
        own = Authority.create("interceptor", now=dt.datetime.now(tz=dt.UTC))
        with interceptor_before(coordinator.tenants_port, own) as interceptor:
            await tenant.add(interceptor.port)

        assert GetTile in [type(message) for message in decoded(bytes(interceptor.said))]


async def test_a_relay_that_only_passes_on_bytes_sees_no_more_than_anybody(
    coordinator_tpm: SoftTpm, tmp_path: Path
) -> None:
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        with relay_to(coordinator.tenants_port) as relay:
            look = await tenant.add(relay.port)

        assert look.pinned.head.size == 3
        identity = bytes.fromhex(look.pinned.identity)
        assert relay.said[:1] == b"\x16"  # a TLS handshake
        assert identity not in relay.said


# ---- whose TPM


async def test_a_tpm_of_an_unknown_maker_is_not_believed(coordinator_tpm: SoftTpm, tmp_path: Path, said: Said) -> None:
    stranger = tmp_path / "strangers"
    stranger.mkdir()
    vector = Path(__file__).parents[1] / "vectors" / "ek" / "keylime-tpm_cert_store" / "STM_ECC_01RT.pem"
    shutil.copy(vector, stranger)
    body = policy_for(coordinator_tpm, tmp_path).body.replace(b"tenant-authorities", b"strangers")
    tenant = Tenant(tmp_path, parse_tenant_policy(body))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        with pytest.raises(EvidenceError, match="untrusted"):
            await tenant.add(coordinator.tenants_port)
    assert said.kinds == [TenantHello]


async def shows_instead(coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch, **fields: object) -> None:
    """Have the coordinator's machine show other things beside its quote; its software does what it is told."""
    introduction = TenantDesk.introduction

    async def altered(desk: TenantDesk, nonce: bytes) -> Introduction:
        return msgspec.structs.replace(await introduction(desk, nonce), **fields)

    monkeypatch.setattr(TenantDesk, "introduction", altered)


async def test_an_ek_of_another_machine_does_not_vouch_for_this_ak(
    coordinator_tpm: SoftTpm,
    other_coordinator_tpm: SoftTpm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    """A genuine EK with a genuine certificate, and a quote by a key that lives elsewhere: in software, say."""
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with open_tpm(other_coordinator_tpm.tcti) as other:
        ek = await other.read_ek()
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        await shows_instead(
            coordinator, monkeypatch, ek_public=ek.public, ek_certificate=ek.certificate, ek_chain=ek.chain
        )
        with pytest.raises(TccpError) as caught:
            await tenant.add(coordinator.tenants_port)
    assert caught.value.reason == "activation_refused"
    assert own_words(said) == []
    assert tenant.store.names() == []


async def test_an_answer_that_is_not_the_secret_is_refused(
    coordinator_tpm: SoftTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def guess(*_: object) -> bytes:
        return bytes(32)

    monkeypatch.setattr("tccp.coordinator.activations.Activations.activate", guess)
    tenant = Tenant(tmp_path, policy_for(coordinator_tpm, tmp_path))
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        with pytest.raises(EvidenceError, match="activation_failed"):
            await tenant.add(coordinator.tenants_port)


async def test_a_pinned_ak_spares_the_coordinator_the_activation(
    coordinator_tpm: SoftTpm, tmp_path: Path, said: Said
) -> None:
    async with coordinator_with_log(tmp_path, coordinator_tpm) as coordinator:
        ak = coordinator.services.ak_spki.hex()
        body = f'ak = "{ak}"\n[pcrs]\n0 = ["{"00" * 32}"]\n'.encode()
        tenant = Tenant(tmp_path, parse_tenant_policy(body))
        await tenant.add(coordinator.tenants_port)
        await tenant.check()
    assert Activate not in said.kinds
    assert said.kinds.count(TenantHello) == 2


def decoded(data: bytes) -> list[AnyTenantMessage]:
    """The messages in what went over a connection in the clear."""
    reader = FrameReader()
    reader.receive_data(data)
    return [decode(payload, AnyTenantMessage) for payload in reader.frames()]


def believes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without its checks."""

    def verify(shown: Introduction, *_: object, **__: object) -> SimpleNamespace:
        note = parse_note(shown.checkpoint)
        head = VerifiedCheckpoint(parse_checkpoint(note.text), note, {})
        return SimpleNamespace(
            statement=decode_coordinator(shown.coordinator.statement),
            ak_spki=AkKey.from_tpm_public(shown.ak_public).spki,
            ca_certificate=shown.ca_certificate,
            log_url=shown.log_url,
            newest=head,
            witnessed=head,
        )

    monkeypatch.setattr("tccp.tenant.connection.verify_introduction", verify)
