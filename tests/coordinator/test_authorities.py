"""The folder of EK authorities: all of it is believed, so all of it must be what it says."""

from pathlib import Path

import pytest

from tccp.config import EnrolmentConfig
from tccp.coordinator.authorities import load_authorities
from tccp.errors import ConfigError
from tests.support.soft_tpm import SoftTpm


def test_nothing_configured_is_nobody_trusted() -> None:
    assert len(load_authorities(EnrolmentConfig())) == 0


def test_the_certificates_of_a_folder_are_trusted(tmp_path: Path, soft_tpm: SoftTpm) -> None:
    for number, certificate in enumerate(soft_tpm.authority.certificates):
        (tmp_path / f"{number}.der").write_bytes(certificate)
    (tmp_path / "README").write_text("not a certificate, and not read")

    assert len(load_authorities(EnrolmentConfig(ek_authorities=str(tmp_path)))) == 2


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path, soft_tpm: SoftTpm) -> None:
    (tmp_path / "good.der").write_bytes(soft_tpm.authority.certificates[0])
    (tmp_path / "strange.pem").write_text("hello")

    with pytest.raises(ConfigError, match=r"strange\.pem"):
        load_authorities(EnrolmentConfig(ek_authorities=str(tmp_path)))


def test_a_folder_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"enrolment\.ek_authorities: .*nowhere"):
        load_authorities(EnrolmentConfig(ek_authorities=str(tmp_path / "nowhere")))
