"""What a host that boots something else can write into its log. Beside each attack stands what passes without it."""

import re

import pytest

from tccp.attestation import boot_judge
from tccp.attestation.boot_judge import FINDINGS_MAX, explain_boot, findings, judge_boot
from tccp.attestation.command_line import TEXT_CHARACTERS_MAX, load_options
from tccp.attestation.event_data import EventType as T
from tccp.attestation.event_log import explain, replay_event_log
from tccp.attestation.policy import TrustedPlatform
from tccp.errors import EventLogError, PolicyError
from tests.support.boots import (
    AUTHORITY,
    CALLING,
    COMMAND_LINE,
    COMMANDS,
    FIRMWARE,
    HONEST,
    INITRD,
    KERNEL,
    LINE,
    LOADER,
    POLICY,
    SECURE_BOOT,
    SEPARATORS,
    Step,
    file,
    grub,
    image,
    judged,
    log_of,
    policy,
    quote_of,
    refusal,
    variable,
)

EVIL = image("evil.efi")


def replaced(steps: list[Step], *pairs: tuple[Step, Step]) -> list[Step]:
    changes = dict(pairs)
    return [changes.get(step, step) for step in steps]


def test_the_control_an_honest_boot_is_trusted() -> None:
    platform = judged(HONEST)

    assert (platform.policy_name, platform.policy_version, platform.warnings) == ("tvmm", 2, ())


# ---- what was booted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (replaced(HONEST, (FIRMWARE[1], FIRMWARE[1]._replace(measured=b"another"))), "firmware_not_in_policy"),
        ([*HONEST, Step(0, T.EV_EFI_PLATFORM_FIRMWARE_BLOB, bytes(16), b"more")], "firmware_not_in_policy"),
        ([step for step in HONEST if step != FIRMWARE[1]], "firmware_not_in_policy"),
        ([FIRMWARE[1], FIRMWARE[0], *HONEST[2:]], "firmware_not_in_policy"),
        ([FIRMWARE[0], *HONEST[2:], FIRMWARE[1]], "firmware_not_in_policy"),
        ([*HONEST, Step(2, T.EV_EFI_BOOT_SERVICES_DRIVER, b"card", b"option ROM")], "drivers_not_in_policy"),
        (replaced(HONEST, (LOADER, EVIL)), "boot_loader_not_in_policy"),
        ([*HONEST, EVIL], "boot_loader_not_in_policy"),
        (replaced(HONEST, (KERNEL, EVIL)), "boot_loader_not_in_policy"),
        (replaced(HONEST, (INITRD, file("/initrd.img", b"another"))), "initrd_not_in_policy"),
        ([*HONEST, file("/initrd2.img", b"another")], "initrd_not_in_policy"),
        ([step for step in HONEST if step != INITRD], "initrd_not_in_policy"),
        ([step for step in HONEST if step != KERNEL], "kernel_not_in_policy"),
        ([step for step in HONEST if step != COMMAND_LINE], "command_line_not_in_policy"),
        (replaced(HONEST, (LOADER, KERNEL), (KERNEL, LOADER)), "boot_loader_not_in_policy"),
        (replaced(HONEST, (AUTHORITY, AUTHORITY._replace(data=variable("db", b"hers")))), "secure_boot_not_in_policy"),
    ],
    ids=[
        *("firmware", "more firmware", "less firmware", "firmware in another order", "firmware by the system"),
        *("option ROM", "loader"),
        *("one more image", "kernel", "initrd", "second initrd", "no initrd", "no kernel"),
        *("no command line", "loader after the kernel", "authority"),
    ],
)
def test_another_boot_is_refused_by_its_honest_log(measured: list[Step], reason: str) -> None:
    assert refusal(measured) == reason


@pytest.mark.parametrize(
    "changed",
    [
        (SECURE_BOOT[0], SECURE_BOOT[0]._replace(data=variable("SecureBoot", b"\x00"))),
        (SECURE_BOOT[1], SECURE_BOOT[1]._replace(data=variable("PK", b"hers"))),
        (SECURE_BOOT[2], SECURE_BOOT[2]._replace(data=variable("KEK", b"hers"))),
        (SECURE_BOOT[3], SECURE_BOOT[3]._replace(data=variable("db", b"hers"))),
    ],
)
def test_state_and_keys_of_secure_boot_are_judged(changed: tuple[Step, Step]) -> None:
    assert refusal(replaced(HONEST, changed)) == "secure_boot_not_in_policy"


def test_a_host_that_extends_pcr_7_later_cannot_put_secure_boot_on() -> None:
    off = SECURE_BOOT[0]._replace(data=variable("SecureBoot", b"\x00"))
    later = [SECURE_BOOT[0], SEPARATORS[7]]
    measured = [*replaced(HONEST, (SECURE_BOOT[0], off)), *later]
    any_authority = policy(re.sub(r"authorities = .*", "", POLICY))
    authority = T.EV_EFI_VARIABLE_AUTHORITY
    relabelled = [
        *replaced(HONEST, (SECURE_BOOT[0], off), (SEPARATORS[7], SEPARATORS[7]._replace(kind=authority))),
        *later,
    ]
    hidden = replaced(relabelled, (off, off._replace(kind=authority)))

    for shown in (measured, relabelled, hidden):
        explain(replay_event_log(log_of(shown)), quote_of(measured).pcrs)  # the control: the log explains the quote
        assert refusal(measured, shown, any_authority) == "secure_boot_not_in_policy"


def test_what_stands_around_what_was_measured_makes_no_authority_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a variable firmware may have hashed the value alone, so a log can put any value into one that is called db."""
    off = SECURE_BOOT[0]._replace(data=variable("SecureBoot", b"\x00"))
    measured = [*replaced(HONEST, (SECURE_BOOT[0], off)), SECURE_BOOT[0], SEPARATORS[7]]
    wrapped = {
        step: Step(7, T.EV_EFI_VARIABLE_AUTHORITY, variable("db", step.data), step.data)
        for step in (off, SEPARATORS[7])
    }
    shown = [*replaced(measured[:-1], *wrapped.items()), SEPARATORS[7]]
    any_authority = policy(re.sub(r"authorities = .*", "", POLICY))

    assert refusal(measured, shown, any_authority) == "secure_boot_not_in_policy"
    monkeypatch.setattr(boot_judge, "_names_authority", lambda measured: measured is not None)
    assert refusal(measured, shown, any_authority) == ""  # the control: secure boot would be on


def test_a_driver_may_have_an_authority_before_the_separator() -> None:
    at = HONEST.index(SEPARATORS[0])

    assert refusal([*HONEST[:at], AUTHORITY, *HONEST[at:]]) == ""


def test_a_variable_that_the_policy_leaves_open_may_change() -> None:
    newer = SECURE_BOOT[4]._replace(data=variable("dbx", b"more is distrusted"))

    assert refusal(replaced(HONEST, (SECURE_BOOT[4], newer))) == ""


def test_an_error_that_firmware_measured_is_no_separator() -> None:
    wrong = SEPARATORS[4]._replace(data=b"\x01\0\0\0")

    assert refusal(replaced(HONEST, (SEPARATORS[4], wrong))) == "boot_loader_not_in_policy"
    assert refusal([*HONEST, SEPARATORS[4]]) == "boot_loader_not_in_policy"


# ---- what the log says of it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown_as", [T.EV_SEPARATOR, T.EV_EFI_ACTION, T.EV_IPL, T.EV_EFI_BOOT_SERVICES_DRIVER])
def test_another_type_makes_no_image_harmless(shown_as: T) -> None:
    evil = [*HONEST, EVIL]
    relabelled = [*HONEST, EVIL._replace(kind=shown_as)]

    explain(replay_event_log(log_of(relabelled)), quote_of(evil).pcrs)  # the control: the log explains the quote
    assert refusal(evil, relabelled) == "boot_loader_not_in_policy"


def test_an_action_that_was_not_measured_hides_nothing() -> None:
    evil = [*HONEST, EVIL]
    hidden = [*HONEST, Step(4, T.EV_EFI_ACTION, CALLING.data, b"evil.efi")]

    explain(replay_event_log(log_of(hidden)), quote_of(evil).pcrs)
    assert refusal(evil, hidden) == "boot_loader_not_in_policy"


def test_no_action_hides_nothing() -> None:
    evil = [*HONEST, EVIL]
    hidden = [*HONEST, EVIL._replace(kind=T.EV_NO_ACTION)]

    assert refusal(evil, hidden) == "event_log_mismatch"
    assert refusal(HONEST, hidden) == ""  # the control: an event that extends nothing proves nothing, either way


def test_an_event_that_was_never_measured_cannot_be_added() -> None:
    no_kernel = [step for step in HONEST if step != KERNEL]

    assert refusal(no_kernel, HONEST) == "event_log_mismatch"
    assert refusal(no_kernel, [*no_kernel, KERNEL._replace(kind=T.EV_NO_ACTION)]) == "kernel_not_in_policy"


def test_events_cannot_be_stripped_or_reordered() -> None:
    evil = [*HONEST, EVIL]

    assert refusal(evil, HONEST) == "event_log_mismatch"
    assert refusal(HONEST, replaced(HONEST, (LOADER, KERNEL), (KERNEL, LOADER))) == "event_log_mismatch"
    assert refusal(HONEST, []) == "event_log_mismatch"


def test_a_digest_in_another_pcr_or_role_counts_for_nothing() -> None:
    kernel_as_initrd = [*HONEST[:-1], file("/initrd.img", b"grubx64.efi")]
    initrd_as_image = replaced(HONEST, (KERNEL, KERNEL._replace(measured=b"the initrd")))

    assert refusal(kernel_as_initrd) == "initrd_not_in_policy"
    assert refusal(initrd_as_image) == "boot_loader_not_in_policy"
    assert refusal([step for step in HONEST if step != INITRD] + [INITRD._replace(pcr=8)]) != ""


def test_a_text_that_was_not_measured_is_no_command_line() -> None:
    evil = grub("kernel_cmdline", "/vmlinuz ro init=/bin/sh")
    forged = COMMAND_LINE._replace(measured=evil.measured)
    measured, shown = replaced(HONEST, (COMMAND_LINE, evil)), replaced(HONEST, (COMMAND_LINE, forged))

    text = replay_event_log(log_of(shown)).events[-3].content()
    assert LINE in str(text)  # the control: it reads as if all were well
    assert refusal(measured, shown) == "command_line_not_in_policy"


def test_a_command_that_looks_like_a_good_command_line_covers_no_bad_one() -> None:
    # GRUB measures what it runs, so anybody who edits its commands can have a good line measured, too.
    decoy, evil = grub("grub_cmd", LINE), grub("kernel_cmdline", "/vmlinuz rw init=/bin/sh")
    measured = [*replaced(HONEST, (COMMAND_LINE, evil)), decoy]
    swapped = [
        *replaced(HONEST, (COMMAND_LINE, grub("grub_cmd", "/vmlinuz rw init=/bin/sh"))),
        grub("kernel_cmdline", LINE),
    ]

    explain(replay_event_log(log_of(swapped)), quote_of(measured).pcrs)  # the control: keywords are claims
    assert refusal(measured, swapped) == "command_line_not_in_policy"
    assert refusal(measured) == "command_line_not_in_policy"


def test_the_text_that_systemd_measured_says_which_digest_the_kernel_may_leave() -> None:
    def booted(told: str, taken: str) -> list[Step]:
        text = Step(12, T.EV_IPL, f"{told}\0".encode("utf-16-le"))
        options = Step(9, T.EV_EVENT_TAG, b"LOADED_IMAGE::LoadOptions\0", load_options(taken)[0])
        return [*(step for step in HONEST if step.pcr != 8), text, options]

    assert refusal(booted(LINE, LINE)) == ""
    assert refusal(booted(LINE, f"{LINE} init=/bin/sh")) == "command_line_not_in_policy"
    assert refusal(booted(f"{LINE} init=/bin/sh", LINE)) == "command_line_not_in_policy"


def test_commands_that_nobody_listed_are_refused() -> None:
    assert refusal([*HONEST, grub("grub_cmd", "insmod evil")]) == "command_line_not_in_policy"
    assert refusal([*HONEST, COMMANDS[0]]) == ""


def test_startup_locality_is_part_of_what_pcr_0_must_lead_to() -> None:
    locality = Step(0, T.EV_NO_ACTION, b"StartupLocality\0\x03")

    assert refusal([locality, *HONEST]) == ""
    assert refusal(HONEST, [locality, *HONEST]) == "event_log_mismatch"
    assert refusal([locality, *HONEST], HONEST) == "event_log_mismatch"


def test_a_quote_of_other_pcrs_is_not_judged() -> None:
    less = policy(POLICY.replace('[drivers]\nmode = "enforce"\n', ""))

    with pytest.raises(PolicyError, match="wrong_pcr_selection"):
        judge_boot(policy(), quote_of(HONEST, less), log_of(HONEST))


def test_a_log_that_ends_before_the_firmware_does_is_refused() -> None:
    log = log_of(HONEST)
    cut = log[: log.rindex(b"Exit Boot") - 4 - 32 - 2 - 4 - 8]

    with pytest.raises(EventLogError, match=r"event_log_incomplete|event_log_mismatch"):
        judge_boot(policy(), quote_of(HONEST), cut)


# ---- modes and verdicts ------------------------------------------------------------------------------------------


def test_what_only_warns_is_told_and_not_refused() -> None:
    rules = policy(POLICY.replace('[initrd]\nmode = "enforce"', '[initrd]\nmode = "warn"'))
    other = replaced(HONEST, (INITRD, file("/initrd.img", b"another")))

    # PCR 9 is also where kernels and command lines may stand, which are enforced: an unknown event might be one.
    assert refusal(other, rules=rules) == "initrd_not_in_policy"
    missing = judged([step for step in HONEST if step != INITRD], rules=rules)
    assert missing.warnings == (f"expected one of {INITRD.digest.hex()[:12]}...; found nothing",)


def test_a_pcr_of_which_all_sections_warn_refuses_nobody() -> None:
    rules = policy(POLICY.replace('[secure_boot]\nmode = "enforce"', '[secure_boot]\nmode = "warn"'))
    off = replaced(HONEST, (SECURE_BOOT[0], SECURE_BOOT[0]._replace(data=variable("SecureBoot", b"\x00"))))

    assert len(judged(off, rules=rules).warnings) == 1
    assert refusal(off) == "secure_boot_not_in_policy"  # the control


def test_a_refusal_says_event_expected_found_and_what_to_do() -> None:
    with pytest.raises(PolicyError) as caught:
        judged(replaced(HONEST, (INITRD, file("/initrd.img", b"another"))))

    number = len(HONEST) - 1
    assert f"event {number}, PCR 9: expected one of " in caught.value.detail
    assert "found EV_IPL " in caught.value.detail
    assert "/initrd.img" in caught.value.detail
    assert "tccp policy predict --initrd FILE" in caught.value.hint


def test_text_of_the_host_cannot_drive_a_terminal() -> None:
    with pytest.raises(PolicyError) as caught:
        judged([*HONEST, grub("grub_cmd", "\x1b[2J\r\nall is well")])

    assert "\x1b" not in caught.value.detail
    assert "\n" not in caught.value.detail


def test_a_host_that_measures_thousands_of_things_makes_nobody_write_long_books() -> None:
    digests = ", ".join(f'"{number:064x} {"a title " * 100}"' for number in range(100))
    rules = policy(POLICY.replace('[drivers]\nmode = "enforce"', f'[drivers]\nmode = "warn"\ndigests = [{digests}]'))
    drivers = [Step(2, T.EV_EFI_BOOT_SERVICES_DRIVER, b"card", b"%d" % number) for number in range(1000)]
    host = [*HONEST, *drivers, grub("grub_cmd", "x" * 100_000)]

    found = findings(rules, explain_boot(rules, quote_of(host, rules).pcrs, log_of(host)))

    assert len(found) == FINDINGS_MAX + 1
    assert max(len(str(finding)) for finding in found) < 2 * TEXT_CHARACTERS_MAX
    assert "and 92 more" in str(found[0])
    # What only warns keeps nothing out that is enforced.
    assert refusal(host, rules=rules) == "command_line_not_in_policy"


def test_nobody_but_a_policy_makes_a_trusted_platform() -> None:
    with pytest.raises(TypeError):
        TrustedPlatform(quote_of(HONEST), "tvmm", 2, object())


KEPT_APART = ("intel_iommu=on", "iommu.strict=1", "mitigations=auto,nosmt")


@pytest.mark.parametrize("missing", [None, *KEPT_APART])
def test_a_policy_may_demand_what_keeps_devices_and_neighbours_out_of_memory(missing: str | None) -> None:
    """DMA without an IOMMU, and side channels: no test has them, but a boot without the measures gets no lease."""
    line = " ".join([LINE, *(word for word in KEPT_APART if word != missing)])
    steps = replaced(
        HONEST, (COMMANDS[1], grub("grub_cmd", f"linux {line}")), (COMMAND_LINE, grub("kernel_cmdline", line))
    )
    body = POLICY.replace(f"linux {LINE}", f"linux {line}")
    demanding = body.replace('["lockdown=integrity"]', str(["lockdown=integrity", *KEPT_APART]).replace("'", '"'))

    assert refusal(steps, rules=policy(demanding)) == ("" if missing is None else "command_line_not_in_policy")
    assert refusal(steps, rules=policy(body)) == ""


def test_firmware_that_has_switched_off_its_protection_from_devices_is_refused() -> None:
    odd = Step(7, T.EV_EFI_ACTION, b"DMA Protection Disabled")
    at = HONEST.index(SECURE_BOOT[-1]) + 1

    assert refusal([*HONEST[:at], odd, *HONEST[at:]]) == "secure_boot_not_in_policy"
