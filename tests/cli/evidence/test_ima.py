"""``tccp evidence ima``: real lists, forged ones, and what a compiled policy makes of them."""

import json
from pathlib import Path

import pytest

from tccp.attestation.ima_rules import ImaRules, ListedDigest, compile_rules
from tests.cli.evidence.conftest import Run
from tests.support.boots import VECTORS as BOOTS
from tests.support.ima_lists import AGGREGATE, VECTORS, ng, quoted, sha256, written

LIST = BOOTS / "direct" / "ima.bin"
PCR10 = json.loads((BOOTS / "direct" / "pcrs.json").read_text())["sha256"]["10"]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "files.ima"
    path.write_bytes(compile_rules(ImaRules([ListedDigest(sha256(b"good"))], excludes=["/var/log/*"])))
    return path


def test_a_real_list_is_accepted_up_to_what_was_quoted(run: Run) -> None:
    ended = run("ima", LIST, "--pcr10", PCR10, "--json")

    assert ended.code == 0
    assert ended.document["verdict"] == "accepted"
    assert ended.document["pcr10"] == PCR10
    assert ended.document["entries"][0]["path"] == "boot_aggregate"
    assert any("measured later than PCR 10 was read" in line for line in ended.document["not_proved"])


def test_the_value_may_be_written_as_tpm2_tools_write_it(run: Run) -> None:
    assert run("ima", LIST, "--pcr10", f"0x{PCR10.upper()}", "--json").document["verdict"] == "accepted"


def test_without_a_pcr_value_nothing_is_claimed(run: Run) -> None:
    ended = run("ima", VECTORS / "rust-keylime" / "ascii_runtime_measurements", "--bank", "sha1")

    assert ended.code == 0
    assert ended.out.splitlines()[0].endswith(": replayed")
    assert "... 826 entries in all; --all shows them" in ended.out
    assert "a list is a story" in ended.out


def test_a_list_that_leads_elsewhere_is_refused(run: Run) -> None:
    ended = run("ima", LIST, "--pcr10", "ab" * 32, "--json")

    assert ended.code == 1
    assert ended.document["error"] == "ima_list_mismatch"


def test_every_entry_is_judged_by_a_policy(policy: Path, tmp_path: Path, run: Run) -> None:
    good = [AGGREGATE, ng(b"good", b"/usr/bin/good"), ng(b"x", b"/var/log/x")]
    bad = [*good, ng(b"rootkit", b"/usr/bin/\x1b[2Jrootkit")]
    for name, entries in (("good", good), ("bad", bad)):
        (tmp_path / name).write_bytes(written(entries))

    accepted = run("ima", tmp_path / "good", "--pcr10", quoted(good).values[10].hex(), "--policy", policy, "--json")
    refused = run("ima", tmp_path / "bad", "--pcr10", quoted(bad).values[10].hex(), "--policy", policy)

    assert accepted.document["verdicts"] == {"listed": 1, "excluded": 1, "boot_aggregate": 1}
    assert [entry["verdict"] for entry in accepted.document["entries"]] == ["boot_aggregate", "listed", "excluded"]
    assert refused.code == 1
    assert "ima_entry_refused: entry 3: /usr/bin/\\x1b[2Jrootkit sha256:" in refused.err
    assert "\x1b" not in refused.out + refused.err
    assert "hint: list its digest" in refused.err


@pytest.mark.parametrize("arguments", [("xyz",), ("abcd",), ("ab" * 32, "--bank", "sha1")])
def test_a_value_that_is_none_is_the_callers_fault(arguments: tuple[str, ...], run: Run) -> None:
    assert run("ima", LIST, "--pcr10", *arguments).code == 2


@pytest.mark.parametrize("content", [b"x", b"10 zz\n", bytes(100)])
def test_what_is_no_list_is_refused(content: bytes, tmp_path: Path, run: Run) -> None:
    (tmp_path / "list").write_bytes(content)

    assert run("ima", tmp_path / "list").code == 1


def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "policy").write_bytes(b"no policy")

    assert run("ima", LIST, "--policy", tmp_path / "policy").code == 1
