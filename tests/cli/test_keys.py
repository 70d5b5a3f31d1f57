"""Public keys in all their wrappings."""

from pathlib import Path

import pytest

from tccp.cli.keys import is_spki, public_key_bytes
from tccp.errors import EvidenceError
from tests.cli.running import tccp

DER = bytes.fromhex("3003020100")
PEM = b"some text\n-----BEGIN PUBLIC KEY-----\nMAMC\nAQA=\n-----END PUBLIC KEY-----\n"
TPMT = bytes.fromhex("0023000b0000000000")


@pytest.mark.parametrize("content", [DER, PEM, PEM.replace(b"\n", b"\r\n")])
def test_pem_and_der_are_the_same_key(content: bytes) -> None:
    assert public_key_bytes(content) == DER
    assert is_spki(public_key_bytes(content))


@pytest.mark.parametrize("content", [TPMT, len(TPMT).to_bytes(2, "big") + TPMT])
def test_a_public_area_with_and_without_its_size_is_the_same(content: bytes) -> None:
    assert public_key_bytes(content) == TPMT
    assert not is_spki(TPMT)


def test_a_pem_file_without_a_key_in_it_is_no_key_of_any_kind() -> None:
    assert not is_spki(public_key_bytes(b"-----BEGIN PUBLIC KEY-----\n\n-----END PUBLIC KEY-----\n"))


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", PEM.replace(b"MAMC", b"MAM")],
)
def test_what_is_no_public_key_is_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        public_key_bytes(content)


def test_the_key_of_a_disk_is_for_its_owners_eyes_only(tmp_path: Path) -> None:
    key = tmp_path / "vm.key"
    key.write_bytes(bytes(32))
    create = ("disk", "create", tmp_path / "vm.disk", "--size", "1M", "--key", key, "--json")

    key.chmod(0o640)
    refused = tccp(*create)
    key.chmod(0o600)

    assert (refused.code, refused.document["error"]) == (4, "key_exposed")
    assert tccp(*create).code == 0
