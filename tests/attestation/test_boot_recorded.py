"""Boots of real firmware, boot loaders and kernels: learned, judged by each other's policies, and followed by IMA."""

import re
import subprocess
from pathlib import Path

import pytest

from tccp.attestation.boot_judge import check_measurements, explain_boot, findings, judge_boot
from tccp.attestation.boot_learn import LEARNED_PCRS, learn_policy
from tccp.attestation.boot_policy import BootPolicy, parse_boot_policy
from tccp.attestation.event_log import explain, explain_incomplete, replay_event_log
from tccp.attestation.ima import ImaPolicy, ImaProgress, Verdict, boot_aggregates, prove_measurements
from tccp.attestation.ima_rules import ImaRules, ListedDigest
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import ConfigError, PolicyError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support import event_logs
from tests.support.boots import VECTORS, recorded
from tests.support.ima_lists import compiled

BOOTS = ("direct", "grub", "unified", "secure_boot")
CONSOLE = "console=ttyS0 quiet panic=-1"
LINES = (
    f"{CONSOLE} lockdown=integrity module.sig_enforce=1",
    f"{CONSOLE} ima_policy=tcb ima_hash=sha256 ima_template=ima-sig lockdown=integrity initrd=initrd",
)


def learned(name: str, *required: str) -> BootPolicy:
    log, pcrs = recorded(name)
    explained = explain(replay_event_log(log, [PcrBank.SHA256]), pcrs, LEARNED_PCRS)
    return learn_policy([explained], name=name, version=1, command_lines=LINES, required=required)


@pytest.mark.parametrize("boot", BOOTS)
@pytest.mark.parametrize("name", BOOTS)
def test_what_was_learned_from_a_boot_allows_that_boot_alone(name: str, boot: str) -> None:
    rules = learned(name)
    log, pcrs = recorded(boot)

    assert (findings(rules, explain_boot(rules, pcrs, log)) == ()) == (name == boot)


def test_roles_are_guessed_as_a_person_would() -> None:
    titles = {
        name: {
            section: [title.rsplit("/", 1)[-1] for title in rule.digests.values()]
            for section in ("boot_loader", "kernel", "initrd")
            if (rule := getattr(learned(name), section)) is not None
        }
        for name in BOOTS
    }

    assert titles["direct"] == {"boot_loader": [], "kernel": ["kernel"], "initrd": ["Linux initrd"]}
    assert titles["grub"]["kernel"] == ["vmlinuz"]
    assert titles["grub"]["initrd"] == ["initrd.img"]
    assert len(titles["grub"]["boot_loader"]) == len(titles["unified"]["boot_loader"]) == 1
    assert titles["secure_boot"]["boot_loader"] == []
    assert learned("secure_boot").secure_boot.state == "on"  # type: ignore[union-attr]


def test_a_policy_is_learned_from_several_hosts() -> None:
    logs = []
    for name in ("unified", "secure_boot"):
        log, pcrs = recorded(name)
        logs.append(explain(replay_event_log(log, [PcrBank.SHA256]), pcrs, LEARNED_PCRS))
    rules = learn_policy(logs, name="both", version=1, command_lines=LINES)

    assert all(findings(rules, log) == () for log in logs)
    assert rules.firmware is not None
    assert len(rules.firmware.builds) == 2


def test_a_word_that_a_good_host_does_not_have_cannot_be_required() -> None:
    learned("grub", "lockdown=integrity")
    with pytest.raises(ConfigError, match=r"does not conform.*mitigations=auto is missing"):
        learned("grub", "mitigations=auto")


def test_a_command_line_of_which_the_log_has_the_digest_only_must_be_given() -> None:
    log, pcrs = recorded("unified")
    explained = explain(replay_event_log(log, [PcrBank.SHA256]), pcrs, LEARNED_PCRS)

    with pytest.raises(ConfigError, match="command_line_unknown"):
        learn_policy([explained], name="x", version=1, command_lines=["quiet"])


@pytest.mark.parametrize(
    "log",
    [
        "gce/eventlog.bin",
        "go-attestation/crypto_agile_eventlog",
        "go-tpm-tools/gdc-host.bin",
        "go-tpm-tools/glinux-alex.bin",
        "go-tpm-tools/rhel8-uefi.bin",
        "go-tpm-tools/ubuntu-2404-amd-sevsnp.bin",
        "guard-oss/IMN-DELL-WBCL-BootCtrs.bin",
        "guard-oss/dl160-fwupd-report.bin",
        "guard-oss/good-1.bin",
        "guard-oss/latitude-7520.bin",
        "keylime/binary_bios_measurements-secureboot",
        "keylime/rust-keylime-uefi_log.bin",
        "tpm2-tools/event-gce-ubuntu-2104-log.bin",
    ],
)
def test_logs_of_other_machines_are_learned_and_allowed_again(log: str) -> None:
    replayed = replay_event_log((event_logs.VECTORS / log).read_bytes(), [PcrBank.SHA256])
    values = {index: replayed.pcr(PcrBank.SHA256, index) for index in LEARNED_PCRS}
    explained = explain_incomplete(replayed, PcrValues(PcrSelection.of(PcrBank.SHA256, values), values))

    rules = learn_policy([explained], name="x", version=1)

    assert findings(rules, explained) == ()


# ---- and then IMA -------------------------------------------------------------------------------------------------


def ima_policy(*, aggregate_only: bool = False) -> ImaPolicy:
    """What the recorded guest may measure: its programs, and everything else by its path."""
    busybox = "3d9f2889d6782537624a4e1a10e68a2ddd53e0ee8bac02676f27308f42ec6bf6"
    digests = [] if aggregate_only else [ListedDigest(bytes.fromhex(busybox))]
    return compiled(ImaRules(digests, excludes=["/tmp/*", "/sys/*"], allow_violations=True))  # noqa: S108


def test_a_real_list_leads_to_the_real_pcr_and_its_aggregate_is_of_this_boot() -> None:
    _, pcrs = recorded("direct")
    data = (VECTORS / "direct" / "ima.bin").read_bytes()

    proved = prove_measurements(data, ImaProgress.start(), pcrs)
    counted = [Verdict(number) for number in ima_policy().verdicts(proved, b"".join(boot_aggregates(pcrs)))]

    # The guest read its list after its PCRs, so the list has more: that waits.
    assert proved.progress.consumed_bytes < len(data)
    assert [entry.path for entry in proved.entries()][:4] == [
        b"boot_aggregate",
        b"/bin/busybox",
        b"/tmp/file",
        b"/tmp/open",
    ]
    assert counted[0] is Verdict.BOOT_AGGREGATE
    assert Verdict.VIOLATION_ALLOWED in counted
    assert not any(verdict.refuses for verdict in counted)


def test_evmctl_finds_the_same_prefix(tmp_path: Path) -> None:
    _, pcrs = recorded("direct")
    (tmp_path / "pcrs").write_text("".join(f"PCR-{i:02}: {value.hex(' ')}\n" for i, value in pcrs.values.items()))
    command = ["evmctl", "-v", "ima_measurement", "--ignore-violations", "--pcrs", f"sha256,{tmp_path / 'pcrs'}"]
    said = subprocess.run([*command, VECTORS / "direct" / "ima.bin"], capture_output=True, text=True, check=True)
    data = (VECTORS / "direct" / "ima.bin").read_bytes()

    found = re.search(r"PCR-10: succeed at entry (\d+)", said.stdout + said.stderr)

    assert found is not None
    assert int(found[1]) == len(prove_measurements(data, ImaProgress.start(), pcrs))


def test_a_policy_that_names_an_ima_policy_needs_its_verdict_on_the_same_quote() -> None:
    log, pcrs = recorded("direct")
    files = ima_policy()
    rules = parse_boot_policy(learned("direct").body + f'\n[ima]\nsha256 = "{files.sha256.hex()}"\n'.encode())
    quote = object.__new__(VerifiedQuote)
    values = {index: pcrs.values[index] for index in rules.selection.indexes}
    object.__setattr__(quote, "pcrs", PcrValues(rules.selection, values))
    data = (VECTORS / "direct" / "ima.bin").read_bytes()
    proved = prove_measurements(data, ImaProgress.start(), quote.pcrs)
    accepted = files.judge(proved)
    others = compiled(ImaRules(excludes=["*"], allow_violations=True)).judge(proved)

    assert judge_boot(rules, quote, log, accepted).warnings == ()
    for wrong in (None, others):
        with pytest.raises(PolicyError, match="ima_not_judged"):
            judge_boot(rules, quote, log, wrong)


def test_a_host_that_has_measured_nothing_is_refused_whatever_may_be_measured() -> None:
    pcrs = PcrValues(PcrSelection.of(PcrBank.SHA256, [10]), {10: bytes(32)})
    files = ima_policy()
    rules = parse_boot_policy(learned("direct").body + f'\n[ima]\nsha256 = "{files.sha256.hex()}"\n'.encode())
    nothing = files.judge(prove_measurements(b"", ImaProgress.start(), pcrs))

    with pytest.raises(PolicyError, match="ima_nothing_measured"):
        check_measurements(rules, pcrs, nothing)
    check_measurements(learned("direct"), pcrs, None)  # the control: it names no IMA policy


def test_measurements_of_another_quote_do_not_count() -> None:
    log, pcrs = recorded("direct")
    files = ima_policy()
    rules = parse_boot_policy(learned("direct").body + f'\n[ima]\nsha256 = "{files.sha256.hex()}"\n'.encode())
    data = (VECTORS / "direct" / "ima.bin").read_bytes()
    accepted = files.judge(prove_measurements(data, ImaProgress.start(), pcrs))
    later = object.__new__(VerifiedQuote)
    values = {index: pcrs.values[index] for index in rules.selection.indexes} | {10: bytes(32)}
    object.__setattr__(later, "pcrs", PcrValues(rules.selection, values))

    with pytest.raises(PolicyError, match="ima_not_judged"):
        judge_boot(rules, later, log, accepted)
