"""``tccp top``: what it makes of a coordinator's answers, once, as lines, and on a live screen."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tccp.cli.top import Glance, rates
from tccp.protocol import control as c
from tccp.protocol import vm_control as v
from tccp.protocol.control_roles import CoordinatorRequest

from .control_daemon import ControlDaemon, control_daemon
from .running import PATIENCE_S, TCCP, tccp
from .test_coordinator import HOSTILE, NODE, STATUS

REFUSED = msgspec.structs.replace(NODE, name="rack2-01", state="refused", connected=False, last_refusal=HOSTILE)
CALM = msgspec.structs.replace(NODE, last_refusal="")
VM = v.OwnedVm(b"\x5d" * 16, "acme", "running", 3, "rack1-07", 1_795_000_000_000, 0, "", 12)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ControlDaemon]:
    """A coordinator with two nodes, one of them refused, and a VM."""
    answers = {c.GetStatus: STATUS, c.ListNodes: c.Nodes((CALM, REFUSED)), v.ListOwnedVms: v.OwnedVms((VM,))}
    with control_daemon(tmp_path / "control.sock", CoordinatorRequest, answers) as running:
        yield running


def test_a_look_without_a_terminal_shows_what_needs_attention_first(daemon: ControlDaemon) -> None:
    ended = tccp("top", "--socket", daemon.path)

    assert ended.code == 0
    assert "1 admitted, 1 refused" in ended.out
    assert "rebooted 1" in ended.out
    assert ended.out.index("rack2-01") < ended.out.index("rack1-07")
    assert "5d5d5d5d5d5d" in ended.out
    assert "\x1b" not in ended.out


def test_a_look_for_programs_is_one_document(daemon: ControlDaemon) -> None:
    seen = tccp("top", "--once", "--json", "--socket", daemon.path).document

    assert seen["nodes"] == {"admitted": 1, "refused": 1}
    assert seen["vms"] == {"running": 1}
    assert [node["name"] for node in seen["attention"]] == ["rack2-01"]
    assert seen["coordinator"]["refusal_reasons"] == {"rebooted": 1}
    assert set(seen["rates_per_s"]) >= {"renewals", "refusals"}


def test_rates_are_those_since_the_last_look_and_begin_anew_with_the_coordinator() -> None:
    first = Glance(STATUS, (), (), at=100.0)
    later = msgspec.structs.replace(STATUS, renewals=STATUS.renewals + 50)
    restarted = msgspec.structs.replace(STATUS, renewals=0, started_ms=STATUS.started_ms + 1)

    assert rates(Glance(later, (), (), at=110.0), first)["renewals"] == 5.0
    assert rates(first._replace(status=restarted, at=110.0), first)["renewals"] == 0.0


def test_with_json_a_line_follows_another_until_ctrl_c(daemon: ControlDaemon) -> None:
    command = [TCCP, "top", "--json", "--interval", "1", "--socket", daemon.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [json.loads(child.stdout.readline()) for _ in range(2)]
        child.send_signal(signal.SIGINT)
        code = child.wait(PATIENCE_S)

    assert code == 0
    assert lines[1]["rates_per_s"]["renewals"] == 0


def test_on_a_terminal_the_screen_is_live_and_is_given_back(daemon: ControlDaemon) -> None:
    terminal, child_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"}
    received = bytearray()
    with subprocess.Popen(
        [TCCP, "top", "--socket", daemon.path], stdin=child_end, stdout=child_end, stderr=child_end, env=environment
    ) as child:
        os.close(child_end)
        while b"rack2-01" not in received:
            received += os.read(terminal, 65_536)
        child.send_signal(signal.SIGINT)
        while True:
            try:
                received += os.read(terminal, 65_536)
            except OSError:
                break
        code = child.wait(PATIENCE_S)
    os.close(terminal)

    assert code == 0
    assert b"\x1b[?1049h" in received, "another screen"
    assert received.rindex(b"\x1b[?1049l") > received.rindex(b"rack2-01")
    assert b"\x1b[2J" not in received.replace(b"\x1b[?1049h\x1b[2J", b""), "what a node said moves no cursor"


def test_a_coordinator_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    assert tccp("top", "--once", "--socket", tmp_path / "none.sock").code == 3
