"""``tccp coordinator``: what is asked of the daemon, and how its answers are shown."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tccp.errors import ConfigError, HostError, PolicyError, TccpError
from tccp.protocol import control as c
from tccp.protocol import shadow_control as s
from tccp.protocol.control_roles import CoordinatorRequest

from .control_daemon import ControlDaemon, control_daemon
from .running import TCCP, tccp

EK_ID = bytes(range(32))
HOSTILE = "bad\x1b[2J\nforged"
NODE = c.NodeInfo(
    name="rack1-07",
    state="admitted",
    connected=True,
    ek_id=EK_ID,
    policy="tvmm",
    policy_version=3,
    enrolled_ms=1_795_000_000_000,
    attributes={"site": HOSTILE},
    lease_id=bytes(16),
    admitted_ms=1_795_000_000_000,
    renewed_ms=1_795_000_100_000,
    expires_ms=4_000_000_000_000,
    boot_id=b"\x01" * 16,
    reset_count=7,
    restart_count=0,
    address="192.0.2.7:50123",
    last_refusal=HOSTILE,
    last_refusal_ms=1_795_000_000_000,
    revoke_reason="",
    warnings=(HOSTILE,),
)
STATUS = c.CoordinatorStatus(
    coordinator_id=EK_ID,
    software="0.1.0",
    started_ms=1_795_000_000_000,
    listening="0.0.0.0:7443",
    ek_authorities=2,
    nodes_enrolled=3,
    nodes_revoked=1,
    nodes_connected=2,
    leases_open=2,
    policies=1,
    log_size=12,
    registrations=4,
    renewals=99,
    refusals=1,
    lease_s=300,
    tenants_listening="127.0.0.1:7444",
    witnesses=(c.WitnessSeen("w1.example", 17, 1_700_000_000), c.WitnessSeen("w2.example", 0, 0)),
    tpm="IBM SW TPM",
    key_releases=2,
    key_refusals=1,
    refusal_reasons={"rebooted": 1},
)
SHADOW = s.ShadowInfo("tvmm", 4, EK_ID, 1_795_000_000_000, 3, 2, 1, 0, {"kernel_not_in_policy": 1})
POLICY_BODY = b'name = "tvmm"\nversion = 3\n'
POLICY = c.PolicyInfo(name="tvmm", version=3, sha256=EK_ID, added_ms=1, in_force=True, nodes=2, body=POLICY_BODY)
RECORD = c.PerimeterRecord((c.EnrolledNode("rack1-07", EK_ID, b"\x30\x59", "tvmm", {"site": "delft"}),))
EVENTS: list[object] = [
    c.Event(1, 1_795_000_000_000, "enrol", "rack1-07", {"by": HOSTILE, "policy_version": 3}),
    c.Event(2, 1_795_000_000_001, "start", "", {}),
]
ANSWERS: dict[type, object] = {
    c.GetStatus: STATUS,
    c.ListNodes: c.Nodes((NODE,)),
    c.ShowNode: NODE,
    c.EnrolNode: NODE,
    c.SetNodePolicy: NODE,
    c.SetNodeAttributes: NODE,
    c.RevokeNode: NODE,
    c.ExportNodes: RECORD,
    c.ImportNodes: c.Done(1),
    c.AddPolicy: POLICY,
    c.TryPolicy: c.PolicyTrial("tvmm", 3, EK_ID, (c.TriedNode("rack1-07", "accepted", warnings=(HOSTILE,)),)),
    s.AddShadow: SHADOW,
    s.ListShadows: s.Shadows((SHADOW,)),
    s.ReportShadow: s.ShadowReport(SHADOW, (s.ShadowedNode("rack1-07", "accepted", "admitted", warnings=(HOSTILE,)),)),
    s.PromoteShadow: SHADOW,
    s.DropShadow: SHADOW,
    c.ListPolicies: c.Policies((POLICY,)),
    c.ShowPolicy: POLICY,
    c.GetTrust: c.TrustFile(b'identity = "00"\n'),
    c.WatchEvents: EVENTS,
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ControlDaemon]:
    with control_daemon(tmp_path / "control.sock", CoordinatorRequest, ANSWERS) as running:  # type: ignore[arg-type]
        yield running


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "ek.der").write_bytes(b"\x30\x03\x02\x01\x00")
    (tmp_path / "ek.pem").write_bytes(b"-----BEGIN PUBLIC KEY-----\nMAMCAQA=\n-----END PUBLIC KEY-----\n")
    (tmp_path / "policy.toml").write_bytes(POLICY_BODY)
    (tmp_path / "record.json").write_text(
        json.dumps(
            {
                "nodes": [
                    dict(
                        zip(
                            ("name", "ek_id", "ek_public", "policy", "attributes"),
                            ("rack1-07", EK_ID.hex(), "3059", "tvmm", {"site": "delft"}),
                            strict=True,
                        )
                    )
                ]
            }
        )
    )
    return tmp_path


COMMANDS: list[tuple[str, object]] = [
    ("status", c.GetStatus()),
    ("nodes", c.ListNodes()),
    ("node show rack1-07", c.ShowNode("rack1-07")),
    ("node policy rack1-07 lab", c.SetNodePolicy("rack1-07", "lab")),
    (
        "node attribute rack1-07 --set site=delft --remove gpu",
        c.SetNodeAttributes("rack1-07", {"site": "delft"}, ("gpu",)),
    ),
    (
        "enrol rack1-07 --policy tvmm --ek-certificate {files}/ek.der --attribute site=delft",
        c.EnrolNode("rack1-07", b"\x30\x03\x02\x01\x00", b"", "tvmm", {"site": "delft"}),
    ),
    (
        "enrol rack1-07 --policy tvmm --ek-public {files}/ek.pem",
        c.EnrolNode("rack1-07", b"", b"\x30\x03\x02\x01\x00", "tvmm", {}),
    ),
    ("revoke rack1-07 --reason sold", c.RevokeNode("rack1-07", "sold")),
    ("revoke a --reason b --severity compromised", c.RevokeNode("a", "b", "compromised")),
    ("export", c.ExportNodes()),
    ("import {files}/record.json", c.ImportNodes(RECORD)),
    ("policy add {files}/policy.toml", c.AddPolicy(POLICY_BODY)),
    ("policy try {files}/policy.toml", c.TryPolicy(POLICY_BODY)),
    ("policy shadow add {files}/policy.toml", s.AddShadow(POLICY_BODY)),
    ("policy shadow list", s.ListShadows()),
    ("policy shadow report tvmm", s.ReportShadow("tvmm")),
    ("policy shadow drop tvmm", s.DropShadow("tvmm")),
    ("policy list", c.ListPolicies()),
    ("policy show tvmm --version 3", c.ShowPolicy("tvmm", 3)),
    ("trust", c.GetTrust()),
    ("watch --since 5 --no-follow", c.WatchEvents(5, follow=False)),
]


@pytest.mark.parametrize(("words", "request_sent"), COMMANDS, ids=[words for words, _ in COMMANDS])
def test_each_command_asks_one_thing_and_shows_the_answer(
    words: str, request_sent: object, daemon: ControlDaemon, files: Path
) -> None:
    ended = tccp("coordinator", *words.format(files=files).split(), "--socket", daemon.path)

    assert (ended.code, ended.err) == (0, "")
    assert daemon.asked == [request_sent]
    assert ended.out
    assert "\x1b" not in ended.out
    assert "\nforged" not in ended.out


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS])
def test_each_command_speaks_json(words: str, daemon: ControlDaemon, files: Path) -> None:
    ended = tccp("coordinator", *words.format(files=files).split(), "--json", "--socket", daemon.path)

    assert (ended.code, ended.err) == (0, "")
    documents = [json.loads(line) for line in ended.out.splitlines()] if "watch" in words else [ended.document]
    assert all(isinstance(document, dict) and document for document in documents)
    assert all(32 <= ord(character) < 127 for character in ended.out.replace("\n", ""))


def test_json_keys_are_the_fields_of_the_answer(daemon: ControlDaemon) -> None:
    assert tccp("coordinator", "nodes", "--json", "--socket", daemon.path).document == {
        "nodes": [
            {name: getattr(NODE, name) for name in NODE.__struct_fields__}
            | {"ek_id": EK_ID.hex(), "lease_id": "00" * 16, "boot_id": "01" * 16, "warnings": [HOSTILE]}
        ]
    }


def test_what_is_promoted_is_the_version_that_was_there_when_it_was_asked_for(daemon: ControlDaemon) -> None:
    ended = tccp("coordinator", "policy", "shadow", "promote", "tvmm", "--socket", daemon.path)

    assert (ended.code, ended.err) == (0, "")
    assert daemon.asked == [s.ListShadows(), s.PromoteShadow("tvmm", EK_ID)]
    assert "version 4 is in force" in ended.out


def test_without_a_shadow_nothing_is_promoted(daemon: ControlDaemon) -> None:
    ended = tccp("coordinator", "policy", "shadow", "promote", "lab", "--json", "--socket", daemon.path)

    assert (ended.code, ended.document["error"]) == (1, "no_shadow")
    assert daemon.asked == [s.ListShadows()]


def test_a_report_of_nodes_that_would_be_refused_ends_with_1(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    refused = s.ShadowedNode("rack1-07", "refused", "admitted", "kernel_not_in_policy", HOSTILE, (), 1_795_000_000_000)
    with control_daemon(path, CoordinatorRequest, {s.ReportShadow: s.ShadowReport(SHADOW, (refused,))}):
        ended = tccp("coordinator", "policy", "shadow", "report", "tvmm", "--socket", path)

    assert ended.code == 1
    assert "kernel_not_in_policy" in ended.out
    assert "\x1b" not in ended.out


def test_the_environment_names_the_socket(daemon: ControlDaemon) -> None:
    ended = tccp("coordinator", "status", env={"TCCP_SOCKET": str(daemon.path)})

    assert ended.out.startswith("coordinator\n  id ")
    assert "2 open, 300 s each" in ended.out


def test_the_table_of_nodes_is_for_awk(daemon: ControlDaemon) -> None:
    heading, row = tccp("coordinator", "nodes", "--socket", daemon.path).out.splitlines()

    assert heading.split()[:3] == ["NAME", "STATE", "CONNECTED"]
    assert row.split()[:3] == ["rack1-07", "admitted", "yes"]


def test_nodes_are_chosen_by_what_is_said_of_them_and_by_whom(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    said = msgspec.structs.replace(NODE, name="said", attributes={"site": "delft"})
    proved = msgspec.structs.replace(NODE, name="proved", attributes={"site": "paris"}, attested={"site": "delft"})
    with control_daemon(path, CoordinatorRequest, {c.ListNodes: c.Nodes((said, proved)), c.ShowNode: proved}):
        both = tccp("coordinator", "nodes", "--attribute", "site=delft", "--json", "--socket", path)
        one = tccp("coordinator", "nodes", "--attested", "site=delft", "--socket", path)
        shown = tccp("coordinator", "node", "show", "proved", "--socket", path)

    assert [node["name"] for node in both.document["nodes"]] == ["said", "proved"]
    assert "attested site=delft" in one.out
    assert "said" not in one.out
    assert "site, attested" in shown.out
    assert "paris (does not count)" in shown.out


def test_an_exported_record_can_be_imported(daemon: ControlDaemon, tmp_path: Path) -> None:
    exported = tccp("coordinator", "export", "--socket", daemon.path)
    imported = tccp("coordinator", "import", "-", "--socket", daemon.path, stdin=exported.out.encode())

    assert imported.code == 0
    assert daemon.asked[1] == c.ImportNodes(RECORD)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"nodes": 7}',
        '{"nodes": [7]}',
        '{"nodes": [{"name": "a"}]}',
        '{"nodes": [{"name": "a", "ek_id": "00", "ek_public": "", "policy": "p", "attributes": {}}]}',
        '{"nodes": [{"name": "a", "ek_id": "zz", "ek_public": "", "policy": "p", "attributes": {}}]}',
        '{"nodes": [], "more": 1}',
        "[" * 100_000,
    ],
)
def test_a_record_that_is_none_is_not_sent(content: str, daemon: ControlDaemon) -> None:
    ended = tccp("coordinator", "import", "-", "--json", "--socket", daemon.path, stdin=content.encode())

    assert (ended.code, ended.document["error"]) == (4, "record_malformed")
    assert daemon.asked == []


def test_a_policy_comes_back_byte_for_byte(daemon: ControlDaemon) -> None:
    assert tccp("coordinator", "policy", "show", "tvmm", "--socket", daemon.path).out.encode() == POLICY_BODY


@pytest.mark.parametrize(
    ("problem", "code"),
    [(PolicyError("no_such_policy", HOSTILE), 1), (HostError("disk_full"), 3), (ConfigError("bad_policy"), 4)],
)
def test_what_the_daemon_refuses_ends_by_whose_fault_it_was(tmp_path: Path, problem: TccpError, code: int) -> None:
    path = tmp_path / "control.sock"
    with control_daemon(path, CoordinatorRequest, {c.ShowNode: problem}):
        as_text = tccp("coordinator", "node", "show", "rack1-07", "--socket", path)
        as_json = tccp("coordinator", "node", "show", "rack1-07", "--socket", path, "--json")

    assert as_text.code == as_json.code == code
    assert as_text.err.startswith(f"tccp: error: {problem.reason}")
    assert "\x1b" not in as_text.err
    assert as_json.document == {"error": problem.reason, "detail": problem.detail, "hint": ""}


def test_no_daemon_at_all_is_told_with_a_hint(tmp_path: Path) -> None:
    ended = tccp("coordinator", "status", "--socket", tmp_path / "nothing.sock", "--json")

    assert (ended.code, ended.document["error"]) == (3, "no_daemon")
    assert ended.document["hint"]


def test_nobody_is_revoked_without_a_reason(daemon: ControlDaemon) -> None:
    assert tccp("coordinator", "revoke", "rack1-07", "--reason", " ", "--socket", daemon.path).code == 2
    assert daemon.asked == []


@pytest.mark.parametrize("command", ["add", "try", "shadow add"])
def test_an_empty_file_is_no_policy(command: str, daemon: ControlDaemon) -> None:
    ended = tccp("coordinator", "policy", *command.split(), "/dev/null", "--socket", daemon.path, "--json")

    assert (ended.code, ended.document["error"]) == (4, "bad_policy")
    assert daemon.asked == []


def test_the_socket_of_another_daemon_is_what_is_thought_of_first(daemon: ControlDaemon) -> None:
    ended = tccp("vm", "list", "--socket", daemon.path, "--json")

    assert (ended.code, ended.document["error"]) == (4, "not_a_message")
    assert "another daemon" in ended.document["hint"]


def test_a_path_that_is_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    ended = tccp("coordinator", "status", "--socket", tmp_path / ("x" * 200), "--json")

    assert (ended.code, ended.document["error"]) == (3, "no_daemon")
    assert ended.document["detail"].endswith(": AF_UNIX path too long")


@pytest.mark.parametrize(
    "words",
    [
        "enrol rack1-07 --policy tvmm",
        "enrol Rack_1 --policy tvmm --ek-public -",
        "enrol rack1-07 --policy tvmm --ek-public - --attribute site",
        "enrol rack1-07 --policy tvmm --ek-public - --attribute a=1 --attribute a=2",
        "revoke rack1-07",
        "node attribute rack1-07",
        "node attribute rack1-07 --set a=1 --set a=2",
        "node attribute rack1-07 --set a=1 --remove a",
        "watch --since -1",
        "watch --kind revok",
        "node attribute rack1-07 --set Site=delft",
        "node attribute rack1-07 --remove -",
        "policy show tvmm --version one",
    ],
)
def test_a_wrong_command_line_reaches_no_daemon(words: str, daemon: ControlDaemon) -> None:
    assert tccp("coordinator", *words.split(), "--socket", daemon.path).code == 2
    assert daemon.asked == []


def test_a_policy_shown_on_a_terminal_cannot_drive_it(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    hostile = c.PolicyInfo("tvmm", 3, EK_ID, 1, True, 2, b'description = "\x1b[2J"\n')
    terminal, child_end = pty.openpty()
    with control_daemon(path, CoordinatorRequest, {c.ShowPolicy: hostile}):
        subprocess.run(
            [TCCP, "coordinator", "policy", "show", "tvmm", "--socket", str(path)], stdout=child_end, check=True
        )
        os.close(child_end)
    shown = os.read(terminal, 4096)
    os.close(terminal)

    assert b"\x1b" not in shown
    assert b"\\x1b[2J" in shown
