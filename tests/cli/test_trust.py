"""A tenant's day at the command line: a real coordinator, its log as files, nothing but `tccp`."""

import base64
import functools
import http.server
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from tccp.cli.receipt.verify import MEANINGS
from tccp.cli.trust.common import _about_the_tpm
from tccp.store import EventKind
from tccp.tenant.trust import Look
from tccp.tenant.trust_store import parse_pinned
from tccp.tenant.verification import VerifiedIntroduction
from tests.cli.running import TCCP, Ended, tccp
from tests.fuzz.tenant_targets import pinned as pinned_bytes
from tests.support.perimeter import ZERO_PCR, Perimeter
from tests.support.soft_tpm import EkAuthority, SoftTpm

POLICY = f'name = "tvmm"\nversion = 1\n\n[pcrs]\n0 = ["{ZERO_PCR}"]\n'


@pytest.fixture(scope="module")
def perimeter(ek_authority: EkAuthority) -> Iterator[Perimeter]:
    """A coordinator with a policy in its log."""
    with tempfile.TemporaryDirectory(prefix="tccp-cli-") as folder:
        SoftTpm(ek_authority, Path(folder) / "first")  # the authority exists once it has made a TPM
        with Perimeter(Path(folder), authority=ek_authority) as made:
            (made.directory / "tvmm.toml").write_text(POLICY)
            assert coordinator(made, "policy", "add", made.directory / "tvmm.toml").code == 0
            yield made


@pytest.fixture
def store(tmp_path: Path) -> dict[str, str]:
    """The environment of a tenant who trusts nobody yet."""
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def coordinator(perimeter: Perimeter, *words: str | Path) -> Ended:
    return tccp("coordinator", *words, env={"TCCP_SOCKET": str(perimeter.control)})


def pin(perimeter: Perimeter, tmp_path: Path, store: dict[str, str]) -> Ended:
    (tmp_path / "tc.toml").write_text(coordinator(perimeter, "trust", "--tenant").out)
    address = f"127.0.0.1:{perimeter.tenants_port}"
    return tccp("trust", "add", address, "--policy", tmp_path / "tc.toml", "--name", "ete", env=store)


def log_of(perimeter: Perimeter) -> Path:
    return perimeter.directory / "state" / "log"


def test_every_event_that_a_receipt_may_be_of_has_a_meaning() -> None:
    assert set(MEANINGS) == {kind.value for kind in EventKind}


def test_a_coordinator_is_pinned_looked_at_and_forgotten(
    perimeter: Perimeter, tmp_path: Path, store: dict[str, str]
) -> None:
    assert tccp("trust", "check", env=store).code == 4
    added = pin(perimeter, tmp_path, store)
    assert added.out.startswith("ete: pinned"), added.err
    assert "the policy asks for no witness" in added.out

    shown = tccp("trust", "show", "--json", env=store).document
    assert (shown["name"], shown["log"]["size"]) == ("ete", 4)
    coordinator(perimeter, "policy", "add", _policy(tmp_path, 2))
    checked = tccp("trust", "check", "ete", "--json", env=store).document
    assert (checked["size_before"], checked["log"]["size"]) == (4, 5)
    assert any("continues the 4" in line for line in checked["proved"])
    assert tccp("trust", "list", env=store).out.splitlines()[1].split()[:3] == [
        "ete", f"127.0.0.1:{perimeter.tenants_port}", "5",
    ]  # fmt: skip

    assert tccp("trust", "remove", "ete", env=store).code == 0
    assert tccp("trust", "list", "--json", env=store).document == {"coordinators": []}
    assert tccp("trust", "remove", "ete", env=store).code == 4


def _policy(tmp_path: Path, version: int) -> Path:
    path = tmp_path / f"tvmm-{version}.toml"
    path.write_text(POLICY.replace("version = 1", f"version = {version}"))
    return path


def test_an_identity_that_nobody_named_is_pinned_only_when_it_is_said_aloud(
    perimeter: Perimeter, tmp_path: Path, store: dict[str, str]
) -> None:
    text = coordinator(perimeter, "trust", "--tenant").out
    (tmp_path / "tc.toml").write_text("".join(f"{line}\n" for line in text.splitlines() if "identity" not in line))
    add = ["trust", "add", f"127.0.0.1:{perimeter.tenants_port}", "--policy", tmp_path / "tc.toml", "--json"]

    refused = tccp(*add, env=store)
    assert (refused.code, refused.document["error"]) == (4, "identity_unknown")
    assert tccp("trust", "list", "--json", env=store).document == {"coordinators": []}
    assert tccp(*add, "--accept-first-identity", env=store).document["name"] == "127.0.0.1"


def test_a_coordinator_with_other_pcrs_is_refused(perimeter: Perimeter, tmp_path: Path, store: dict[str, str]) -> None:
    text = coordinator(perimeter, "trust", "--tenant").out.replace(f'4 = ["{ZERO_PCR}"]', f'4 = ["{"ab" * 32}"]')
    (tmp_path / "tc.toml").write_text(text)

    refused = tccp(
        "trust", "add", f"127.0.0.1:{perimeter.tenants_port}", "--policy", tmp_path / "tc.toml", "--json", env=store
    )
    assert (refused.code, refused.document["error"]) == (1, "pcr_not_in_policy")
    assert "no event log" in refused.document["detail"]

    # That its event log can be kept nowhere hides nothing of that.
    add = ["trust", "add", f"127.0.0.1:{perimeter.tenants_port}", "--policy", tmp_path / "tc.toml", "--json"]
    again = tccp(*add, "--event-log", tmp_path / "nowhere" / "log", env=store)
    assert (again.code, again.document["error"]) == (1, "pcr_not_in_policy")


def test_nobody_at_the_other_end_is_no_refusal(tmp_path: Path, perimeter: Perimeter, store: dict[str, str]) -> None:
    (tmp_path / "tc.toml").write_text(coordinator(perimeter, "trust", "--tenant").out)

    assert tccp("trust", "add", "127.0.0.1:1", "--policy", tmp_path / "tc.toml", env=store).code == 3
    assert tccp("trust", "add", "nowhere", "--policy", tmp_path / "tc.toml", env=store).code == 4


@pytest.fixture
def served(perimeter: Perimeter) -> Iterator[str]:
    """The log on a web server that knows nothing of logs."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(log_of(perimeter)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("how", ["directory", "http", "https"])
def test_a_log_is_read_audited_and_proved(
    how: str, perimeter: Perimeter, served: str, tmp_path: Path, store: dict[str, str]
) -> None:
    pin(perimeter, tmp_path, store)
    places = {
        "directory": str(log_of(perimeter)),
        "http": served,
        "https": f"https://127.0.0.1:{perimeter.log_port}/",  # the coordinator itself
    }
    place = ["--log", places[how]]

    shown = tccp("log", "show", *place, env=store)
    assert "policy=tvmm" in shown.out, shown.err
    listed = tccp("log", "show", *place, "--first", "2", "--count", "2", "--json", env=store).document
    assert [entry["kind"] for entry in listed["entries"]] == ["start", "policy"]
    assert listed["entries"][0]["public"]["software"] == "0.1.0"

    audited = tccp("log", "audit", *place, "--json", env=store).document
    assert audited["verdict"] == "accepted"
    assert audited["kinds"]["start"] == 1

    proved = tccp("log", "prove", "3", *place, "--output", tmp_path / "3.receipt", env=store)
    assert proved.out.startswith("entry 3 (policy) is in the log"), proved.err
    verified = tccp("receipt", "verify", tmp_path / "3.receipt", env=store)
    assert verified.out.startswith(f"{tmp_path}/3.receipt: proved"), verified.err
    assert "as entry 3: policy (a policy came in force)" in verified.out
    assert "whom it concerns: this receipt has no details" in verified.out

    again = tccp("log", "prove", tmp_path / "3.receipt", *place, "--json", env=store).document
    assert again["receipt"] == (tmp_path / "3.receipt").read_bytes().hex()


def test_a_receipt_that_was_altered_or_is_of_a_stranger_proves_nothing(
    perimeter: Perimeter, tmp_path: Path, store: dict[str, str]
) -> None:
    pin(perimeter, tmp_path, store)
    place = ["--log", str(log_of(perimeter))]
    tccp("log", "prove", "3", *place, "--output", tmp_path / "3.receipt", env=store)
    whole = (tmp_path / "3.receipt").read_bytes()
    (tmp_path / "altered").write_bytes(whole.replace(b"policy", b"revoke", 1))

    refused = tccp("receipt", "verify", tmp_path / "altered", "--json", env=store)
    assert (refused.code, refused.document["error"]) == (1, "inclusion")
    assert refused.document["not_proved"] == ["anything: it is refused"]
    strange = {"XDG_CONFIG_HOME": str(tmp_path / "nobody")}
    unknown = tccp("receipt", "verify", tmp_path / "3.receipt", "--json", env=strange)
    assert (unknown.code, unknown.document["error"]) == (4, "not_pinned")


def test_another_tpm_that_a_new_policy_names_is_not_called_the_one_that_was_pinned() -> None:
    former = parse_pinned(pinned_bytes()[0])
    verified = cast("VerifiedIntroduction", None)  # it says nothing of what was before
    other = msgspec.structs.replace(former, ak="30" * 91)

    assert "was pinned" in _about_the_tpm(Look(former, verified, former))
    assert "was pinned" not in _about_the_tpm(Look(other, verified, former))


def test_an_altered_entry_is_found_by_an_audit(perimeter: Perimeter, tmp_path: Path, store: dict[str, str]) -> None:
    pin(perimeter, tmp_path, store)
    copy = tmp_path / "copy"
    _copy(log_of(perimeter), copy)
    bundle = max((copy / "tile" / "entries").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    bundle.write_bytes(bundle.read_bytes().replace(b"policy", b"police", 1))

    audited = tccp("log", "audit", "--log", copy, "--json", env=store)
    assert (audited.code, audited.document["error"]) == (1, "root_differs")
    assert tccp("log", "show", "--log", copy, "--first", "0", env=store).code == 1


def _copy(log: Path, copy: Path) -> None:
    """What can be fetched of a log."""
    for path in [log / "checkpoint", *(log / "tile").rglob("*")]:
        if path.is_file():
            target = copy / path.relative_to(log)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def test_an_older_copy_of_a_log_is_found_by_an_audit(
    perimeter: Perimeter, tmp_path: Path, store: dict[str, str]
) -> None:
    copy = tmp_path / "copy"
    _copy(log_of(perimeter), copy)
    coordinator(perimeter, "policy", "add", _policy(tmp_path, 50))
    pin(perimeter, tmp_path, store)

    audited = tccp("log", "audit", "--log", copy, "--json", env=store)
    assert (audited.code, audited.document["error"]) == (1, "rollback")


def test_a_log_that_contradicts_what_was_seen_is_not_shown(
    perimeter: Perimeter, tmp_path: Path, store: dict[str, str]
) -> None:
    pin(perimeter, tmp_path, store)
    place = ["--log", str(log_of(perimeter)), "--json"]
    assert tccp("log", "prove", "3", *place, "--output", tmp_path / "3.receipt", env=store).code == 0
    path = tmp_path / "config" / "tccp" / "trust" / "ete.json"
    pinned = json.loads(path.read_text())
    origin, size, root, *rest = pinned["seen"].split("\n")
    other_root = base64.b64encode(bytes(32)).decode()
    pinned["seen"] = "\n".join([origin, size, other_root, *rest])  # what the coordinator had shown before
    path.write_text(json.dumps(pinned))

    for words in (["show"], ["tail", "--count", "1", "--first", "0"], ["prove", "3"], ["audit"]):
        found = tccp("log", *words, *place, env=store)
        assert (found.code, found.document["error"]) == (1, "fork"), words
    receipt = tccp("receipt", "verify", tmp_path / "3.receipt", "--json", env=store)
    assert (receipt.code, receipt.document["error"]) == (1, "fork")
    # Whoever has seen nothing cannot know.
    key = tccp("trust", "show", "--json", env=store).document["log"]["key"]
    assert tccp("log", "show", *place, "--key", key, env=store).code == 0
    assert root != other_root


def test_new_entries_are_printed_as_they_come(perimeter: Perimeter, tmp_path: Path, store: dict[str, str]) -> None:
    pin(perimeter, tmp_path, store)
    size = tccp("trust", "show", "--json", env=store).document["log"]["size"]
    words = ["log", "tail", "--log", log_of(perimeter), "--first", size - 1, "--count", 2, "--json"]

    with subprocess.Popen([TCCP, *map(str, words)], stdout=subprocess.PIPE, env={**os.environ, **store}) as tail:
        assert tail.stdout is not None
        last = json.loads(tail.stdout.readline())
        coordinator(perimeter, "policy", "add", _policy(tmp_path, 60))
        entry = json.loads(tail.stdout.readline())
        assert tail.wait(60) == 0

    assert last["index"] == size - 1
    assert (entry["index"], entry["kind"], entry["public"]["version"]) == (size, "policy", 60)


def test_an_admission_is_proved_to_nobody_but_its_node(
    perimeter: Perimeter, tmp_path: Path, store: dict[str, str]
) -> None:
    """The name of the node is nowhere in what everybody may read."""
    node = perimeter.make_node("alpha-secret-name")
    node.daemon.start()
    node.wait_for_state("admitted")
    pin(perimeter, tmp_path, store)

    shown = tccp("log", "show", "--log", log_of(perimeter), "--count", "100", env=store).out
    files = [path.read_bytes() for path in log_of(perimeter).rglob("*") if path.is_file()]

    assert "admit" in shown
    assert not any(b"alpha-secret-name" in content for content in [shown.encode(), *files])
