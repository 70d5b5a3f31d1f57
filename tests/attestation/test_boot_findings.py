"""Each thing that a measured-boot policy does not allow is named: its section, what was expected, what was there."""

import hashlib
import re

import pytest

from tccp.attestation.boot_judge import explain_boot, findings
from tccp.attestation.boot_policy import BootPolicy
from tccp.attestation.event_data import EventType as T
from tccp.errors import PolicyError
from tests.support.boots import (
    AUTHORITY,
    COMMAND_LINE,
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

HEAD = 'kind = "measured-boot"\nname = "x"\nversion = 1\n'
OPTIONS = b"LOADED_IMAGE::LoadOptions\0"
VARIABLE, AUTHORITY_TYPE = T.EV_EFI_VARIABLE_DRIVER_CONFIG, T.EV_EFI_VARIABLE_AUTHORITY


def found(measured: list[Step], rules: BootPolicy | None = None) -> list[tuple[str, str]]:
    """The section of each finding, and what it says."""
    rules = rules or policy()
    explained = explain_boot(rules, quote_of(measured, rules).pcrs, log_of(measured))
    return [(finding.section, str(finding)) for finding in findings(rules, explained)]


def without(*steps: Step) -> list[Step]:
    return [step for step in HONEST if step not in steps]


def before(behind: Step, *steps: Step) -> list[Step]:
    at = HONEST.index(behind)
    return [*HONEST[:at], *steps, *HONEST[at:]]


def only(sections: str) -> BootPolicy:
    return policy(HEAD + sections)


# ---- everything that is in the policy of an honest boot


CASES: dict[str, tuple[list[Step], str, str]] = {
    "no separator behind the firmware": (
        without(SEPARATORS[0]),
        "firmware",
        "expected one separator in PCR 0; found n",
    ),
    "two of them": ([*HONEST, SEPARATORS[0]], "firmware", "expected one separator in PCR 0; found EV_SEPARATOR"),
    "two in PCR 2": ([*HONEST, SEPARATORS[2]], "drivers", "expected one separator in PCR 2; found EV_SEPARATOR"),
    "firmware behind it": (
        [*without(FIRMWARE[1]), FIRMWARE[1]],
        "firmware",
        "expected nothing behind the separator in PCR 0; found EV_EFI_PLATFORM_FIRMWARE_BLOB",
    ),
    "firmware that is gone": (
        without(FIRMWARE[1]),
        "firmware",
        f"expected EV_EFI_PLATFORM_FIRMWARE_BLOB {FIRMWARE[1].digest.hex()} of build '1.0'; found nothing",
    ),
    "firmware too much": (
        before(SEPARATORS[0], FIRMWARE[1]),
        "firmware",
        "PCR 0: expected no more of build '1.0'; found EV_EFI_PLATFORM_FIRMWARE_BLOB",
    ),
    "an option ROM": (
        [*HONEST, Step(2, T.EV_EFI_BOOT_SERVICES_DRIVER, b"card", b"option ROM")],
        "drivers",
        "PCR 2: expected one of nothing; found EV_EFI_BOOT_SERVICES_DRIVER",
    ),
    "no separator in PCR 4": (without(SEPARATORS[4]), "boot_loader", "expected one separator in PCR 4; found nothing"),
    "another image": (
        [*HONEST, image("evil.efi")],
        "boot_loader",
        f"PCR 4: expected one of {LOADER.digest.hex()[:12]}... GRUB, {KERNEL.digest.hex()[:12]}... 6.1; found EV_EFI",
    ),
    "a loader after the kernel": (
        [*HONEST, LOADER],
        "boot_loader",
        "PCR 4: expected nothing that is started after the kernel; found EV_EFI_BOOT_SERVICES_APPLICATION",
    ),
    "an action that firmware does not name": (
        [*HONEST, Step(4, T.EV_EFI_ACTION, b"Calling something else")],
        "boot_loader",
        "found EV_EFI_ACTION",
    ),
    "no command line": (
        without(COMMAND_LINE),
        "command_line",
        "expected a command line that was measured; found nothing",
    ),
    "no separator in PCR 7": (without(SEPARATORS[7]), "secure_boot", "expected a separator in PCR 7; found nothing"),
    "a key twice": (
        before(SEPARATORS[0], SECURE_BOOT[1]),
        "secure_boot",
        f"expected PK with one of {SECURE_BOOT[1].digest.hex()[:12]}..., once; found {VARIABLE.name}",
    ),
    "no key": (without(SECURE_BOOT[2]), "secure_boot", "expected variable KEK; found nothing"),
    "another key": (
        [*(step._replace(data=variable("KEK", b"hers")) if step is SECURE_BOOT[2] else step for step in HONEST)],
        "secure_boot",
        f"expected KEK with one of {SECURE_BOOT[2].digest.hex()[:12]}...; found {VARIABLE.name}",
    ),
    "an unknown variable": (
        before(SEPARATORS[0], Step(7, VARIABLE, variable("dbt", b""))),
        "secure_boot",
        "expected no variable of that name; found EV_EFI_VARIABLE_DRIVER_CONFIG",
    ),
    "a variable that was not measured": (
        before(SEPARATORS[0], Step(7, VARIABLE, variable("dbx", b"x"), b"something else")),
        "secure_boot",
        "expected a variable of secure boot; found EV_EFI_VARIABLE_DRIVER_CONFIG",
    ),
    "no variable at all": (
        before(SEPARATORS[0], Step(7, T.EV_EFI_ACTION, b"DMA Protection Disabled")),
        "secure_boot",
        "expected a variable of secure boot; found EV_EFI_ACTION",
    ),
    "an authority of another type": (
        [*HONEST, AUTHORITY._replace(kind=VARIABLE)],
        "secure_boot",
        f"expected an authority of {AUTHORITY.digest.hex()[:12]}... the vendor; found {VARIABLE.name}",
    ),
    "a text that is none": (
        [*HONEST, Step(8, T.EV_IPL, b"kernel_cmdline: \xff\0", b"\xff")],
        "command_line",
        "PCR 8: expected a text that was measured; found EV_IPL",
    ),
    "a text that was not measured": (
        [*HONEST, Step(8, T.EV_IPL, COMMAND_LINE.data, b"something else")],
        "command_line",
        "PCR 8: expected a text that was measured; found EV_IPL",
    ),
    "half a character of systemd's": (
        [*HONEST, Step(12, T.EV_IPL, b"\x00\xd8")],
        "command_line",
        "PCR 12: expected a text that was measured; found EV_IPL",
    ),
    "a text of systemd's that was not measured": (
        [*HONEST, Step(12, T.EV_IPL, LINE.encode("utf-16-le"), b"something else")],
        "command_line",
        "PCR 12: expected a text that was measured; found EV_IPL",
    ),
    "a line that is not listed": (
        [*HONEST, grub("kernel_cmdline", "/other lockdown=integrity")],
        "command_line",
        "PCR 8: expected one of /vmlinuz ro *; found '/other lockdown=integrity'",
    ),
    "a line against the rules": (
        [*HONEST, grub("kernel_cmdline", f"{LINE} debug init=/x")],
        "command_line",
        f"PCR 8: expected init=/x is forbidden (init=*); debug is forbidden (debug); found '{LINE} debug init=/x'",
    ),
    "options of the kernel's stub": (
        [*HONEST, Step(9, T.EV_EVENT_TAG, OPTIONS, b"another line")],
        "command_line",
        f"PCR 9: expected the digest of one of these lines: {LINE}; found EV_EVENT_TAG",
    ),
    "a file with another type": (
        [*HONEST, INITRD._replace(kind=T.EV_EFI_ACTION)],
        "initrd",
        f"expected one of {KERNEL.digest.hex()[:12]}... 6.1, {INITRD.digest.hex()[:12]}...; found EV_EFI_ACTION",
    ),
}


@pytest.mark.parametrize(("measured", "section", "told"), CASES.values(), ids=CASES)
def test_what_is_not_allowed_is_named(measured: list[Step], section: str, told: str) -> None:
    assert found(HONEST) == []  # the control
    assert any(where == section and told in text for where, text in found(measured))


def test_the_build_that_is_nearest_is_the_one_that_is_compared() -> None:
    other = f'[[firmware.builds]]\ntitle = "0.9"\nevents = ["EV_IPL {"ab" * 32}"]\n[[firmware.builds]]'
    rules = policy(POLICY.replace("[[firmware.builds]]", other))
    changed = [step._replace(measured=b"another") if step is FIRMWARE[1] else step for step in HONEST]

    assert (
        f"expected EV_EFI_PLATFORM_FIRMWARE_BLOB {FIRMWARE[1].digest.hex()} of build '1.0'"
        in found(changed, rules)[0][1]
    )


def test_a_refusal_tells_how_much_else_is_wrong() -> None:
    for evil, more in ((1, ""), (2, "; and 1 more"), (3, "; and 2 more")):
        with pytest.raises(PolicyError) as caught:
            judged([*HONEST, *(image(f"{number}.efi") for number in range(evil))])
        assert caught.value.detail.partition("; found ")[2].partition(";")[2] == more.removeprefix(";")


# ---- policies of fewer sections


def test_keys_that_the_policy_does_not_name_may_be_any() -> None:
    rules = policy("\n".join(line for line in POLICY.splitlines() if line[:5] not in {"PK = ", "KEK =", "db = "}))
    for step in SECURE_BOOT[1:]:
        changed = [other._replace(data=step.data + b"x") if other is step else other for other in HONEST]
        assert found(changed, rules) == []


def test_a_pattern_is_no_line_whose_digest_is_known() -> None:
    rules = only('[command_line]\nmode = "enforce"\nlines = ["/vmlinuz *"]\n')

    assert found([Step(9, T.EV_EVENT_TAG, OPTIONS, "/vmlinuz *\0".encode("utf-16-le"))], rules)


def test_an_old_grub_measures_the_end_of_a_text_too() -> None:
    old = [step._replace(measured=step.data.partition(b": ")[2]) if step.pcr == 8 else step for step in HONEST]

    assert old != HONEST
    assert found(old) == []


def test_a_digest_among_the_others_is_known_wherever_it_stands() -> None:
    odd = Step(7, T.EV_EFI_ACTION, b"DMA Protection Disabled")
    rules = policy(POLICY.replace('state = "on"', f'state = "on"\nothers = ["{odd.digest.hex()}"]'))

    assert found(before(SEPARATORS[0], odd), rules) == []
    assert found([*HONEST, odd], rules) == []


@pytest.mark.parametrize("value", [b"\x00", b""])
def test_secure_boot_may_be_off_where_that_is_what_is_wanted(value: bytes) -> None:
    off = [step._replace(data=variable("SecureBoot", value)) if step is SECURE_BOOT[0] else step for step in HONEST]
    for state, of_off, of_on in (("off", [], ["secure_boot"]), ("any", [], []), ("on", ["secure_boot"], [])):
        rules = policy(POLICY.replace('state = "on"', f'state = "{state}"'))

        assert [section for section, _ in found(off, rules)] == of_off
        assert [section for section, _ in found(HONEST, rules)] == of_on


def test_an_authority_that_nobody_listed_is_one_by_what_was_measured() -> None:
    rules = policy(re.sub(r"authorities = .*", "", POLICY))

    assert (
        found([*HONEST, Step(7, AUTHORITY_TYPE, variable("Shim", b"x") + b"\0", variable("Shim", b"x"))], rules) == []
    )
    for name in ("SecureBoot", "PK", "KEK", "dbx"):
        step = Step(7, AUTHORITY_TYPE, variable(name, b"x"))
        assert [section for section, _ in found([*HONEST, step], rules)] == ["secure_boot"]
    assert found([*HONEST, Step(7, AUTHORITY_TYPE, variable("Shim", b"x"), b"something else")], rules)


def test_a_kernel_that_grub_reads_counts_as_one() -> None:
    kernel = file("/vmlinuz", b"a kernel")
    rules = only(f'[kernel]\nmode = "enforce"\ndigests = ["{kernel.digest.hex()}"]\n')
    booted = [*SEPARATORS, kernel]

    assert found(booted, rules) == []
    assert found(list(SEPARATORS), rules) == [
        ("kernel", f"expected one of {kernel.digest.hex()[:12]}...; found nothing")
    ]
    assert [section for section, _ in found([*booted, file("/evil", b"x")], rules)] == ["kernel"]
    assert [section for section, _ in found([*booted, image("evil.efi")], rules)] == ["kernel"]


def test_where_only_files_are_judged_each_is_listed() -> None:
    font = file("/unicode.pf2", b"a font")
    rules = only(f'[boot_files]\nmode = "enforce"\ndigests = ["{font.digest.hex()} a font"]\n')

    assert found([font, image("evil.efi")], rules) == []  # PCR 4 is not judged
    assert [section for section, _ in found([font, INITRD], rules)] == ["boot_files"]


def test_where_only_the_command_line_is_judged_files_are_unknown_too() -> None:
    rules = only('[command_line]\nmode = "enforce"\nrequired = ["lockdown=integrity"]\n')

    assert found([COMMAND_LINE], rules) == []
    assert found([COMMAND_LINE, INITRD], rules)[0][0] == "command_line"
    [(section, text)] = found([COMMAND_LINE, Step(9, T.EV_EVENT_TAG, OPTIONS, b"x")], rules)
    assert (section, LINE in text) == ("command_line", True)
    text = found([Step(9, T.EV_EVENT_TAG, OPTIONS, b"x")], rules)[0][1]
    assert "none is listed whole" in text


def test_a_line_that_breaks_its_own_rules_is_not_known_by_its_digest() -> None:
    rules = only(f'[command_line]\nmode = "enforce"\nlines = ["{LINE}", "{LINE} debug"]\nforbidden = ["debug"]\n')

    assert found([Step(9, T.EV_EVENT_TAG, OPTIONS, f"{LINE}\0".encode("utf-16-le"))], rules) == []
    assert found([Step(9, T.EV_EVENT_TAG, OPTIONS, f"{LINE} debug\0".encode("utf-16-le"))], rules)


def test_a_policy_lists_what_it_allows_as_far_as_there_is_room() -> None:
    digests = ", ".join(f'"{hashlib.sha256(bytes([number])).hexdigest()}"' for number in range(10))
    rules = only(f'[boot_files]\nmode = "enforce"\ndigests = [{digests}]\n')

    assert "..., and 2 more; found" in found([INITRD], rules)[0][1]


def test_a_policy_may_know_everything_that_is_started_as_a_boot_loader() -> None:
    kernel = f'[kernel]\nmode = "enforce"\ndigests = ["{KERNEL.digest.hex()} 6.1"]\n'
    loaders = f'digests = ["{LOADER.digest.hex()} GRUB"]'
    both = f'digests = ["{LOADER.digest.hex()}", "{KERNEL.digest.hex()}"]'
    rules = policy(POLICY.replace(kernel, "").replace(loaders, both))

    assert rules.kernel is None
    assert judged(HONEST, rules=rules).policy_name == "tvmm"
    assert refusal([*HONEST, image("another.efi")], rules=rules) == "boot_loader_not_in_policy"
