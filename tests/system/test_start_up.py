"""A daemon that cannot start says why in one line, what to do in another, and ends with a code that scripts know."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tccp.service import EXIT_CONFIG_ERROR, EXIT_HOST_ERROR
from tests.support.coordinator_keys import make_keys
from tests.support.perimeter import SCRIPTS, Perimeter
from tests.support.reserved import free_port
from tests.support.soft_tpm import SoftTpm

DEADLINE_S = 60


def refusal(command: str, config: Path) -> tuple[int, str, str]:
    """The exit code, the error and the hint of a daemon that does not start."""
    finished = subprocess.run(
        [SCRIPTS / command, "--config", config], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    said = [line for line in finished.stderr.splitlines() if line.startswith("tccp: ")]
    assert "Traceback" not in finished.stderr, finished.stderr
    assert said, finished.stderr
    assert said[0].startswith("tccp: error: ")
    assert len(said) <= 2
    return finished.returncode, said[0], said[1] if said[1:] else ""


def coordinator_toml(folder: Path, *, tcti: str, port: int = 0, extra: str = "") -> Path:
    config = folder / "coordinator.toml"
    config.write_text(
        f'state_directory = "{folder}/state"\n{extra}\n[control]\nsocket = "{folder}/tc.sock"\n'
        f'[tpm]\ntcti = "{tcti}"\n[tenants]\naddress = "127.0.0.1"\nport = 0\n'
        f'[log_server]\naddress = "127.0.0.1"\nport = 0\n'
        f'[listen]\naddress = "127.0.0.1"\nport = {port}\n'
    )
    return config


def with_keys(folder: Path, soft_tpm: SoftTpm) -> Path:
    trio.run(make_keys, folder / "state", soft_tpm.tcti)
    return folder


CONFIG_ERRORS: dict[str, tuple[Callable[[Path, SoftTpm], Path], str, str]] = {
    "no file": (lambda folder, _: folder / "none.toml", "config_unreadable", "tccp coordinator init"),
    "no keys": (
        lambda folder, _: coordinator_toml(folder, tcti="swtpm:path=/nowhere"),
        "not_initialised",
        "tccp coordinator init",
    ),
    "an unknown key": (
        lambda folder, _: coordinator_toml(folder, tcti="swtpm:path=/nowhere", extra="colour = 1"),
        "colour",
        "",
    ),
    "no TPM": (
        lambda folder, tpm: coordinator_toml(with_keys(folder, tpm), tcti="device:/nowhere"),
        "/nowhere",
        "hint",
    ),
    "a TPM of an unknown kind": (
        lambda folder, tpm: coordinator_toml(with_keys(folder, tpm), tcti="abacus:"),
        "abacus",
        "",
    ),
}


@pytest.mark.parametrize(("make", "error", "hint"), CONFIG_ERRORS.values(), ids=CONFIG_ERRORS)
def test_a_coordinator_says_what_is_wrong_with_its_configuration(
    make: Callable[[Path, SoftTpm], Path], error: str, hint: str, folder: Path, soft_tpm: SoftTpm
) -> None:
    code, said, advised = refusal("tccp-coordinator", make(folder, soft_tpm))

    assert code == EXIT_CONFIG_ERROR
    assert error in said
    assert hint in advised
    assert not (folder / "tc.sock").exists()


def test_a_coordinator_says_that_its_port_is_taken(folder: Path, soft_tpm: SoftTpm) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = coordinator_toml(with_keys(folder, soft_tpm), tcti=soft_tpm.tcti, port=port)
        code, said, _ = refusal("tccp-coordinator", config)

    assert code == EXIT_CONFIG_ERROR
    assert f"cannot_listen: 127.0.0.1:{port}" in said


def test_a_coordinator_does_not_use_keys_that_others_can_read(folder: Path, soft_tpm: SoftTpm) -> None:
    config = coordinator_toml(with_keys(folder, soft_tpm), tcti=soft_tpm.tcti)
    (folder / "state" / "keys").chmod(0o755)

    code, said, advised = refusal("tccp-coordinator", config)
    assert code == EXIT_CONFIG_ERROR
    assert "keys_exposed" in said
    assert "chmod 700" in advised


def test_a_coordinator_says_that_its_keys_are_damaged(folder: Path, soft_tpm: SoftTpm) -> None:
    config = coordinator_toml(with_keys(folder, soft_tpm), tcti=soft_tpm.tcti)
    sealed = folder / "state" / "keys" / "sealed"
    content = sealed.read_bytes()

    for damaged in (b"damaged", content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
        sealed.write_bytes(damaged)
        code, said, _ = refusal("tccp-coordinator", config)
        assert code == EXIT_CONFIG_ERROR
        assert "keys_damaged" in said


def test_a_coordinator_that_booted_something_else_says_which_pcr_differs(folder: Path, soft_tpm: SoftTpm) -> None:
    config = coordinator_toml(with_keys(folder, soft_tpm), tcti=soft_tpm.tcti)
    subprocess.run(["tpm2_pcrextend", "-T", soft_tpm.tcti, f"4:sha256={'ab' * 32}"], check=True)

    code, said, advised = refusal("tccp-coordinator", config)
    assert code == EXIT_CONFIG_ERROR
    assert "state_not_approved: PCR 4 is " in said
    assert f"approved is {'00' * 32}" in said
    assert "tccp coordinator keys request" in advised


def test_a_coordinator_says_that_its_database_is_damaged(folder: Path, soft_tpm: SoftTpm) -> None:
    config = coordinator_toml(with_keys(folder, soft_tpm), tcti=soft_tpm.tcti)
    (folder / "state" / "coordinator.db").write_bytes(b"no database at all" * 1000)

    code, said, advised = refusal("tccp-coordinator", config)
    assert code == EXIT_HOST_ERROR
    assert "damaged" in said
    assert "backup" in advised


def test_a_node_says_what_is_wrong_with_its_configuration(folder: Path) -> None:
    config = folder / "node.toml"
    config.write_text(
        f'name = "alpha"\n[coordinator]\naddress = "127.0.0.1:{free_port()}"\ntrust_file = "{folder}/trust.toml"\n'
        f'[control]\nsocket = "{folder}/node.sock"\n'
    )
    code, said, advised = refusal("tccp-node", config)
    assert (code, "trust_unreadable" in said, "tccp coordinator trust" in advised) == (EXIT_CONFIG_ERROR, True, True)

    (folder / "trust.toml").write_text("identity = 1\n")
    code, said, _ = refusal("tccp-node", config)
    assert (code, "trust_invalid" in said) == (EXIT_CONFIG_ERROR, True)

    config.write_text('name = "Not A Name"\n')
    code, said, _ = refusal("tccp-node", config)
    assert code == EXIT_CONFIG_ERROR


def test_a_second_coordinator_on_the_same_socket_is_refused_and_the_first_is_not_shut_out(
    perimeter: Perimeter,
) -> None:
    code, said, advised = refusal("tccp-coordinator", perimeter.config)
    assert code == EXIT_CONFIG_ERROR
    assert "already_running" in said
    assert advised

    node = perimeter.make_node("second-start")
    node.daemon.start()
    node.wait_for_state("admitted")

    code, said, _ = refusal("tccp-node", node.daemon.config)
    assert code == EXIT_CONFIG_ERROR
    assert "already_running" in said
    renewals = node.status().renewals
    node.daemon.wait_until(lambda: node.status().renewals > renewals, "it renews on")
