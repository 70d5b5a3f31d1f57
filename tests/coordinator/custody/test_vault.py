"""Stolen disks, other boots, other machines, other authorities: each yields nothing, and says why."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tccp.coordinator.custody.approval import approve, parse_approval, write_approval
from tccp.coordinator.custody.authority import authority_id, make_authority
from tccp.coordinator.custody.journal import parse_journal
from tccp.coordinator.custody.sealed_file import open_sealed_keys, parse_sealed_keys
from tccp.coordinator.custody.vault import change_authority, check_vacant, end_approvals, read_vault, unseal_keys
from tccp.errors import ConfigError, HostError, TpmError
from tccp.model import PcrBank
from tccp.tpm import open_tpm
from tccp.tpm.policy import Approval
from tests.coordinator.custody.conftest import NOW_MS, Custody
from tests.support.coordinator_keys import SELECTION, make_keys
from tests.support.soft_tpm import SoftTpm, SoftTpmPool

EXTENDED = b"\xab" * 32


async def refusal(custody: Custody) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        await custody.open()
    return caught.value


async def test_the_keys_come_back_in_the_state_in_which_they_were_made(custody: Custody) -> None:
    assert await custody.open() == custody.keys


async def test_nothing_beside_the_keys_holds_a_secret_in_the_clear(custody: Custody) -> None:
    secrets = [value for value in msgspec.structs.astuple(custody.keys)[1:] if b"CERTIFICATE" not in value]
    files = [path for path in custody.state.rglob("*") if path.is_file()]

    assert {path.name for path in files} >= {"sealed", "journal"}
    assert len(secrets) == 6
    for path in files:
        assert path.stat().st_mode & 0o077 == 0
        assert not [secret for secret in secrets if secret in path.read_bytes()]


async def test_another_boot_says_which_pcr_differs_until_it_is_approved(custody: Custody) -> None:
    await custody.tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)

    refused = await refusal(custody)
    assert refused.reason == "state_not_approved"
    assert re.fullmatch(rf"PCR 4 is [0-9a-f]{{64}}, approved is {'00' * 32}", refused.detail)
    assert "tccp coordinator keys request" in refused.hint

    custody.install(await custody.approval())
    assert await custody.open() == custody.keys


async def test_the_nearest_approval_is_the_one_that_is_compared(custody: Custody) -> None:
    await custody.tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)
    custody.install(await custody.approval())
    await custody.tpm.extend_pcr(7, PcrBank.SHA256, EXTENDED)

    assert (await refusal(custody)).detail.startswith("PCR 7 is ")
    assert "PCR 4" not in (await refusal(custody)).detail


async def test_a_copied_disk_opens_on_no_other_machine(custody: Custody, soft_tpms: SoftTpmPool) -> None:
    with soft_tpms.lend() as other:
        async with open_tpm(other.tcti) as other_tpm:
            with pytest.raises(ConfigError) as caught:
                await unseal_keys(other_tpm, custody.state, custody.sealed)
            assert caught.value.reason == "another_tpm"
            assert "tccp coordinator keys restore" in caught.value.hint
            # What the file says of its TPM serves the message. The TPM itself knows its own, approval or not.
            blob = replace(custody.sealed.blob, storage_name=await other_tpm.storage_name())
            with pytest.raises(TpmError) as refused:
                await unseal_keys(other_tpm, custody.state, replace(custody.sealed, blob=blob))
            assert refused.value.reason == "tpm_rc_integrity"
    assert await custody.open() == custody.keys


async def test_an_approval_by_another_authority_is_not_installed_and_would_open_nothing(custody: Custody) -> None:
    await custody.tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)
    good = await custody.approval()
    thief = make_authority()
    forged = approve(replace(good.request, authority_id=authority_id(thief.public_key())), thief)

    with pytest.raises(ConfigError) as caught:
        custody.install(forged)
    assert caught.value.reason == "approval_of_another_authority"

    # Put there all the same, and believed by our own comparison: the TPM refuses.
    (custody.approvals[0].parent / "forged.toml").write_bytes(write_approval(forged))
    assert (await refusal(custody)).reason == "state_not_approved"
    believed = forged.verified(thief.public_key(), custody.keys.coordinator_id)
    with pytest.raises(TpmError) as refused:
        await custody.tpm.unseal(custody.sealed.blob, believed)
    assert refused.value.reason == "tpm_rc_policy_fail"

    custody.install(good)
    assert await custody.open() == custody.keys


async def test_an_approval_for_another_coordinator_of_the_same_authority_opens_nothing(
    custody: Custody, tmp_path: Path
) -> None:
    good = await custody.approval()
    for path in custody.approvals:
        path.unlink()
    other = approve(replace(good.request, coordinator_id=bytes(32)), custody.authority)

    with pytest.raises(ConfigError) as caught:
        custody.install(other)
    assert caught.value.reason == "approval_for_another_coordinator"
    believed = other.verified(custody.authority.public_key(), bytes(32))
    with pytest.raises(TpmError) as refused:
        await custody.tpm.unseal(custody.sealed.blob, believed)
    assert refused.value.reason == "tpm_rc_policy_fail"

    custody.install(good)
    assert await custody.open() == custody.keys


async def test_an_approval_whose_values_were_changed_counts_for_nothing(custody: Custody) -> None:
    await custody.tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)
    value = (await custody.tpm.read_pcrs(SELECTION)).values[4].hex()
    path = custody.approvals[0]
    path.write_text(path.read_text().replace(f'4 = "{"00" * 32}"', f'4 = "{value}"'))

    refused = await refusal(custody)
    assert refused.reason == "not_approved"
    assert "approval_forged" in refused.detail


async def test_without_an_approval_it_says_what_to_do(custody: Custody) -> None:
    custody.approvals[0].unlink()

    refused = await refusal(custody)
    assert refused.reason == "not_approved"
    assert "tccp coordinator keys request" in refused.hint


# ---- older approvals


async def test_an_approval_that_was_put_back_after_its_end_opens_nothing(custody: Custody, tmp_path: Path) -> None:
    """A thief with the TPM, an old copy of the disk, and a boot that was approved once."""
    old_disk = tmp_path / "old"
    shutil.copytree(custody.state, old_disk)
    assert await unseal_keys(custody.tpm, old_disk, read_vault(old_disk)) == custody.keys
    custody.install(await custody.approval(generations_ahead=1))

    ended = await end_approvals(custody.tpm, custody.state, custody.sealed, now_ms=NOW_MS)

    assert len(ended) == 1
    assert await custody.open() == custody.keys
    with pytest.raises(ConfigError) as caught:
        await unseal_keys(custody.tpm, old_disk, read_vault(old_disk))
    assert caught.value.reason == "approvals_ended"
    (path,) = (old_disk / "keys" / "approvals").iterdir()
    with pytest.raises(TpmError) as refused:
        await custody.tpm.unseal(custody.sealed.blob, believed(custody, path))
    assert refused.value.reason == "tpm_rc_policy"


def believed(custody: Custody, path: Path) -> Approval:
    signed = parse_approval(path.read_bytes())
    return signed.verified(custody.authority.public_key(), custody.keys.coordinator_id)


async def test_approvals_are_not_ended_while_that_would_lock_the_coordinator_out(custody: Custody) -> None:
    with pytest.raises(ConfigError) as caught:
        await end_approvals(custody.tpm, custody.state, custody.sealed, now_ms=NOW_MS)
    assert caught.value.reason == "would_lock_out"
    assert "--next-generation" in caught.value.hint

    custody.install(await custody.approval(generations_ahead=1))
    await custody.tpm.extend_pcr(0, PcrBank.SHA256, EXTENDED)
    with pytest.raises(ConfigError) as caught:
        await end_approvals(custody.tpm, custody.state, custody.sealed, now_ms=NOW_MS)
    assert caught.value.reason == "would_lock_out"
    assert "PCR 0" in caught.value.detail


async def test_keys_can_come_to_obey_another_authority(custody: Custody, tmp_path: Path) -> None:
    old_disk = tmp_path / "old"
    shutil.copytree(custody.state, old_disk)
    former, new = await custody.approval(), make_authority()

    asked = await change_authority(
        custody.tpm, custody.state, custody.sealed, new.public_key(), SELECTION, now_ms=NOW_MS
    )

    assert custody.approvals == []
    with pytest.raises(ConfigError, match="approval_of_another_authority"):
        custody.install(former)
    custody.authority = new
    custody.install(approve(asked, new))
    assert await custody.open() == custody.keys
    # An old copy obeys the former authority until the counter has passed what that one signed while it was there.
    assert await unseal_keys(custody.tpm, old_disk, read_vault(old_disk)) == custody.keys
    custody.install(await custody.approval(generations_ahead=1))
    await end_approvals(custody.tpm, custody.state, custody.sealed, now_ms=NOW_MS)
    with pytest.raises(ConfigError, match="approvals_ended"):
        await unseal_keys(custody.tpm, old_disk, read_vault(old_disk))
    assert await custody.open() == custody.keys


async def test_the_authority_is_not_changed_in_a_state_that_the_former_has_not_approved(custody: Custody) -> None:
    before = (custody.state / "keys" / "sealed").read_bytes()
    await custody.tpm.extend_pcr(4, PcrBank.SHA256, EXTENDED)

    with pytest.raises(ConfigError, match="state_not_approved"):
        await change_authority(
            custody.tpm, custody.state, custody.sealed, make_authority().public_key(), SELECTION, now_ms=NOW_MS
        )
    assert (custody.state / "keys" / "sealed").read_bytes() == before


# ---- the file


async def test_no_byte_of_the_sealed_file_can_be_changed(custody: Custody) -> None:
    content = (custody.state / "keys" / "sealed").read_bytes()
    wrapping_key = await custody.tpm.unseal(custody.sealed.blob, believed(custody, custody.approvals[0]))
    assert open_sealed_keys(parse_sealed_keys(content), wrapping_key + b"") == custody.keys

    for place in range(0, len(content), 7):
        altered = content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
        with pytest.raises(ConfigError, match="keys_damaged"):
            open_sealed_keys(parse_sealed_keys(altered), wrapping_key)


async def test_the_file_of_another_coordinator_of_the_same_tpm_does_not_open_with_these_keys(
    soft_tpm: SoftTpm, tmp_path: Path
) -> None:
    """Whoever exchanges the encrypted part between two files gets neither."""
    one, authority = await make_keys(tmp_path / "one", soft_tpm.tcti)
    await make_keys(tmp_path / "two", soft_tpm.tcti, authority=authority)
    mixed = replace(
        read_vault(tmp_path / "one"),
        nonce=read_vault(tmp_path / "two").nonce,
        ciphertext=read_vault(tmp_path / "two").ciphertext,
    )
    async with open_tpm(soft_tpm.tcti) as tpm:
        with pytest.raises(ConfigError, match="keys_damaged"):
            await unseal_keys(tpm, tmp_path / "one", mixed)
        assert await unseal_keys(tpm, tmp_path / "one", read_vault(tmp_path / "one")) == one


async def test_what_a_killed_attempt_left_behind_does_not_get_into_the_keys(soft_tpm: SoftTpm, tmp_path: Path) -> None:
    left = tmp_path / "state" / f".keys.{os.getpid()}"
    (left / "approvals").mkdir(parents=True)
    (left / "approvals" / "stale.toml").write_text("stale")
    (left / "journal").write_text("stale")

    await make_keys(tmp_path / "state", soft_tpm.tcti)

    assert not left.exists()
    assert not (tmp_path / "state" / "keys" / "approvals" / "stale.toml").exists()
    events = parse_journal((tmp_path / "state" / "keys" / "journal").read_bytes())
    assert [event.kind for event in events] == ["keys_sealed", "approval_installed"]


async def test_keys_are_never_made_over_others(custody: Custody) -> None:
    with pytest.raises(ConfigError, match="already_initialised"):
        check_vacant(custody.state)


async def test_an_approval_that_is_written_again_is_one_file(custody: Custody) -> None:
    signed = await custody.approval()

    assert custody.install(signed) == custody.install(signed)
    assert len(custody.approvals) == 2


async def test_a_state_that_cannot_be_written_leaves_no_keys(soft_tpm: SoftTpm, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the directory should be")

    with pytest.raises(HostError, match="state_unwritable"):
        await make_keys(tmp_path / "file" / "state", soft_tpm.tcti)
