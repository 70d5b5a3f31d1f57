"""Real logs give the PCR values that their machines had, and the odd ones among them get their named verdict."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

from tccp.attestation.event_log import (
    EventLog,
    LogEnding,
    explain,
    explain_incomplete,
    replay_event_log,
    salvage_event_log,
)
from tccp.errors import EventLogError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.event_logs import VECTORS, yaml_pcrs

NOT_LOGS = {"ek-template-default.bin", "specid-vendordata.bin"}
WITH_EXPECTATION = sorted(
    path for path in (VECTORS / "tpm2-tools").glob("*.bin") if path.with_suffix(".bin.yaml").exists()
)
# Where tpm2_eventlog is no oracle: 5.4 extends PCR 0 with EV_NO_ACTION and knows no StartupLocality, and crashes on
# Windows' last event.
PCR_0_WRONG_IN_ORACLE = {
    "confidential-gke-debug-251000_eventlog.bin",
    "eventlogwithsp800155.bin",
    "gdc-host.bin",
    "glinux-alex.bin",
    "binary_bios_measurements",
    "IMN-DELL-WBCL-BootCtrs.bin",
    "good-1.bin",
    "latitude-7520.bin",
}
CRASHES_ORACLE = {"option_rom_eventlog", "short_no_action_eventlog"}


def is_log(path: Path) -> bool:
    return path.suffix in {"", ".bin"} and not path.name.startswith("pcrs_") and path.name not in NOT_LOGS


TPM_LOGS = sorted(
    path
    for folder in ("go-attestation", "go-tpm-tools", "tpm2-tools", "keylime", "guard-oss", "gce")
    for path in (VECTORS / folder).iterdir()
    if is_log(path)
)
CCEL_LOGS = sorted(path for path in (VECTORS / "ccel").iterdir() if is_log(path))


def replayed(log: EventLog) -> dict[str, dict[int, str]]:
    """The PCRs in the form of `yaml_pcrs`."""
    return {
        bank.hash_name: {index: value.hex() for index, value in log.pcrs(bank).items()}
        for bank in log.banks
        if log.extended(bank)
    }


def values(bank: PcrBank, pcrs: dict[int, bytes]) -> PcrValues:
    return PcrValues(PcrSelection.of(bank, pcrs), pcrs)


def quoted(name: str, bank: PcrBank = PcrBank.SHA256) -> dict[int, bytes]:
    """What the TPM of one of guard-oss' machines quoted."""
    pcrs = json.loads((VECTORS / "guard-oss" / f"{name}.pcrs.json").read_text())[bank.hash_name]
    return {int(index): bytes.fromhex(value) for index, value in pcrs.items()}


def windows_gcp() -> tuple[bytes, dict[int, bytes]]:
    told = json.loads((VECTORS / "go-attestation" / "windows_gcp_shielded_vm.json").read_text())["Log"]
    pcrs = {pcr["Index"]: base64.b64decode(pcr["Digest"]) for pcr in told["PCRs"]}
    return base64.b64decode(told["Raw"]), pcrs


# ---- every log ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WITH_EXPECTATION, ids=lambda path: path.name)
def test_tpm2_tools_logs_give_the_pcrs_that_its_authors_expect(path: Path) -> None:
    expected = yaml_pcrs(path.with_suffix(".bin.yaml").read_text())

    if path.name in NOT_LOGS:
        assert not expected
    else:
        assert replayed(replay_event_log(path.read_bytes())) == expected


@pytest.mark.parametrize("path", [path for path in TPM_LOGS if path.name not in CRASHES_ORACLE], ids=lambda p: p.name)
def test_tpm2_eventlog_computes_the_same_pcrs(path: Path) -> None:
    told = subprocess.run(["tpm2_eventlog", path], capture_output=True, check=True)
    expected = {bank: dict(pcrs) for bank, pcrs in yaml_pcrs(told.stdout.decode(errors="replace")).items() if pcrs}

    ours = replayed(replay_event_log(path.read_bytes()))

    if path.name in PCR_0_WRONG_IN_ORACLE:
        for bank in ours.values():
            del bank[0]
        for bank in expected.values():
            del bank[0]
    assert ours == expected


@pytest.mark.parametrize("path", TPM_LOGS + CCEL_LOGS, ids=lambda path: path.name)
def test_every_log_is_read_to_its_end_and_every_event_decodes(path: Path) -> None:
    log = replay_event_log(path.read_bytes())

    assert not log.ending.is_damage
    assert len(log.events) == len(log)
    for event in log.events:
        event.content()


@pytest.mark.parametrize("bank", [PcrBank.SHA1, PcrBank.SHA256, PcrBank.SHA384], ids=lambda bank: bank.name)
def test_a_google_vm_s_log_explains_its_quote_in_each_bank(bank: PcrBank) -> None:
    raw = (VECTORS / "gce" / f"pcrs_{bank.hash_name}.bin").read_bytes()
    size = bank.digest_bytes
    pcrs = {index: raw[index * size : (index + 1) * size] for index in range(24)}
    log = replay_event_log((VECTORS / "gce" / "eventlog.bin").read_bytes())

    # The kernel of this machine measures into PCR 10 by itself (IMA), which no firmware log can explain.
    explained = explain(log, values(bank, pcrs), set(range(24)) - {10})

    assert explained.is_complete
    assert explained.selection.indexes == tuple(index for index in range(24) if index not in {10, 16, 23})
    assert len(explained.events) == len(log.events)


@pytest.mark.parametrize("name", ["IMN-DELL-WBCL-BootCtrs", "good-1", "latitude-7520"])
def test_logs_explain_what_real_machines_quoted(name: str) -> None:
    log = replay_event_log((VECTORS / "guard-oss" / f"{name}.bin").read_bytes())

    explained = explain(log, values(PcrBank.SHA256, quoted(name)))

    assert log.startup_locality == 3
    assert explained.is_complete
    assert {event.event.pcr for event in explained.events} == set(log.extended(PcrBank.SHA256))


def test_a_server_whose_firmware_hides_an_event_is_explained_without_pcr_0() -> None:
    log = replay_event_log((VECTORS / "guard-oss" / "dl160-fwupd-report.bin").read_bytes())
    pcrs = values(PcrBank.SHA256, quoted("dl160-fwupd-report"))

    with pytest.raises(EventLogError, match=r"event_log_mismatch.*: 0, 10$"):
        explain(log, pcrs)
    explained = explain(log, pcrs, set(pcrs.selection.indexes) - {0, 10})

    assert 0 not in {event.event.pcr for event in explained.events}


def test_a_windows_vm_s_sha1_log_gives_its_pcrs() -> None:
    raw, pcrs = windows_gcp()

    log = replay_event_log(raw)

    assert not log.is_crypto_agile
    assert log.banks == (PcrBank.SHA1,)
    assert explain_incomplete(log, values(PcrBank.SHA1, pcrs)).selection.indexes[0] == 0


def test_a_confidential_vm_s_log_gives_the_registers_of_its_quote() -> None:
    expected = json.loads((VECTORS / "ccel" / "cos-113.rtmrs.json").read_text())

    log = replay_event_log((VECTORS / "ccel" / "cos-113").read_bytes())

    assert log.is_confidential
    assert log.is_complete
    assert log.ending is LogEnding.PADDED_ONES
    assert replayed(log) == {"sha384": {int(index): value for index, value in expected.items()}}


# ---- the odd ones ---------------------------------------------------------------------------------------------------


def test_windows_last_event_belongs_to_no_pcr_and_extends_nothing() -> None:
    log = replay_event_log((VECTORS / "go-attestation" / "option_rom_eventlog").read_bytes())

    last = log.events[-1]

    assert (last.pcr, last.extends) == (0xFFFFFFFF, False)
    assert log.ending is LogEnding.CLEAN
    assert log.extended(PcrBank.SHA1) == (0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14)


def test_a_log_of_nothing_but_startup_locality_extends_nothing() -> None:
    log = replay_event_log((VECTORS / "go-attestation" / "short_no_action_eventlog").read_bytes())

    assert log.startup_locality == 3
    assert log.extended(PcrBank.SHA1) == ()
    assert log.pcr(PcrBank.SHA1, 0) == bytes(19) + b"\x03"


def test_a_tpm_key_template_is_no_log() -> None:
    with pytest.raises(EventLogError, match="truncated"):
        replay_event_log((VECTORS / "tpm2-tools" / "ek-template-default.bin").read_bytes())


def test_a_header_with_vendor_data_beyond_its_own_size_is_refused() -> None:
    with pytest.raises(EventLogError, match="malformed"):
        salvage_event_log((VECTORS / "tpm2-tools" / "specid-vendordata.bin").read_bytes())


def test_a_log_that_lost_the_end_of_the_firmware_s_part_is_not_complete() -> None:
    log = replay_event_log((VECTORS / "go-attestation" / "ebs_event_missing_eventlog").read_bytes())
    pcrs = values(PcrBank.SHA1, dict(log.pcrs(PcrBank.SHA1)))

    assert not log.is_complete
    with pytest.raises(EventLogError, match="event_log_incomplete"):
        explain(log, pcrs)
    assert not explain_incomplete(log, pcrs).is_complete


@pytest.mark.parametrize("path", CCEL_LOGS, ids=lambda path: path.name)
def test_padding_of_a_table_s_buffer_is_no_damage(path: Path) -> None:
    log = replay_event_log(path.read_bytes())

    assert log.ending is LogEnding.PADDED_ONES
    assert set(path.read_bytes()[log.consumed_bytes :]) == {0xFF}


def test_only_the_banks_asked_for_are_replayed() -> None:
    raw = (VECTORS / "gce" / "eventlog.bin").read_bytes()

    log = replay_event_log(raw, [PcrBank.SHA256])

    assert log.banks == (PcrBank.SHA256,)
    assert log.pcrs(PcrBank.SHA256) == replay_event_log(raw).pcrs(PcrBank.SHA256)
    with pytest.raises(EventLogError, match="event_log_bank_missing"):
        log.pcrs(PcrBank.SHA384)
