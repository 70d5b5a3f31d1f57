"""Configuration files are checked whole, and what is wrong is named with file and key."""

from pathlib import Path

import pytest

from tccp.config import CoordinatorConfig, NodeConfig, load_config
from tccp.errors import ConfigError

NODE = 'name = "a"\n[coordinator]\naddress = "host:1"\ntrust_file = "/t"\n'


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("unknown = 1\n", "unknown"),
        ("[tpm]\nbank = 'sha1'\n", "tpm.bank: "),
        ("[tpm]\npcrs = []\n", "tpm.pcrs: "),
        ("[tpm]\npcrs = [24]\n", "tpm.pcrs[0]: "),
        ("[tpm]\npcrs = [0, 16]\n", "tpm: PCR 16"),
        ("[listen]\nport = '7443'\n", "listen.port: "),
        ("[leases]\nseconds = 1\n", "leases.seconds: "),
        ("[control]\nsocket = 'relative'\n", "control.socket: "),
        ("[listen\n", "line 1"),
        ("a = " + "[" * 10_000, "recursion"),
    ],
)
def test_what_is_wrong_with_a_coordinators_file_is_named(text: str, detail: str, tmp_path: Path) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as raised:
        load_config(path, CoordinatorConfig)

    assert raised.value.reason == "config_invalid"
    assert raised.value.detail.startswith(f"{path}: ")
    assert detail in raised.value.detail


@pytest.mark.parametrize(
    "change",
    [('"a"', '"A"'), ('"host:1"', '"host"'), ('"host:1"', '"a b:1"'), ('"/t"', '"t"'), ('name = "a"', "")],
    ids=str,
)
def test_a_node_needs_a_name_a_coordinator_and_its_trust_file(change: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(NODE)
    load_config(path, NodeConfig)
    path.write_text(NODE.replace(*change))

    with pytest.raises(ConfigError, match="config_invalid"):
        load_config(path, NodeConfig)


@pytest.mark.parametrize(("address", "host", "port"), [("host:1", "host", 1), ("[fd00::1]:7443", "fd00::1", 7443)])
def test_an_address_has_a_host_and_a_port(address: str, host: str, port: int, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(NODE.replace("host:1", address))

    coordinator = load_config(path, NodeConfig).coordinator

    assert (coordinator.host, coordinator.port) == (host, port)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config_unreadable.*absent.toml") as raised:
        load_config(tmp_path / "absent.toml", CoordinatorConfig)
    assert "tccp coordinator init" in raised.value.hint

    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin.toml", CoordinatorConfig)
