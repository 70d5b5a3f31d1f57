"""``tccp node``: the node's daemon, looked at."""

from pathlib import Path

import msgspec

from tccp.protocol import control as c
from tccp.protocol.control_roles import NodeRequest

from .control_daemon import control_daemon
from .running import tccp

ADMITTED = c.NodeStatus(
    name="rack1-07",
    software="0.1.0",
    started_ms=1_795_000_000_000,
    state="admitted",
    coordinator="tc.example:7443",
    coordinator_id=bytes(32),
    boot_id=bytes(16),
    ek_id=bytes(32),
    tpm="IBM SW TPM",
    lease_id=b"\x02" * 16,
    lease_left_s=250,
    renewals=4,
    last_error="",
    last_error_hint="",
    retry_in_s=0,
)
REFUSED = msgspec.structs.replace(
    ADMITTED,
    state="refused",
    lease_id=b"",
    last_error="pcr_not_in_policy\x1b[31m",
    last_error_hint="add a newer version",
    retry_in_s=30,
)


def test_an_admitted_node_shows_its_lease(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_daemon(path, NodeRequest, {c.GetStatus: ADMITTED}) as daemon:
        text = tccp("node", "status", "--socket", path)
        document = tccp("node", "status", "--socket", path, "--json").document

    assert daemon.asked == [c.GetStatus(), c.GetStatus()]
    assert (text.code, text.err) == (0, "")
    assert "250 s" in text.out
    assert "last error" not in text.out
    assert document["state"] == "admitted"
    assert set(document) == set(ADMITTED.__struct_fields__)


def test_a_refused_node_says_why_and_when_it_tries_again(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with control_daemon(path, NodeRequest, {c.GetStatus: REFUSED}):
        text = tccp("node", "status", "--socket", path).out

    assert "pcr_not_in_policy\\x1b[31m" in text
    assert "add a newer version" in text
    assert "in 30 s" in text
    assert "lease" not in text
