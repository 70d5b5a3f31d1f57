"""The doctor: on this machine, and on machines described to it."""

import signal
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tccp.cli.doctor import clock, configuration, cpu, libraries, permissions
from tccp.cli.doctor.clock import ClockReading
from tccp.cli.doctor.finding import Finding, Status, worst

from .running import PATIENCE_S, TCCP, tccp, tccp_on_a_terminal

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
X86_CPU = "processor\t: 0\nflags\t\t: fpu aes sha_ni avx512ifma\n"


def the(check: str, findings: list[Finding]) -> Finding:
    return next(finding for finding in findings if finding.check == check)


def the_json(check: str, document: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = next(finding for finding in document["findings"] if finding["check"] == check)
    return found


def test_the_report_has_a_line_for_each_finding() -> None:
    document = tccp("doctor", "--json").document
    text = tccp("doctor").out.splitlines()

    assert len(text) == 1 + len(document["findings"]) + 1
    assert text[-1] == f"verdict: {document['verdict']}"
    for finding in document["findings"]:
        assert set(finding) == {"area", "check", "status", "found", "mend"}
        assert finding["status"] in {"ok", "warn", "fail"}
        assert finding["found"]
        assert finding["mend"] or finding["status"] == "ok"


def test_the_exit_code_follows_the_verdict() -> None:
    ended = tccp("doctor", "--json")

    assert ended.code == (3 if ended.document["verdict"] == "fail" else 0)


def test_no_two_findings_share_a_name() -> None:
    findings = tccp("doctor", "--json").document["findings"]
    names = [(finding["area"], finding["check"]) for finding in findings]

    assert len(names) == len(set(names))


def test_a_terminal_gets_colours_unless_they_are_not_wanted() -> None:
    assert "\x1b[32m" in tccp_on_a_terminal("doctor").out
    assert "\x1b[32m" not in tccp_on_a_terminal("doctor", env={"NO_COLOR": "1"}).out
    assert "\x1b" not in tccp_on_a_terminal("doctor", env={"TERM": "dumb"}).out


def test_the_worst_finding_is_the_verdict() -> None:
    some = [Finding("a", "b", status, "") for status in (Status.OK, Status.FAIL, Status.WARN)]

    assert worst(some) is Status.FAIL
    assert worst(some[:1]) is Status.OK
    assert worst(some[2:]) is Status.WARN


def test_a_cpu_with_all_features_is_well() -> None:
    assert worst(cpu.findings(X86_CPU)) is Status.OK


def test_a_missing_cpu_feature_says_what_it_costs() -> None:
    findings = cpu.findings(X86_CPU.replace("aes ", ""))

    assert the("aes", findings).status is Status.WARN
    assert "XChaCha20" in the("aes", findings).mend
    assert the("sha", findings).status is Status.OK


def test_arm_cpus_call_their_features_otherwise() -> None:
    assert cpu.cpu_flags("Features\t: fp asimd aes sha2\n") == {"fp", "asimd", "aes", "sha2"}


def test_a_machine_without_cpuinfo_gets_one_warning() -> None:
    assert [finding.status for finding in cpu.findings("")] == [Status.WARN]


def test_this_machines_clock_can_be_read() -> None:
    reading = clock.read_clock()

    assert reading.slept_s >= 0
    assert the("time", clock.findings(reading)).status is Status.OK


@pytest.mark.parametrize(
    ("reading", "check", "status"),
    [
        (ClockReading(NOON, True, 0.01, 0.0), "synchronised", Status.OK),
        (ClockReading(NOON, True, 16.0, 0.0), "synchronised", Status.WARN),
        (ClockReading(NOON, False, 0.01, 0.0), "synchronised", Status.WARN),
        (ClockReading(NOON, None, 0.0, 0.0), "synchronised", Status.WARN),
        (ClockReading(NOON, True, 0.01, 3600.0), "suspended", Status.WARN),
        (ClockReading(datetime(1970, 1, 1, tzinfo=UTC), True, 0.0, 0.0), "time", Status.FAIL),
        (ClockReading(datetime(2106, 2, 7, tzinfo=UTC), True, 0.0, 0.0), "time", Status.FAIL),
    ],
)
def test_a_clock_is_judged(reading: ClockReading, check: str, status: Status) -> None:
    assert the(check, clock.findings(reading)).status is status


def test_the_libraries_of_a_working_installation_are_well() -> None:
    findings = libraries.findings()

    assert not [finding for finding in findings if finding.status is Status.FAIL]
    assert the("libsodium", findings).found.startswith("libsodium 1.0.")


@pytest.mark.parametrize(("text", "numbers"), [("3.0.17", (3, 0, 17)), ("1.0.20-stable", (1, 0, 20)), ("", ())])
def test_versions_compare_by_their_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert libraries.parse_version(text) == numbers


def test_a_daemon_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    findings = permissions.findings(kvm=tmp_path / "kvm", sockets={"node": tmp_path / "control.sock"})

    assert the("node_socket", findings).status is Status.OK
    assert the("kvm", findings).status is Status.WARN


def test_a_daemon_that_listens_is_found(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        findings = permissions.findings(kvm=Path("/dev/null"), sockets={"coordinator": path})

    assert the("coordinator_socket", findings).found == f"the coordinator answers on {path}"
    assert the("kvm", findings).status is Status.OK


def test_a_socket_that_a_dead_daemon_left_behind_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    finding = the("coordinator_socket", permissions.findings(kvm=Path("/dev/null"), sockets={"coordinator": path}))

    assert finding.status is Status.FAIL
    assert "systemctl restart tccp-coordinator" in finding.mend


def test_a_configuration_with_which_a_daemon_would_not_start_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text("[leases]\nseconds = 0\n")
    findings = configuration.findings(coordinator=tmp_path / "coordinator.toml", node=tmp_path / "node.toml")

    assert the("coordinator", findings).status is Status.FAIL
    assert "leases.seconds" in the("coordinator", findings).found
    assert the("node", findings).status is Status.OK


def test_the_key_of_an_authority_that_was_left_on_the_machine_is_a_warning(tmp_path: Path) -> None:
    paths = {"coordinator": tmp_path / "coordinator.toml", "node": tmp_path / "node.toml"}
    assert the("update_authority", configuration.findings(**paths)).status is Status.OK

    (tmp_path / "update-authority.key").touch()

    found = the("update_authority", configuration.findings(**paths))
    assert (found.status, "another machine" in found.mend) == (Status.WARN, True)


def test_a_legal_configuration_is_well(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text("")
    findings = configuration.findings(coordinator=tmp_path / "coordinator.toml", node=tmp_path / "node.toml")

    assert the("coordinator", findings).found == f"{tmp_path}/coordinator.toml is well"


def test_ctrl_c_ends_the_wait_for_a_silent_tpm(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "tpm"))
        silent.listen()
        command = [TCCP, "doctor", "--tcti", f"swtpm:path={tmp_path}/tpm"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1)  # it has asked, and waits for the answer
                child.send_signal(signal.SIGINT)
                shown, complaint = child.communicate(timeout=PATIENCE_S)

    assert (child.returncode, shown, complaint) == (130, b"", b"tccp: interrupted\n")
