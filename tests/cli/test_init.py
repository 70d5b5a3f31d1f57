"""``tccp coordinator init``: once, and never over what is there."""

import os
import shutil
from pathlib import Path

import pytest

from tccp.config import CoordinatorConfig, load_config
from tccp.config.files import file_called
from tccp.config.rendering import example_file
from tccp.coordinator.custody.vault import read_vault, unseal_keys
from tccp.tpm import open_tpm
from tests.support.soft_tpm import SoftTpm

from .running import tccp


@pytest.fixture
def config(tmp_path: Path, soft_tpm: SoftTpm) -> Path:
    path = tmp_path / "coordinator.toml"
    body = example_file(file_called("coordinator"))
    body = body.replace('#state_directory = "/var/lib/tccp/coordinator"', f'state_directory = "{tmp_path}/state"')
    path.write_text(body.replace('#tcti = "device:/dev/tpmrm0"', f'tcti = "{soft_tpm.tcti}"'))
    return path


async def test_keys_are_made_for_a_configuration_that_is_there(config: Path, tmp_path: Path, soft_tpm: SoftTpm) -> None:
    before = config.read_bytes()

    document = tccp("coordinator", "init", "--config", config, "--json").document

    sealed = read_vault(tmp_path / "state")
    async with open_tpm(soft_tpm.tcti) as tpm:
        keys = await unseal_keys(tpm, tmp_path / "state", sealed)
    assert document["coordinator_id"] == keys.coordinator_id.hex()
    assert document["config_written"] is False
    assert config.read_bytes() == before


def test_keys_are_never_made_twice(config: Path, tmp_path: Path) -> None:
    assert tccp("coordinator", "init", "--config", config).code == 0
    sealed = (tmp_path / "state" / "keys" / "sealed").read_bytes()

    again = tccp("coordinator", "init", "--config", config, "--json")

    assert (again.code, again.document["error"]) == (4, "already_initialised")
    assert (tmp_path / "state" / "keys" / "sealed").read_bytes() == sealed


def test_a_new_authority_is_for_its_owner_alone_and_never_overwritten(config: Path, tmp_path: Path) -> None:
    assert tccp("coordinator", "init", "--config", config).code == 0
    authority = tmp_path / "update-authority.key"
    assert authority.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(tmp_path / "state")

    again = tccp("coordinator", "init", "--config", config, "--json")

    assert (again.code, again.document["error"]) == (4, "key_exists")
    assert not (tmp_path / "state").exists()


def test_an_authority_elsewhere_is_asked_first(config: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.key"
    assert tccp("coordinator", "keys", "authority", elsewhere).code == 0

    document = tccp(
        "coordinator", "init", "--config", config, "--authority", elsewhere.with_suffix(".pub"), "--json"
    ).document

    assert document["authority_key"] is None
    assert Path(document["request"]).read_text().startswith("# In this state of its machine a coordinator asks")
    assert list((tmp_path / "state" / "keys" / "approvals").iterdir()) == []


def test_the_configuration_that_it_writes_is_the_example_with_every_key(tmp_path: Path) -> None:
    """It is written even where the TPM that it names is missing."""
    tccp("coordinator", "init", "--config", tmp_path / "new" / "coordinator.toml")

    written = tmp_path / "new" / "coordinator.toml"
    assert written.read_text() == example_file(file_called("coordinator"))
    assert load_config(written, CoordinatorConfig) == CoordinatorConfig()


def test_a_wrong_configuration_makes_no_keys(config: Path, tmp_path: Path) -> None:
    config.write_text(f'state_directory = "{tmp_path}/state"\nunknown = 1\n')

    assert tccp("coordinator", "init", "--config", config).code == 4
    assert not (tmp_path / "state").exists()


def test_a_tpm_that_is_not_there_leaves_no_keys_and_no_authority(config: Path, tmp_path: Path) -> None:
    config.write_text(f'state_directory = "{tmp_path}/state"\n[tpm]\ntcti = "device:/nowhere"\n')

    assert tccp("coordinator", "init", "--config", config).code == 4
    assert {path.name for path in tmp_path.iterdir()} == {"coordinator.toml"}


def test_keys_that_root_made_belong_to_the_daemon_whose_directory_it_is(config: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        # Only root can make files that belong to somebody else; everybody else's files are their own anyhow.
        return
    (tmp_path / "state").mkdir()
    shutil.chown(tmp_path / "state", "nobody", "nogroup")

    assert tccp("coordinator", "init", "--config", config).code == 0

    owners = {path.stat().st_uid for path in (tmp_path / "state").rglob("*")}
    assert owners == {(tmp_path / "state").stat().st_uid}
    assert owners != {0}
