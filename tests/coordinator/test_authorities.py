"""The folder of EK authorities: all of it is believed, so all of it must be what it says."""

from pathlib import Path

import pytest

from tccp.attestation.enrolment import verify_ek_certificate
from tccp.config import EnrolmentConfig
from tccp.coordinator.authorities import load_authorities, old_revocations
from tccp.errors import ConfigError, EnrolmentError
from tests.support.certificates import DAY, NOW, Authority, new_key
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


def test_revocations_stand_beside_the_certificates_in_either_folder(tmp_path: Path) -> None:
    root, folders = Authority(), [tmp_path / "authorities", tmp_path / "between"]
    between = root.below("between", serial=7)
    for folder in folders:
        folder.mkdir()
    (folders[0] / "root.der").write_bytes(root.der)
    (folders[0] / "root.crl").write_bytes(root.revoke(5))
    (folders[1] / "between.der").write_bytes(between.der)
    (folders[1] / "between.crl").write_bytes(between.revoke(6))
    config = EnrolmentConfig(ek_authorities=str(folders[0]), ek_intermediates=str(folders[1]))
    authorities = load_authorities(config)

    for certificate in (root.issue(new_key(), serial=5), between.issue(new_key(), serial=6)):
        with pytest.raises(EnrolmentError, match="certificate_revoked"):
            verify_ek_certificate(certificate, (), authorities=authorities, now=NOW)
    verify_ek_certificate(between.issue(new_key(), serial=5), (), authorities=authorities, now=NOW)


def test_the_case_of_a_files_ending_does_not_matter(tmp_path: Path) -> None:
    root = Authority()
    (tmp_path / "ROOT.CER").write_bytes(root.der)
    (tmp_path / "ROOT.CRL").write_bytes(root.revoke(5))
    authorities = load_authorities(EnrolmentConfig(ek_authorities=str(tmp_path)))

    verify_ek_certificate(root.issue(new_key(), serial=6), (), authorities=authorities, now=NOW)
    with pytest.raises(EnrolmentError, match="certificate_revoked"):
        verify_ek_certificate(root.issue(new_key(), serial=5), (), authorities=authorities, now=NOW)


def test_revocations_that_were_replaced_are_named(tmp_path: Path) -> None:
    root = Authority()
    (tmp_path / "old.crl").write_bytes(root.revoke(5, valid=(NOW - 2 * DAY, NOW - DAY)))
    (tmp_path / "new.crl").write_bytes(root.revoke(5))
    config = EnrolmentConfig(ek_authorities=str(tmp_path))

    assert old_revocations(config, NOW) == [str(tmp_path / "old.crl")]
    assert old_revocations(config, NOW - 2 * DAY) == []


def test_a_file_that_is_no_list_of_revocations_is_named(tmp_path: Path) -> None:
    (tmp_path / "strange.crl").write_bytes(Authority().der)

    with pytest.raises(ConfigError, match=r"strange\.crl"):
        load_authorities(EnrolmentConfig(ek_authorities=str(tmp_path)))
