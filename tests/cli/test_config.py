"""``tccp config``: mistakes in files, and what their values lead to on this machine."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tccp.cli.config import common, coordinator, node
from tccp.cli.config.example import NAMES
from tccp.cli.config.finding import Finding, Report
from tccp.cli.config.paths import look_at_file
from tccp.cli.doctor.finding import Status
from tccp.config import CoordinatorConfig, NodeConfig, load_config
from tccp.config.files import FILES, file_called
from tccp.config.places import lines_of
from tccp.config.rendering import example_file
from tccp.transport.certificates import KeyPair
from tests.support.certificates import DAY, NOW, Authority
from tests.support.strange_certificates import with_a_version_that_does_not_exist

from .running import tccp_in_process

ANYBODY = "nobody"  # a user that every machine has, in the place of a daemon's


@pytest.fixture
def check(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Any:
    """Check a file that says something."""

    def check(text: str, name: str = "coordinator.toml", *options: str) -> Any:
        (tmp_path / name).write_text(text)
        return tccp_in_process(capfdbinary, "config", "check", *options, tmp_path / name, "--json")

    return check


def key_pair(folder: Path) -> tuple[Path, Path]:
    """A certificate and its key, made by OpenSSL."""
    certificate, key = folder / "log.pem", folder / "log.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=log.example", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def test_each_mistake_has_its_line_and_the_exit_code_says_that_the_configuration_is_wrong(check: Any) -> None:
    ended = check("\n[listen]\nprot = 1\nport = 70000\n")

    assert ended.code == 4
    assert ended.document["verdict"] == "fail"
    assert [(each["line"], each["key"], each["mend"]) for each in ended.document["findings"]] == [
        (3, "listen.prot", "Perhaps port was meant."),
        (4, "listen.port", ""),
    ]
    assert "a number from 0 to 65535" in ended.document["findings"][1]["found"]


def test_people_get_a_table_with_file_and_line(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    (tmp_path / "witness.toml").write_text('nmae = "x"\n')

    lines = tccp_in_process(capfdbinary, "config", "check", tmp_path / "witness.toml").out.splitlines()

    assert lines[0].split()[:3] == ["STATUS", "PLACE", "KEY"]
    assert f"{tmp_path}/witness.toml:1" in lines[2]
    assert "Perhaps name was meant." in lines[2]
    assert lines[-1] == "verdict: fail"


def test_what_a_file_is_must_be_clear(check: Any) -> None:
    assert check("", "new.toml").code == 2
    assert check("", "new.toml", "--as", "node").document["findings"][0]["key"] == "name"


def test_warnings_alone_exit_with_0(check: Any, tmp_path: Path) -> None:
    ended = check(f'name = "w"\nstate_directory = "{tmp_path}/state"\n', "witness.toml")

    assert (ended.code, ended.document["verdict"]) == (0, "warn")
    assert [each["key"] for each in ended.document["findings"]] == ["logs"]


def test_revocations_that_their_maker_has_replaced_are_told_and_nothing_else_is_said(
    capfdbinary: pytest.CaptureFixture[bytes], check: Any, tmp_path: Path
) -> None:
    old = tmp_path / "makers" / "old.crl"
    old.parent.mkdir()
    old.write_bytes(Authority().revoke(5, valid=(NOW - 9_999 * DAY, NOW - 9_998 * DAY)))

    ended = check(f'[enrolment]\nek_authorities = "{old.parent}"\n')

    assert any(each["found"].startswith(f"{old}: ") for each in ended.document["findings"])
    assert ended.err == ""


def test_a_file_that_is_not_there_is_told(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    ended = tccp_in_process(capfdbinary, "config", "check", tmp_path / "node.toml", "--json")

    assert (ended.code, ended.document["error"]) == (4, "config_unreadable")
    assert "tccp config example node" in ended.document["hint"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_printed_and_checked_without_a_mistake(
    name: str, check: Any, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    text = tccp_in_process(capfdbinary, "config", "example", name).out

    assert text == example_file(file_called(name))
    places = {each["key"] for each in check(text, f"{name}.toml").document["findings"]}
    assert places <= {"", "coordinator.trust_file", "control.admin_group", "control.viewer_group", "tpm.tcti",
                      "tpm.event_log", "tpm.ima_list", "enrolment.ek_authorities", "logs"}  # fmt: skip


def test_there_is_an_example_of_each_file() -> None:
    assert [file.name for file in FILES] == list(NAMES)


COORDINATOR: dict[str, tuple[str, str, Status, str]] = {
    "a folder that is not there": ('[ima]\npolicies = "/none"', "ima.policies", Status.FAIL, ""),
    "a file as a folder": ('[ima]\npolicies = "HERE/x.pem"', "ima.policies", Status.FAIL, "is not a folder"),
    "a folder as a file": ('[policies]\noperator_keys = ["HERE"]', "policies.operator_keys", Status.FAIL, "is not a file"),  # noqa: E501
    "a key that is none": (
        '[policies]\noperator_keys = ["HERE/x.pem"]', "policies.operator_keys", Status.FAIL, "x.pem",
    ),
    "a certificate that is none": ('[enrolment]\nek_authorities = "HERE"', "enrolment", Status.FAIL, "x.pem"),
    "a TPM of another kind": ('[tpm]\ntcti = "mssim:x"', "tpm.tcti", Status.FAIL, "swtpm"),
    "a TPM that is not there": ('[tpm]\ntcti = "device:/dev/none"', "tpm.tcti", Status.FAIL, "does not exist"),
    "a log that is not there": ('[tpm]\nevent_log = "/none"', "tpm.event_log", Status.WARN, "does not exist"),
    "a group that is not there": ('[control]\nadmin_group = "none"', "control.admin_group", Status.WARN, "none"),
    "a port twice": ("[tenants]\nport = 7443", "tenants.port", Status.FAIL, "[listen]"),
    "an address that is none": ('[listen]\naddress = "1.2.3.400"', "listen.address", Status.FAIL, "1.2.3.400"),
    "a certificate that is not there": (
        '[log_server]\ncertificate = "/none.pem"\nkey = "HERE/x.pem"', "log_server.certificate", Status.FAIL, "",
    ),
    "a certificate for the web that is none": (
        '[log_server]\ncertificate = "HERE/x.pem"\nkey = "HERE/x.pem"', "log_server.certificate", Status.FAIL, "x.pem",
    ),
    "events that there are not": (
        '[webhook]\nurl = "http://x"\nkinds = ["revoked"]', "webhook.kinds", Status.FAIL, "revoked",
    ),
    "a secret that is short": (
        '[webhook]\nurl = "http://x"\nsecret = "HERE/x.pem"', "webhook.secret", Status.FAIL, "4 bytes",
    ),
    "a key of a witness that is none": (
        '[[witness]]\nurl = "http://x"\nkey = "w+1"', "witness[0].key", Status.FAIL, "NAME+ID+KEY",
    ),
    "evidence that is never fresh": ("[releases]\nevidence_age_s = 301", "releases.evidence_age_s", Status.WARN, ""),
}  # fmt: skip


def findings_of(folder: Path, text: str) -> list[Finding]:
    path = folder / "coordinator.toml"
    path.write_text(text)
    report = Report(path, lines_of(text))
    coordinator.look(report, load_config(path, CoordinatorConfig))
    return report.findings


@pytest.mark.parametrize(("text", "key", "status", "found"), COORDINATOR.values(), ids=COORDINATOR)
def test_what_a_coordinators_values_lead_to_is_told_with_the_line(
    text: str, key: str, status: Status, found: str, tmp_path: Path
) -> None:
    (tmp_path / "x.pem").write_text("none")
    (tmp_path / "x.pem").chmod(0o600)
    before = {each.key for each in findings_of(tmp_path, "")}
    findings = findings_of(tmp_path, text.replace("HERE", str(tmp_path)))

    (finding,) = [each for each in findings if each.key == key and each.key not in before - {key}][:1]
    assert finding.status is status
    assert found in finding.found + finding.mend
    assert finding.line in {1, 2, 3}
    assert finding.mend


def test_a_certificate_and_the_key_of_another_do_not_belong_together(tmp_path: Path) -> None:
    certificate, key = key_pair(tmp_path)
    text = f'[log_server]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    assert "log_server.certificate" not in {each.key for each in findings_of(tmp_path, text)}

    (tmp_path / "other").mkdir()
    shutil.copy(key_pair(tmp_path / "other")[1], key)

    (finding,) = [each for each in findings_of(tmp_path, text) if each.key == "log_server.certificate"]
    assert finding.status is Status.FAIL


def test_a_certificate_of_a_version_that_does_not_exist_is_told(tmp_path: Path) -> None:
    certificate, key = key_pair(tmp_path)
    pair = KeyPair(certificate=certificate.read_bytes(), key=key.read_bytes())
    odd = with_a_version_that_does_not_exist(x509.load_pem_x509_certificate(pair.certificate), pair)
    certificate.write_text(ssl.DER_cert_to_PEM_cert(odd))

    text = f'[log_server]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    (finding,) = [each for each in findings_of(tmp_path, text) if each.key == "log_server.certificate"]
    assert "4 is not a valid X509 version" in finding.found


def test_a_secret_for_everybody_is_told(tmp_path: Path) -> None:
    certificate, key = key_pair(tmp_path)
    text = f'[log_server]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    key.chmod(0o640)
    assert "log_server.key" not in {each.key for each in findings_of(tmp_path, text)}

    key.chmod(0o644)

    (finding,) = [each for each in findings_of(tmp_path, text) if each.key == "log_server.key"]
    assert "anybody" in finding.found


def test_a_configuration_that_others_can_change_is_told(tmp_path: Path) -> None:
    findings_of(tmp_path, "")
    (tmp_path / "coordinator.toml").chmod(0o666)

    assert any("can be changed" in each.found for each in findings_of(tmp_path, ""))


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A file of ours below folders that others may enter."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    path = tmp_path / "file"
    path.write_text("x")
    yield path
    path.chmod(0o600)


@pytest.mark.parametrize(("mode", "told"), [(0o600, True), (0o640, True), (0o644, False)])
def test_a_file_that_a_daemon_may_not_read_is_told(closed: Path, mode: int, told: bool) -> None:
    closed.chmod(mode)
    report = Report(closed, {})

    look_at_file(report, (), closed, user=ANYBODY)

    assert [each.status for each in report.findings] == [Status.FAIL] * told
    # A user that is not there yet is no matter.
    look_at_file(nothing := Report(closed, {}), (), closed, user="tccp-none")
    assert nothing.findings == []


def test_a_folder_that_a_daemon_may_not_enter_is_told(closed: Path) -> None:
    closed.chmod(0o644)
    closed.parent.chmod(0o700)
    report = Report(closed, {})

    look_at_file(report, (), closed, user=ANYBODY)

    assert f"may not enter {closed.parent}" in report.findings[0].found


NODE = """\
name = "alpha"
[coordinator]
address = "tc.example:7443"
trust_file = "HERE/trust.toml"
[vms]
state = "HERE/vms"
first_user = FIRST
move_address = "ADDRESS"
"""


@pytest.mark.parametrize(
    ("first", "address", "wrong"),
    [
        ("4000000000", "127.0.0.1", set()),
        ("65500", "127.0.0.1", {"vms.first_user"}),
        ("4000000000", "192.0.2.17", {"vms.move_address"}),
        ("4000000000", "rack1-07", {"vms.move_address"}),
    ],
)
def test_what_a_nodes_values_lead_to_is_told(first: str, address: str, wrong: set[str], tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(NODE.replace("HERE", str(tmp_path)).replace("FIRST", first).replace("ADDRESS", address))
    report = Report(path, lines_of(path.read_text()))

    node.look(report, load_config(path, NodeConfig))

    keys = {each.key for each in report.findings}
    assert "coordinator.trust_file" in keys
    assert {key for key in keys if key.startswith("vms.")} == wrong
    assert {each.line for each in report.findings if each.key == "coordinator.trust_file"} == {4}


def test_two_tables_may_have_a_port_at_two_addresses(tmp_path: Path) -> None:
    report = Report(tmp_path, {})

    common.look_at_ports(report, {"listen": ("10.0.0.1", 7443), "tenants": ("10.0.0.2", 7443), "log": ("::1", 0)})

    assert report.findings == []
