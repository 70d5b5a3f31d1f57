from pathlib import Path

import pytest

from tccp.errors import ConfigError
from tccp.systemd import CREDENTIAL_BYTES_MAX, credential


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def test_a_credential_is_read_as_bytes(directory: Path) -> None:
    (directory / "tls.key").write_bytes(b"\0\xffkey\n")

    assert credential("tls.key") == b"\0\xffkey\n"


def test_an_absent_credential_is_none(directory: Path) -> None:
    assert credential("tls.key") is None


def test_there_are_no_credentials_without_systemd() -> None:
    assert credential("tls.key") is None


def test_an_unreadable_credential_is_the_operators_fault(directory: Path) -> None:
    (directory / "tls.key").mkdir()

    with pytest.raises(ConfigError, match=r"tls\.key: Is a directory"):
        credential("tls.key")


def test_a_credential_has_a_size_limit(directory: Path) -> None:
    (directory / "tls.key").write_bytes(bytes(CREDENTIAL_BYTES_MAX + 1))

    with pytest.raises(ConfigError, match="larger than"):
        credential("tls.key")


@pytest.mark.parametrize("name", ["", ".", "..", "../tls.key", "/etc/shadow", "a/b", "a\0b"])
def test_a_name_cannot_leave_the_directory(directory: Path, name: str) -> None:
    with pytest.raises(AssertionError):
        credential(name)
