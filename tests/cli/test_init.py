"""``tccp coordinator init``: once, and never over what is there."""

import os
import shutil
from pathlib import Path

import pytest

from tccp.cli.coordinator.init import TEMPLATE
from tccp.config import CoordinatorConfig, load_config
from tccp.coordinator.identity import load_keys

from .running import tccp


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "coordinator.toml"
    path.write_text(TEMPLATE.replace("/var/lib/tccp/coordinator", f"{tmp_path}/state"))
    return path


def test_keys_are_made_for_a_configuration_that_is_there(config: Path, tmp_path: Path) -> None:
    before = config.read_bytes()

    document = tccp("coordinator", "init", "--config", config, "--json").document

    assert document["coordinator_id"] == load_keys(tmp_path / "state").coordinator_id.hex()
    assert document["config_written"] is False
    assert config.read_bytes() == before


def test_keys_are_never_made_twice(config: Path, tmp_path: Path) -> None:
    assert tccp("coordinator", "init", "--config", config).code == 0
    keys = {path.name: path.read_bytes() for path in (tmp_path / "state" / "keys").iterdir()}

    again = tccp("coordinator", "init", "--config", config, "--json")

    assert (again.code, again.document["error"]) == (4, "already_initialised")
    assert {path.name: path.read_bytes() for path in (tmp_path / "state" / "keys").iterdir()} == keys


def test_the_configuration_that_it_writes_is_a_legal_one(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text(TEMPLATE)

    assert load_config(tmp_path / "coordinator.toml", CoordinatorConfig) == CoordinatorConfig()


def test_every_commented_default_is_the_real_one(tmp_path: Path) -> None:
    lines = [line.removeprefix("# ").split("  #")[0] for line in TEMPLATE.splitlines() if "ek_" not in line]
    (tmp_path / "coordinator.toml").write_text("\n".join(line for line in lines if "=" in line or line[:1] == "["))

    assert load_config(tmp_path / "coordinator.toml", CoordinatorConfig) == CoordinatorConfig()


def test_a_wrong_configuration_makes_no_keys(config: Path, tmp_path: Path) -> None:
    config.write_text(f'state_directory = "{tmp_path}/state"\nunknown = 1\n')

    assert tccp("coordinator", "init", "--config", config).code == 4
    assert not (tmp_path / "state").exists()


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
