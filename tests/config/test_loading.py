"""Configuration files: what is right is read, what is wrong is told with its place, and nothing else happens."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.config import CoordinatorConfig, NodeConfig, load_config
from tccp.errors import ConfigError
from tccp.model import PcrBank

NODE = 'name = "alpha"\n[coordinator]\naddress = "tc.example:7443"\ntrust_file = "/etc/tccp/trust.toml"\n'


def load(folder: Path, text: str | bytes, kind: type[Any]) -> Any:
    path = folder / "some.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(path, kind)


def test_an_empty_file_is_a_coordinator_that_trusts_nobody(tmp_path: Path) -> None:
    config = load(tmp_path, "", CoordinatorConfig)

    assert config == CoordinatorConfig()
    assert config.enrolment.ek_authorities is None
    assert config.tpm.selection.bank is PcrBank.SHA256


def test_a_node_needs_a_name_and_a_coordinator(tmp_path: Path) -> None:
    config = load(tmp_path, NODE, NodeConfig)

    assert (config.name, config.coordinator.host, config.coordinator.port) == ("alpha", "tc.example", 7443)


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("10.0.0.1:1", "10.0.0.1", 1), ("[::1]:65535", "::1", 65535), ("tc.example:7443", "tc.example", 7443)],
)
def test_addresses_are_taken_apart(address: str, host: str, port: int, tmp_path: Path) -> None:
    found = load(tmp_path, NODE.replace("tc.example:7443", address), NodeConfig).coordinator

    assert (found.host, found.port) == (host, port)


COORDINATOR_WRONG = {
    "an unknown key": ("colour = 1", "colour"),
    "an unknown table": ("[colours]", "colours"),
    "a relative path": ('state_directory = "state"', "state_directory"),
    "a port beyond all": ("[listen]\nport = 65536", "listen.port"),
    "a port that is a word": ('[listen]\nport = "http"', "listen.port"),
    "no connections": ("[listen]\nconnections_max = 0", "listen.connections_max"),
    "a lease of a second": ("[leases]\nseconds = 1", "leases.seconds"),
    "a lease of a year": ("[leases]\nseconds = 31536000", "leases.seconds"),
    "a lease of half a second more": ("[leases]\nseconds = 2.5", "leases.seconds"),
    "the SHA-1 bank": ('[tpm]\nbank = "sha1"', "tpm.bank"),
    "no PCRs": ("[tpm]\npcrs = []", "tpm.pcrs"),
    "PCR 24": ("[tpm]\npcrs = [24]", "tpm.pcrs"),
    "PCR 16": ("[tpm]\npcrs = [0, 16]", "PCR 16"),
    "an unknown kind of key": ('[tpm]\nak = "dsa"', "tpm.ak"),
    "a log level that there is not": ('[log]\nlevel = "loud"', "log.level"),
    "no TOML": ("= 1", "some.toml:1: no TOML"),
    "a key twice": ("[log]\n[log]", "log"),
    "brackets without end": ("a = " + "[" * 5000, "nested too deeply"),
}
NODE_WRONG = {
    "nothing": ("", "name"),
    "a name in capitals": (NODE.replace("alpha", "Alpha"), "Alpha"),
    "an address without a port": (NODE.replace(":7443", ""), "coordinator.address"),
    "an address with a large port": (NODE.replace(":7443", ":65536"), "65536"),
    "an address with port zero": (NODE.replace(":7443", ":0"), "port"),
    "an address with a space": (NODE.replace("tc.example", "tc example"), "coordinator.address"),
    "a relative trust file": (NODE.replace("/etc", "etc"), "coordinator.trust_file"),
    "a check turned off": (NODE + "verify = false", "verify"),
}


@pytest.mark.parametrize(("text", "told"), COORDINATOR_WRONG.values(), ids=COORDINATOR_WRONG)
def test_what_is_wrong_with_a_coordinators_file_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config_invalid") as caught:
        load(tmp_path, text, CoordinatorConfig)
    assert told in caught.value.detail
    assert str(tmp_path) in caught.value.detail


@pytest.mark.parametrize(("text", "told"), NODE_WRONG.values(), ids=NODE_WRONG)
def test_what_is_wrong_with_a_nodes_file_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config_invalid") as caught:
        load(tmp_path, text, NodeConfig)
    assert told in caught.value.detail


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config_unreadable") as caught:
        load_config(tmp_path / "none.toml", CoordinatorConfig)
    assert "tccp coordinator init" in caught.value.hint


@given(data=st.binary(max_size=200))
def test_garbage_is_a_configuration_error_or_an_empty_file(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path_factory.getbasetemp(), data + b"\ngarbage", NodeConfig)


@given(
    table=st.dictionaries(
        st.sampled_from([*CoordinatorConfig.__struct_fields__, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.dictionaries(st.sampled_from(["port", "seconds", "pcrs", "socket", "y"]), inner),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_whatever_a_file_says_it_is_a_configuration_or_an_error(table: dict[str, Any]) -> None:
    try:
        config = msgspec.convert(table, CoordinatorConfig, strict=True)
    except msgspec.ValidationError:
        return
    assert config.leases.seconds >= 2
    assert 0 <= config.listen.port <= 65_535
