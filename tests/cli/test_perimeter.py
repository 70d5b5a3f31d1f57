"""An operator's day at the command line: real daemons, real software TPMs, nothing but `tccp`."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Ended, tccp
from tests.support.perimeter import ZERO_PCR, Perimeter, ek_certificate
from tests.support.soft_tpm import EkAuthority, SoftTpm

POLICY = f'name = "tvmm"\nversion = 1\n\n[pcrs]\n0 = ["{ZERO_PCR}"]\n'


@pytest.fixture(scope="module")
def perimeter(ek_authority: EkAuthority) -> Iterator[Perimeter]:
    """A coordinator that knows nobody yet."""
    with tempfile.TemporaryDirectory(prefix="tccp-cli-") as folder:
        SoftTpm(ek_authority, Path(folder) / "first")  # the authority exists once it has made a TPM
        with Perimeter(Path(folder), authority=ek_authority) as made:
            yield made


def ask(perimeter: Perimeter, *words: str | Path, stdin: bytes = b"") -> Ended:
    return tccp("coordinator", *words, env={"TCCP_SOCKET": str(perimeter.control)}, stdin=stdin)


def test_a_node_is_enrolled_admitted_looked_at_and_revoked(perimeter: Perimeter, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    assert ask(perimeter, "policy", "add", tmp_path / "policy.toml").out.startswith("policy tvmm version 1 is in force")
    assert ask(perimeter, "policy", "show", "tvmm").out == POLICY
    assert ask(perimeter, "policy", "list").out.splitlines()[1].split()[:4] == ["tvmm", "1", "yes", "0"]

    node = perimeter.make_node("alpha", enrol=False)
    read = tccp("node", "ek", "--tcti", node.relay.tcti, "--certificate", tmp_path / "ek.der", "--json").document
    assert (tmp_path / "ek.der").read_bytes().hex() == read["certificate"]
    enrolled = ask(
        perimeter, "enrol", "alpha", "--policy", "tvmm", "--ek-certificate", tmp_path / "ek.der", "--json"
    ).document
    assert (enrolled["state"], enrolled["ek_id"]) == ("enrolled", read["ek_id"])

    node.daemon.start()
    node.wait_for_state("admitted")
    assert ask(perimeter, "nodes").out.splitlines()[1].split()[:3] == ["alpha", "admitted", "yes"]
    assert "policy" in ask(perimeter, "node", "show", "alpha").out
    status = tccp("node", "status", "--socket", node.daemon.control, "--json").document
    assert (status["state"], status["ek_id"]) == ("admitted", read["ek_id"])
    assert ask(perimeter, "status", "--json").document["leases_open"] == 1

    revoked = ask(perimeter, "revoke", "alpha", "--reason", "sold", "--json").document
    assert (revoked["state"], revoked["revoke_reason"]) == ("revoked", "sold")
    again = ask(perimeter, "enrol", "alpha", "--policy", "tvmm", "--ek-certificate", tmp_path / "ek.der", "--json")
    assert again.code == 1

    events = [json.loads(line) for line in ask(perimeter, "watch", "--no-follow", "--json").out.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {"start", "policy", "enrol", "admit", "revoke"} <= {event["kind"] for event in events}


def test_a_node_without_a_certificate_is_enrolled_by_its_key(
    perimeter: Perimeter, soft_tpm: SoftTpm, tmp_path: Path
) -> None:
    ask(perimeter, "policy", "add", "-", stdin=POLICY.replace("tvmm", "lab").encode())
    read = tccp("node", "ek", "--tcti", soft_tpm.tcti, "--public", tmp_path / "ek.pub", "--json").document

    enrolled = ask(perimeter, "enrol", "lab-1", "--policy", "lab", "--ek-public", tmp_path / "ek.pub", "--json")

    assert enrolled.document["ek_id"] == read["ek_id"]
    record = ask(perimeter, "export").document
    assert [node["name"] for node in record["nodes"]] == ["lab-1"]
    assert ask(perimeter, "import", "-", "--json", stdin=json.dumps(record).encode()).document == {"imported": 0}


def test_a_certificate_of_nobody_that_is_trusted_is_refused(perimeter: Perimeter, tmp_path: Path) -> None:
    own = EkAuthority(tmp_path / "ca")
    with SoftTpm(own, tmp_path / "t") as stranger:
        (tmp_path / "ek.der").write_bytes(ek_certificate(stranger))
    ask(perimeter, "policy", "add", "-", stdin=POLICY.replace("tvmm", "strict").encode())

    ended = ask(perimeter, "enrol", "stranger", "--policy", "strict", "--ek-certificate", tmp_path / "ek.der", "--json")

    assert (ended.code, ended.document["error"]) == (1, "untrusted")
    assert "authorities" in ended.document["hint"]


def test_what_is_no_certificate_at_all_is_refused_with_what_is_wanted(perimeter: Perimeter, tmp_path: Path) -> None:
    (tmp_path / "ek.pub").write_bytes(b"nonsense")

    ended = ask(perimeter, "enrol", "odd", "--policy", "tvmm", "--ek-certificate", tmp_path / "ek.pub", "--json")

    assert (ended.code, ended.document["error"]) == (1, "malformed")
    assert "tccp node ek --certificate" in ended.document["hint"]


def test_a_policy_that_is_none_is_refused_with_the_reason(perimeter: Perimeter) -> None:
    ended = ask(perimeter, "policy", "add", "-", "--json", stdin=b'name = "x"\nversion = 1\n')

    assert (ended.code, ended.document["error"]) == (4, "bad_policy")


def test_the_trust_file_names_the_coordinator(perimeter: Perimeter) -> None:
    assert 'identity = "' in ask(perimeter, "trust").out


@pytest.mark.parametrize(
    "words", [("node", "show", "nobody"), ("policy", "show", "nothing"), ("revoke", "x", "--reason", "y")]
)
def test_what_is_not_there_is_told(words: tuple[str, ...], perimeter: Perimeter) -> None:
    ended = ask(perimeter, *words, "--json")

    assert ended.code in {1, 4}
    assert ended.document["error"]
