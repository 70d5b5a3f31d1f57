"""``tccp policy``: from the log of a good host to a policy that says why it refuses another."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attestation.test_debian_package import deb
from tests.cli.running import Ended, tccp_in_process
from tests.support.boots import POLICY, VECTORS
from tests.support.guest import guest_kernel

LINE = "console=ttyS0 quiet panic=-1 lockdown=integrity module.sig_enforce=1"
Run = Callable[..., Ended]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run ``tccp policy`` with these arguments, in this process."""

    def run_policy(*arguments: str | Path) -> Ended:
        return tccp_in_process(capfdbinary, "policy", *arguments)

    return run_policy


def evidence(name: str, option: str = "") -> tuple[str | Path, ...]:
    """The log and PCR values of a recorded boot, as arguments."""
    return (*([option] if option else []), VECTORS / name / "event_log.bin", "--pcrs", VECTORS / name / "pcrs.json")


@pytest.fixture
def learned(tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "learned.toml"
    ended = run(
        "learn", *evidence("unified"), "--name", "tvmm", "--command-line", LINE, "--require", "lockdown=integrity"
    )
    assert ended.code == 0
    path.write_text(ended.out)
    return path


def test_a_learned_policy_accepts_its_host_and_explains_why_it_refuses_another(learned: Path, run: Run) -> None:
    accepted = run("explain", learned, *evidence("unified", "--log"))
    refused = run("explain", learned, *evidence("secure_boot", "--log"))

    assert (accepted.code, refused.code) == (0, 1)
    assert accepted.out.splitlines()[0].endswith(": accepted")
    assert "firmware_not_in_policy: event 1, PCR 0: expected EV_EFI_PLATFORM_FIRMWARE_BLOB" in refused.err
    assert "hint: if this firmware is to be trusted" in refused.err
    assert "secure_boot: event 3, PCR 7" in refused.out
    assert "  what to do  set secure boot up as the policy says" in refused.out


def test_an_explanation_is_a_document_too(learned: Path, run: Run) -> None:
    document = run("explain", learned, *evidence("grub", "--log"), "--json").document

    assert document["verdict"] == "refused"
    assert {finding["section"] for finding in document["findings"]} >= {"boot_loader", "command_line", "initrd"}
    assert all(finding["hint"] for finding in document["findings"])


def test_without_pcr_values_nothing_is_proved(learned: Path, run: Run) -> None:
    ended = run("explain", learned, "--log", VECTORS / "unified" / "event_log.bin")

    assert ended.code == 0
    assert ended.out.splitlines()[0].endswith(": allowed")
    assert "a log is a story" in ended.out


def test_a_log_that_leads_elsewhere_is_refused(learned: Path, run: Run) -> None:
    arguments = ("--log", VECTORS / "unified" / "event_log.bin", "--pcrs", VECTORS / "grub" / "pcrs.json")

    assert run("explain", learned, *arguments, "--json").document["error"] == "event_log_mismatch"


def test_a_command_line_must_be_given_where_the_log_has_none(run: Run) -> None:
    ended = run("learn", *evidence("unified"), "--name", "tvmm")

    assert ended.code == 4
    assert "command_line_unknown" in ended.err
    assert "--command-line" in ended.err


def test_a_check_says_what_is_left_open(learned: Path, run: Run) -> None:
    document = run("check", learned, "--json").document

    assert document["kernel"] == "enforce"
    assert document["quotes"] == "sha256 PCR 0, 2, 4, 5, 7, 8, 9, 12"
    assert any(line.startswith("secure_boot: it may be off") for line in document["left_open"])
    assert any(line.startswith("ima: ") for line in document["left_open"])


def test_a_signed_policy_is_checked_by_its_key(learned: Path, tmp_path: Path, run: Run, capfdbinary: object) -> None:
    for name in ("operator", "other"):
        ended = tccp_in_process(capfdbinary, "key", "generate", "--type", "operator", tmp_path / f"{name}.key")  # type: ignore[arg-type]
        assert ended.code == 0
    signed = tmp_path / "tvmm.signed"
    (tmp_path / "operator.key").chmod(0o644)
    assert run("sign", learned, "--key", tmp_path / "operator.key", "--json").document["error"] == "key_exposed"
    (tmp_path / "operator.key").chmod(0o600)
    signed.write_text(run("sign", learned, "--key", tmp_path / "operator.key").out)

    assert run("check", signed, "--key", tmp_path / "operator.pub").code == 0
    assert run("check", signed, "--key", tmp_path / "other.pub", "--json").document["error"] == "unknown_key"
    assert run("check", learned, "--key", tmp_path / "operator.pub", "--json").document["error"] == "malformed"
    signed.write_text(signed.read_text().replace("lockdown", "lockdxwn"))
    assert run("check", signed, "--key", tmp_path / "operator.pub", "--json").document["error"] == "bad_signature"


def test_a_difference_says_what_is_allowed_more(tmp_path: Path, run: Run) -> None:
    (tmp_path / "old.toml").write_text(POLICY)
    (tmp_path / "new.toml").write_text(POLICY.replace('required = ["lockdown=integrity"]', "required = []"))

    ended = run("diff", tmp_path / "old.toml", tmp_path / "new.toml")

    assert ended.out.splitlines()[1].split() == ["-", "more", "command_line.required", "lockdown=integrity"]
    assert run("diff", tmp_path / "old.toml", tmp_path / "old.toml").out == "they allow the same\n"


def test_a_kernel_is_predicted(tmp_path: Path, run: Run) -> None:
    (tmp_path / "initrd").write_bytes(b"an initrd")
    files = ("--kernel", guest_kernel(), "--initrd", tmp_path / "initrd", "--command-line", "quiet")

    stub = run("predict", *files, "--json").document["events"]
    grub = run("predict", *files, "--boot", "grub").out

    assert [event["section"] for event in stub] == ["kernel", "command_line", "initrd"]
    assert stub[2]["digest"] == hashlib.sha256(b"an initrd").hexdigest()
    assert hashlib.sha256(guest_kernel().read_bytes()).hexdigest() in grub
    assert run("predict", *files, "--boot", "qemu", "--memory", "512").code == 0
    assert run("predict", *files, "--boot", "qemu").code == 2
    assert run("predict").code == 2
    assert run("predict", "--kernel", guest_kernel(), "--command-line", "quiet \udcff").code == 2, "no text"
    assert run("predict", "--uki", guest_kernel(), *files[2:]).code == 2, "it has an initrd of its own"


def test_packages_become_a_compiled_policy(tmp_path: Path, run: Run) -> None:
    (tmp_path / "x.deb").write_bytes(deb({"./usr/bin/good": b"good", "./usr/share/a\nb": b"x"}))
    (tmp_path / "files.sha256").write_text(run("from-packages", tmp_path / "x.deb").out)

    ended = run("compile", tmp_path / "x.ima", "--list", tmp_path / "files.sha256", "--exclude", "/var/*", "--json")

    assert ended.document["digests"] == 2
    assert ended.document["sha256"] == hashlib.sha256((tmp_path / "x.ima").read_bytes()).hexdigest()
    assert len((tmp_path / "files.sha256").read_text().splitlines()) == 2


def test_a_policy_that_allows_nothing_is_not_meant(tmp_path: Path, run: Run) -> None:
    assert run("compile", tmp_path / "x.ima").code == 2
    assert not (tmp_path / "x.ima").exists()


def test_the_list_of_a_good_host_becomes_a_policy(tmp_path: Path, run: Run) -> None:
    ended = run("compile", tmp_path / "x.ima", "--measured", VECTORS / "direct" / "ima.bin", "--json")

    assert ended.document["digests"] > 2


def test_weak_digests_are_told(tmp_path: Path, run: Run) -> None:
    (tmp_path / "policy.json").write_text(json.dumps({"digests": {"/x": ["ab" * 20, "ab" * 32]}}))

    assert "left out: 1 digests" in run("compile", tmp_path / "x.ima", "--list", tmp_path / "policy.json").out


@pytest.mark.parametrize("command", [("check",), ("explain", "--log"), ("sign", "--key"), ("compile", "--list")])
def test_files_that_are_none_of_it_are_the_operators_fault(command: tuple[str, ...], tmp_path: Path, run: Run) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    options = [option for name in command[1:] for option in (name, junk)]
    target = tmp_path / "out" if command[0] == "compile" else junk

    assert run(command[0], target, *options).code == 4
