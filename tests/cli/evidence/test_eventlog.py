"""``tccp evidence eventlog``: recorded logs, forged ones, and the PCR values that they explain or do not."""

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.evidence.conftest import Run
from tests.cli.running import PATIENCE_S, TCCP, tccp
from tests.support import event_logs as logs

VECTORS = logs.VECTORS
GCE = VECTORS / "gce" / "eventlog.bin"
GCE_PCRS = VECTORS / "gce" / "pcrs_sha256.bin"
HOSTILE = b"grub_cmd: \x1b[2J\x1b]0;owned\x07\r\nforged [bold]line[/] \xe2\x80\xae"


def test_a_recorded_log_is_replayed_and_nothing_claimed(run: Run) -> None:
    document = run("eventlog", GCE, "--json").document

    assert document["verdict"] == "replayed"
    assert document["banks"] == ["sha1", "sha256", "sha384"]
    assert len(document["events"]) == 44
    assert document["complete"] is True
    assert any(line.startswith("anything else") for line in document["not_proved"])


@pytest.mark.parametrize("bank", ["sha1", "sha256", "sha384"])
def test_a_recorded_log_explains_the_values_of_its_tpm_in_each_bank(bank: str, run: Run) -> None:
    ended = run("eventlog", GCE, "--bank", bank, "--pcrs", VECTORS / "gce" / f"pcrs_{bank}.bin", "--json")

    assert ended.code == 0
    assert ended.document["verdict"] == "accepted"
    assert set(range(10)) <= set(ended.document["explained"])
    assert ended.document["unexplained"] == []
    assert {16, 23} <= set(ended.document["left_out"])


def test_the_table_has_a_row_for_each_event_and_each_pcr(run: Run) -> None:
    lines = run("eventlog", GCE).out.splitlines()

    assert lines[0] == f"{GCE}: replayed"
    assert lines[1].split()[:5] == ["EVENT", "PCR", "TYPE", "SHA256", "DATA"]
    assert lines[2].split()[:3] == ["0", "0", "EV_S_CRTM_VERSION"]
    assert lines[46].split() == ["PCR", "REPLAYED", "SHA256"]
    assert len(lines[47].split()[1]) == 64


@pytest.mark.parametrize("position", [0, 7 * 32 + 3])
def test_a_changed_pcr_value_is_not_explained(position: int, tmp_path: Path, run: Run) -> None:
    values = bytearray(GCE_PCRS.read_bytes())
    values[position] ^= 1
    (tmp_path / "pcrs").write_bytes(values)

    ended = run("eventlog", GCE, "--pcrs", tmp_path / "pcrs", "--json")

    assert ended.code == 1
    assert ended.document["error"] == "event_log_mismatch"
    assert ended.document["unexplained"] == [position // 32]


def test_a_log_without_the_events_of_a_pcr_does_not_explain_it(tmp_path: Path, run: Run) -> None:
    # The attack: leave out all events of PCR 4, so that the log has nothing to say against its value.
    kernel = hashlib.sha256(b"evil kernel").digest()
    extended = hashlib.sha256(bytes(32) + kernel).hexdigest()
    (tmp_path / "log").write_bytes(logs.header(logs.SHA256) + logs.event(0, logs.EV_SEPARATOR, bytes(4)))
    (tmp_path / "pcrs").write_text(json.dumps({"sha256": {"4": extended}}))

    ended = run("eventlog", tmp_path / "log", "--pcrs", tmp_path / "pcrs", "--json")

    assert (ended.code, ended.document["error"]) == (1, "event_log_mismatch")
    # The control: the same value is explained by a log that owns up to it.
    honest = logs.raw_event(4, 0x80000003, [(logs.SHA256, kernel)], b"")
    (tmp_path / "log").write_bytes(logs.header(logs.SHA256) + honest)
    assert run("eventlog", tmp_path / "log", "--pcrs", tmp_path / "pcrs", "--json").code == 0


def test_what_the_operating_system_extends_later_needs_no_explanation(tmp_path: Path, run: Run) -> None:
    pcrs = json.loads(run("eventlog", GCE, "--json").out)["pcrs"]
    pcrs["sha256"]["10"] = "ab" * 32
    (tmp_path / "pcrs").write_text(json.dumps(pcrs))

    document = run("eventlog", GCE, "--pcrs", tmp_path / "pcrs", "--json").document

    assert document["verdict"] == "accepted"
    assert document["left_out"] == [10]
    assert any(line.startswith("PCR 10:") for line in document["not_proved"])


def test_a_log_whose_end_is_missing_is_refused(run: Run) -> None:
    log = VECTORS / "go-attestation" / "ebs_event_missing_eventlog"
    replayed = run("eventlog", log, "--json")
    assert replayed.document["complete"] is False


def test_a_log_that_does_not_reach_the_handover_does_not_explain_pcr_5(tmp_path: Path, run: Run) -> None:
    (tmp_path / "log").write_bytes(logs.header(logs.SHA256) + logs.event(5, logs.EV_SEPARATOR, bytes(4)))
    (tmp_path / "pcrs").write_text(run("eventlog", tmp_path / "log", "--json").out)

    ended = run("eventlog", tmp_path / "log", "--pcrs", tmp_path / "pcrs", "--json")

    assert (ended.code, ended.document["error"]) == (1, "event_log_incomplete")


def test_without_a_value_of_pcr_5_completeness_is_unproved(tmp_path: Path, run: Run) -> None:
    (tmp_path / "pcrs").write_text(
        json.dumps({"sha256": {"0": run("eventlog", GCE, "--json").document["pcrs"]["sha256"]["0"]}})
    )

    document = run("eventlog", GCE, "--pcrs", tmp_path / "pcrs", "--json").document

    assert document["verdict"] == "accepted"
    assert any(line.startswith("that the log is complete") for line in document["not_proved"])
    assert any("has no value" in line for line in document["not_proved"])


def test_resettable_pcrs_alone_explain_nothing(tmp_path: Path, run: Run) -> None:
    (tmp_path / "pcrs").write_text(json.dumps({"sha256": {"16": "00" * 32}}))

    assert run("eventlog", GCE, "--pcrs", tmp_path / "pcrs", "--json").document["error"] == "event_log_mismatch"


@pytest.mark.parametrize("cut", [1, 33, 1000])
def test_a_cut_log_is_refused_and_shown_as_far_as_it_goes(cut: int, tmp_path: Path, run: Run) -> None:
    (tmp_path / "log").write_bytes(GCE.read_bytes()[:-cut])

    ended = run("eventlog", tmp_path / "log", "--json")

    assert (ended.code, ended.document["error"]) == (1, "truncated")
    assert 0 < len(ended.document["events"]) < 44


def test_a_relabelled_event_is_marked_as_a_claim(tmp_path: Path, run: Run) -> None:
    lie = logs.event(8, 0x0D, b"grub_cmd: linux /good\0", measured=b"linux /evil")
    truth = logs.event(8, 0x0D, b"grub_cmd: linux /good\0", measured=b"linux /good")
    (tmp_path / "log").write_bytes(logs.header(logs.SHA256) + lie + truth)

    events = run("eventlog", tmp_path / "log", "--json").document["events"]

    assert events[0]["measured"] is None
    assert bytes.fromhex(events[1]["measured"]) == b"linux /good"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_the_strings_of_a_log_cannot_drive_a_terminal(more: tuple[str, ...], tmp_path: Path, run: Run) -> None:
    events = [
        logs.event(8, 0x0D, HOSTILE),
        logs.event(5, logs.EV_EFI_ACTION, HOSTILE),
        logs.event(14, 0x0D, HOSTILE.decode().encode("utf-16-le")),
        logs.event(0, 0x08, HOSTILE),
    ]
    (tmp_path / "log").write_bytes(logs.header(logs.SHA256) + b"".join(events))

    ended = run("eventlog", tmp_path / "log", *more)

    assert ended.code == 0
    assert all(line.isprintable() for line in ended.out.splitlines())
    assert not any(line.startswith("forged") for line in ended.out.splitlines())


def test_a_bank_that_the_log_lacks_is_refused(run: Run) -> None:
    ended = run("eventlog", GCE, "--bank", "sha512", "--json")

    assert (ended.code, ended.document["error"]) == (1, "event_log_bank_missing")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"no log at all", b"\xff" * (6 << 20)])
def test_what_is_no_log_is_refused(content: bytes, tmp_path: Path, run: Run) -> None:
    (tmp_path / "log").write_bytes(content)

    ended = run("eventlog", tmp_path / "log", "--json")

    assert ended.code == 1
    assert ended.document["error"] in {"truncated", "malformed", "too_large"}


@pytest.mark.parametrize(
    "path", [path for path in sorted(VECTORS.glob("*/*")) if path.suffix in {"", ".bin"} and "pcrs" not in path.name]
)
def test_every_recorded_log_can_be_shown_as_text_and_as_json(path: Path, run: Run) -> None:
    as_text, as_json = run("eventlog", path), run("eventlog", path, "--json")

    assert as_text.code == as_json.code
    assert as_json.document["verdict"] in {"replayed", "refused"}
    assert all(line.isprintable() for line in as_text.out.splitlines())


def test_a_log_comes_from_standard_input_too() -> None:
    ended = tccp("evidence", "eventlog", "-", "--json", stdin=GCE.read_bytes())

    assert ended.document["verdict"] == "replayed"


def test_a_folder_is_no_log(tmp_path: Path, run: Run) -> None:
    assert run("eventlog", tmp_path).code == 3


def test_ctrl_c_while_reading_ends_without_a_traceback(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [TCCP, "evidence", "eventlog", str(pipe)]
    # Opening waits until the command has opened the other end: then it is where we want it.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child, pipe.open("wb"):
        child.send_signal(signal.SIGINT)
        shown, complaint = child.communicate(timeout=PATIENCE_S)

    assert (child.returncode, shown, complaint) == (130, b"", b"tccp: interrupted\n")
