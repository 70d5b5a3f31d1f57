"""``tccp evidence ek``: certificates of software TPMs, judged with and without their authority."""

from pathlib import Path

import pytest

from tests.cli.evidence.conftest import Run
from tests.support.soft_tpm import EkAuthority
from tests.support.tpm2_tools import Tpm2Tools

EK_CERTIFICATE_NV = "0x1c00016"


@pytest.fixture
def certificate(tools: Tpm2Tools) -> Path:
    """The ECC EK certificate of the software TPM, as tpm2_nvread reads it."""
    tools.run("nvread", EK_CERTIFICATE_NV, "-C", "o", "-o", "ek.der")
    return tools.directory / "ek.der"


@pytest.fixture
def folders(certificate: Path, ek_authority: EkAuthority, tmp_path: Path) -> tuple[Path, Path]:
    """Authorities (the root) and intermediates (the issuer)."""
    assert certificate.exists()
    roots, between = tmp_path / "roots", tmp_path / "between"
    for folder, content in zip((roots, between), ek_authority.certificates, strict=True):
        folder.mkdir()
        (folder / "ca.der").write_bytes(content)
        (folder / "README.md").write_text("not a certificate, and not looked at\n")
    return roots, between


def test_a_certificate_with_a_chain_to_an_authority_is_accepted(
    certificate: Path, folders: tuple[Path, Path], run: Run
) -> None:
    roots, between = folders
    ended = run("ek", certificate, "--authorities", roots, "--intermediates", between)
    document = run("ek", certificate, "--authorities", roots, "--intermediates", between, "--json").document

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"{certificate}: accepted"
    assert document["verdict"] == "accepted"
    assert document["certificate"]["key"] == "p384"
    assert len(document["certificate"]["ek_id"]) == 64
    assert document["certificate"]["manufacturer"]
    assert any("activation" in line for line in document["not_proved"])


def test_an_intermediate_that_is_named_as_authority_is_enough(
    certificate: Path, folders: tuple[Path, Path], run: Run
) -> None:
    assert run("ek", certificate, "--authorities", folders[1]).code == 0


def test_without_the_link_between_there_is_no_chain(certificate: Path, folders: tuple[Path, Path], run: Run) -> None:
    ended = run("ek", certificate, "--authorities", folders[0], "--json")

    assert (ended.code, ended.document["error"]) == (1, "untrusted")
    assert ended.document["found"]["authorities"] == "1"


def test_an_intermediate_is_trusted_in_nothing_by_itself(
    certificate: Path, folders: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "nobody").mkdir()
    ended = run("ek", certificate, "--authorities", tmp_path / "nobody", "--intermediates", folders[1], "--json")

    assert (ended.code, ended.document["error"]) == (1, "untrusted")


def test_the_time_of_judgement_counts(certificate: Path, folders: tuple[Path, Path], run: Run) -> None:
    ended = run("ek", certificate, "--authorities", folders[1], "--at", "2001-01-01", "--json")

    assert (ended.code, ended.document["error"]) == (1, "expired")


@pytest.mark.parametrize(
    ("written", "judged"),
    [("2001-01-01T12:00+02:00", "2001-01-01 10:00:00 UTC"), ("1900-01-01", "1900-01-01 00:00:00 UTC")],
)
def test_the_time_of_judgement_is_told_in_utc(
    written: str, judged: str, certificate: Path, folders: tuple[Path, Path], run: Run
) -> None:
    ended = run("ek", certificate, "--authorities", folders[1], "--at", written, "--json")

    assert (ended.code, ended.document["found"]["judged at"]) == (1, judged)


def test_a_time_beyond_the_calendar_is_none(certificate: Path, folders: tuple[Path, Path], run: Run) -> None:
    assert run("ek", certificate, "--authorities", folders[1], "--at", "0001-01-01T00:00+01:00").code == 2


def test_an_authority_is_no_endorsement_key(folders: tuple[Path, Path], run: Run) -> None:
    ended = run("ek", folders[1] / "ca.der", "--authorities", folders[0], "--json")

    assert ended.code == 1
    assert ended.document["error"] == "key_attributes"


def test_a_bad_file_among_the_authorities_is_named(certificate: Path, folders: tuple[Path, Path], run: Run) -> None:
    (folders[0] / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    ended = run("ek", certificate, "--authorities", folders[0], "--json")

    assert (ended.code, ended.document["error"]) == (4, "bad_authority")
    assert "broken.pem" in ended.document["detail"]


def test_a_folder_that_is_not_there_is_a_fault_of_this_machine(certificate: Path, tmp_path: Path, run: Run) -> None:
    ended = run("ek", certificate, "--authorities", tmp_path / "none", "--json")

    assert (ended.code, ended.document["error"]) == (3, "folder_unreadable")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x30\x82\xff\xff", b"\0" * 70_000])
def test_what_is_no_certificate_is_refused(
    content: bytes, folders: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "ek").write_bytes(content)

    ended = run("ek", tmp_path / "ek", "--authorities", folders[0], "--json")

    assert ended.code == 1
    assert ended.document["error"] in {"malformed", "too_large"}
