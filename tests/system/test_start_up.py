"""A daemon that cannot start says why in one line, what to do in another, and ends with a code that scripts know."""

import datetime as dt
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tccp.coordinator.identity import create_keys
from tccp.service import EXIT_CONFIG_ERROR, EXIT_HOST_ERROR
from tests.support.perimeter import SCRIPTS, Perimeter, free_port
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


def with_keys(folder: Path) -> Path:
    create_keys(folder / "state", now=dt.datetime.now(tz=dt.UTC))
    return folder


CONFIG_ERRORS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "no file": (lambda folder: folder / "none.toml", "config_unreadable", "tccp coordinator init"),
    "no keys": (
        lambda folder: coordinator_toml(folder, tcti="swtpm:path=/nowhere"),
        "not_initialised",
        "tccp coordinator init",
    ),
    "an unknown key": (
        lambda folder: coordinator_toml(folder, tcti="swtpm:path=/nowhere", extra="colour = 1"),
        "colour",
        "",
    ),
    "no TPM": (lambda folder: coordinator_toml(with_keys(folder), tcti="device:/nowhere"), "/nowhere", "hint"),
    "a TPM of an unknown kind": (lambda folder: coordinator_toml(with_keys(folder), tcti="abacus:"), "abacus", ""),
}


@pytest.mark.parametrize(("make", "error", "hint"), CONFIG_ERRORS.values(), ids=CONFIG_ERRORS)
def test_a_coordinator_says_what_is_wrong_with_its_configuration(
    make: Callable[[Path], Path], error: str, hint: str, folder: Path
) -> None:
    code, said, advised = refusal("tccp-coordinator", make(folder))

    assert code == EXIT_CONFIG_ERROR
    assert error in said
    assert hint in advised
    assert not (folder / "tc.sock").exists()


def test_a_coordinator_says_that_its_port_is_taken(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said, _ = refusal(
            "tccp-coordinator", coordinator_toml(with_keys(folder), tcti="swtpm:path=/nowhere", port=port)
        )

    assert code == EXIT_CONFIG_ERROR
    assert f"cannot_listen: 127.0.0.1:{port}" in said


def test_a_coordinator_does_not_use_keys_that_others_can_read(folder: Path) -> None:
    config = coordinator_toml(with_keys(folder), tcti="swtpm:path=/nowhere")
    (folder / "state" / "keys").chmod(0o755)

    code, said, advised = refusal("tccp-coordinator", config)
    assert code == EXIT_CONFIG_ERROR
    assert "keys_exposed" in said
    assert "chmod 700" in advised


@pytest.mark.parametrize("damaged", ["identity.key", "ca.pem", "ca.key", "door.pem", "door.key"])
def test_a_coordinator_says_that_a_key_is_damaged(damaged: str, folder: Path) -> None:
    config = coordinator_toml(with_keys(folder), tcti="swtpm:path=/nowhere")
    (folder / "state" / "keys" / damaged).write_bytes(b"damaged")

    code, said, _ = refusal("tccp-coordinator", config)
    assert code == EXIT_CONFIG_ERROR
    assert "keys_damaged" in said


def test_a_coordinator_says_that_its_database_is_damaged(folder: Path, soft_tpm: SoftTpm) -> None:
    config = coordinator_toml(with_keys(folder), tcti=soft_tpm.tcti)
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
