"""The doctor at a real software TPM, and where there is none."""

import shutil
from pathlib import Path

from tests.support.soft_tpm import EkAuthority, SoftTpm

from .running import tccp
from .test_doctor import the_json as the


def test_a_tpm_with_all_that_is_needed_is_well(soft_tpm: SoftTpm) -> None:
    document = tccp("doctor", "--tcti", soft_tpm.tcti, "--json").document

    assert {finding["check"] for finding in document["findings"] if finding["area"] == "tpm"} == {
        "open",
        "maker",
        "banks",
        "clock",
        "ek_certificate",
    }
    assert all(finding["status"] == "ok" for finding in document["findings"] if finding["area"] == "tpm")
    assert "sha256" in the("banks", document)["found"]
    assert "IBM" in the("maker", document)["found"]


def test_the_environment_names_the_tpm_too(soft_tpm: SoftTpm) -> None:
    document = tccp("doctor", "--json", env={"TCCP_TCTI": soft_tpm.tcti}).document

    assert the("open", document)["found"] == f"{soft_tpm.tcti} answers"


def test_a_tpm_that_keeps_only_sha1_cannot_be_used(ek_authority: EkAuthority, tpm_directory: Path) -> None:
    directory = tpm_directory / "doctor-sha1"
    with SoftTpm(ek_authority, directory, pcr_banks="sha1") as old:
        ended = tccp("doctor", "--tcti", old.tcti, "--json")
    shutil.rmtree(directory)

    assert ended.code == 3
    assert the("banks", ended.document)["status"] == "fail"
    assert "tpm2_pcrallocate" in the("banks", ended.document)["mend"]


def test_a_missing_tpm_is_a_fault_of_this_machine_with_a_way_to_mend_it(tmp_path: Path) -> None:
    ended = tccp("doctor", "--tcti", f"device:{tmp_path}/tpmrm0", "--json")

    assert ended.code == 3
    assert ended.document["verdict"] == "fail"
    assert the("open", ended.document)["status"] == "fail"
    assert the("open", ended.document)["mend"]


def test_a_tcti_that_is_none_is_told_like_any_other_fault() -> None:
    finding = the("open", tccp("doctor", "--tcti", "smoke:signals", "--json").document)

    assert finding["status"] == "fail"
    assert "swtpm:path=" in finding["mend"]
