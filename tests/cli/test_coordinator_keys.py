"""``tccp coordinator keys``: what an operator, the owner of the authority and the officers type."""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.soft_tpm import SoftTpm

from .running import Ended, tccp_in_process

Command = Callable[..., Ended]


@pytest.fixture
def tccp(capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    return partial(tccp_in_process, capfdbinary)


@pytest.fixture
def config(tccp: Command, tmp_path: Path, soft_tpm: SoftTpm) -> Path:
    """Of a coordinator that was just made."""
    path = tmp_path / "coordinator.toml"
    path.write_text(f'state_directory = "{tmp_path}/state"\n[tpm]\ntcti = "{soft_tpm.tcti}"\n')
    assert tccp("coordinator", "init", "--config", path).code == 0
    return path


@pytest.fixture
def authority(config: Path) -> Path:
    return config.with_name("update-authority.key")


@pytest.fixture
def keys(tccp: Command) -> Command:
    return partial(tccp, "coordinator", "keys")


def extend(soft_tpm: SoftTpm, pcr: int) -> None:
    subprocess.run(["tpm2_pcrextend", "-T", soft_tpm.tcti, f"{pcr}:sha256={'ab' * 32}"], check=True)


@pytest.fixture
def officers(tccp: Command, tmp_path: Path) -> list[str]:
    """Three: the options that name them. Their keys are in the test's folder."""
    words = []
    for name in ("ann", "bob", "eve"):
        assert tccp("key", "generate", tmp_path / f"{name}.key").code == 0
        words += ["--officer", f"{name}={tmp_path}/{name}.pub"]
    return words


def test_a_new_state_is_requested_approved_elsewhere_and_installed(
    keys: Command, officers: list[str], config: Path, authority: Path, soft_tpm: SoftTpm
) -> None:
    extend(soft_tpm, 4)
    folder = config.parent
    request, approval = folder / "request.toml", folder / "approval.toml"

    assert keys("request", "--config", config, "--out", request).code == 0
    assert keys("approve", request, "--authority", authority, "--out", approval).code == 0
    assert keys("install-approval", approval, "--config", config).code == 0

    shown = keys("show", "--config", config, "--json").document
    assert sorted(entry["pcrs"]["4"] == "00" * 32 for entry in shown["approvals"]) == [False, True]
    assert shown["refused"] == []
    backup = keys("backup", *officers, "--threshold", "2", "--out", folder / "s", "--config", config)
    assert backup.code == 0, "the TPM gives the keys back in the new state"


def test_a_backup_that_would_replace_a_share_makes_none_and_is_not_in_the_log(
    keys: Command, officers: list[str], config: Path, tmp_path: Path
) -> None:
    out, journal = tmp_path / "s", tmp_path / "state" / "keys" / "journal"
    backup = partial(keys, "backup", *officers, "--threshold", "2", "--out", out, "--config", config)
    assert backup().code == 0
    (out / "ann.share").unlink()
    before = journal.read_bytes()

    ended = backup()

    assert (ended.code, "file_exists" in ended.err) == (4, True)
    assert sorted(path.name for path in out.iterdir()) == ["bob.share", "eve.share"]
    assert journal.read_bytes() == before
    # The control: a backup into another folder is written down.
    assert keys("backup", *officers, "--threshold", "2", "--out", tmp_path / "t", "--config", config).code == 0
    assert journal.read_bytes() != before


def test_values_that_an_update_will_bring_can_be_approved_beforehand(
    keys: Command, config: Path, authority: Path, tmp_path: Path
) -> None:
    request = keys("request", "--config", config)
    (tmp_path / "request.toml").write_text(request.out)

    approved = keys("approve", tmp_path / "request.toml", "--authority", authority, "--pcr", f"4={'cd' * 32}")

    (tmp_path / "approval.toml").write_text(approved.out)
    assert f'4 = "{"cd" * 32}"' in approved.out
    assert keys("install-approval", tmp_path / "approval.toml", "--config", config).code == 0
    for wrong in ("4=cd", "5=" + "cd" * 32, "x=00"):
        bad = keys("approve", tmp_path / "request.toml", "--authority", authority, "--pcr", wrong, "--json")
        assert (bad.code, bad.document["error"]) == (4, "bad_pcr")


def test_an_unknown_state_names_the_pcr_and_what_to_do(
    keys: Command, officers: list[str], config: Path, soft_tpm: SoftTpm, tmp_path: Path
) -> None:
    extend(soft_tpm, 7)

    ended = keys("backup", *officers, "--threshold", "2", "--out", tmp_path / "s", "--config", config)

    assert ended.code == 4
    assert "state_not_approved: PCR 7 is " in ended.err
    assert "tccp coordinator keys request" in ended.err
    assert not (tmp_path / "s").exists()


def test_approvals_are_ended_once_the_next_generation_is_there(
    keys: Command, config: Path, authority: Path, tmp_path: Path
) -> None:
    refused = keys("end-approvals", "--config", config, "--json")
    assert (refused.code, refused.document["error"]) == (4, "would_lock_out")
    request, approval = tmp_path / "request.toml", tmp_path / "approval.toml"
    assert keys("request", "--next-generation", "--config", config, "--out", request).code == 0
    assert keys("approve", request, "--authority", authority, "--out", approval).code == 0
    assert keys("install-approval", approval, "--config", config).code == 0

    ended = keys("end-approvals", "--config", config, "--json")

    assert len(ended.document["ended"]) == 1
    (left,) = keys("show", "--config", config, "--json").document["approvals"]
    assert left["generation"] == int(request.read_text().split("generation = ")[1].split()[0])


def test_a_lost_authority_is_replaced(
    keys: Command, officers: list[str], config: Path, authority: Path, tmp_path: Path
) -> None:
    authority.unlink()
    new = tmp_path / "new-authority.key"

    changed = keys("change-authority", "--new-authority", new, "--config", config, "--json")

    assert changed.code == 0, changed
    shown = keys("show", "--config", config, "--json").document
    assert (shown["authority"], len(shown["approvals"])) == (changed.document["authority"], 1)
    backup = keys("backup", *officers, "--threshold", "2", "--out", tmp_path / "s", "--config", config)
    assert backup.code == 0, backup


def test_officers_keep_check_and_hand_over_their_shares(
    tccp: Command, keys: Command, officers: list[str], config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shares"
    made = keys("backup", *officers, "--threshold", "2", "--out", out, "--config", config, "--json").document
    assert [Path(path).name for path in made["shares"]] == ["ann.share", "bob.share", "eve.share"]

    shown = keys("share", out / "bob.share", "--json").document
    assert (shown["number"], shown["count"], shown["threshold"], shown["officer"]) == ("2", "3", "2", "bob")

    assert tccp("key", "generate", tmp_path / "machine.key").code == 0
    for name in ("ann", "bob"):
        handed = ["--key", tmp_path / f"{name}.key", "--to", tmp_path / "machine.pub"]
        assert keys("hand-over", out / f"{name}.share", *handed).code == 0
    (tmp_path / "update-authority.key").rename(tmp_path / "old-authority.key")
    (tmp_path / "update-authority.pub").unlink()
    (tmp_path / "state").rename(tmp_path / "lost")

    handed_shares = [out / "ann-handed.share", out / "bob-handed.share"]
    restored = keys("restore", *handed_shares, "--key", tmp_path / "machine.key", "--config", config, "--json")

    assert restored.code == 0, restored
    assert restored.document["coordinator_id"] == shown["coordinator"]


def test_too_few_and_altered_shares_are_refused_by_name(
    keys: Command, officers: list[str], config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "shares"
    assert keys("backup", *officers, "--threshold", "2", "--out", out, "--config", config).code == 0
    (tmp_path / "state").rename(tmp_path / "lost")
    key = ["--key", tmp_path / "ann.key", "--key", tmp_path / "bob.key", "--config", config, "--json"]

    few = keys("restore", out / "ann.share", *key)
    assert (few.code, few.document["error"]) == (4, "too_few_shares")

    text = (out / "bob.share").read_text()
    middle = len(text) // 2
    (out / "bob.share").write_text(text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :])
    altered = keys("restore", out / "ann.share", out / "bob.share", *key)
    assert (altered.code, altered.document["error"]) == (4, "share_altered")
    assert "bob.share" in altered.document["detail"]
    assert not (tmp_path / "state").exists()


def test_no_command_prints_a_private_key(
    keys: Command, officers: list[str], config: Path, authority: Path, tmp_path: Path
) -> None:
    """All that they print, and the options that they have: nothing asks for one, nothing shows one."""
    secret = authority.read_text().splitlines()[1]
    said = [
        keys("show", "--config", config),
        keys("request", "--config", config),
        keys("backup", *officers, "--threshold", "2", "--out", tmp_path / "s", "--config", config),
        keys("share", tmp_path / "s" / "ann.share"),
        keys("authority", tmp_path / "another.key"),
        keys("--help"),
    ]

    assert all(ended.code == 0 for ended in said)
    assert not [ended for ended in said if secret in ended.out + ended.err or "PRIVATE" in ended.out + ended.err]
    assert "export" not in said[-1].out
