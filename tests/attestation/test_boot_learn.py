"""What is learned of a boot: each event under its heading, in words that are read again as they were.

With boots of real firmware: `tests/attestation/test_boot_recorded.py`.
"""

import pytest

from tccp.attestation.boot_learn import FORBIDDEN, LEARNED_PCRS, learn_policy
from tccp.attestation.boot_policy import BootPolicy
from tccp.attestation.event_data import EventType
from tccp.attestation.event_log import ExplainedEventLog, explain, replay_event_log
from tccp.errors import ConfigError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.boots import (
    AUTHORITY,
    FIRMWARE,
    HONEST,
    INITRD,
    KERNEL,
    LINE,
    LOADER,
    SECURE_BOOT,
    Step,
    file,
    grub,
    judged,
    log_of,
    variable,
)


def explained_boot(steps: list[Step]) -> ExplainedEventLog:
    log = replay_event_log(log_of(steps), [PcrBank.SHA256])
    values = {index: log.pcr(PcrBank.SHA256, index) for index in LEARNED_PCRS}
    return explain(log, PcrValues(PcrSelection.of(PcrBank.SHA256, values), values))


def test_texts_are_learned_whatever_their_characters() -> None:
    odd = 'X "\\ \t\x7f\u00e9\u4e2d\U0001f427X'
    steps = [*HONEST, grub("grub_cmd", odd), grub("kernel_cmdline", "/vmlinuz X")]

    found = learn_policy([explained_boot(steps)], name="x", version=1)

    assert found.body.isascii()
    assert found.command_line is not None
    assert odd in found.command_line.commands
    assert found.command_line.lines == (LINE, "/vmlinuz X")
    assert judged(steps, rules=found).policy_name == "x"


def test_a_text_that_was_not_measured_is_not_learned() -> None:
    steps = [*HONEST, Step(8, EventType.EV_IPL, b"kernel_cmdline: x\0", b"something else")]
    explained = explained_boot(steps)

    with pytest.raises(ConfigError, match="was not measured cannot be learned") as refused:
        learn_policy([explained], name="x", version=1)
    assert refused.value.reason == "bad_policy"
    with pytest.raises(ValueError, match="nothing to learn from"):
        learn_policy([], name="x", version=1)


def learned(*steps: Step) -> BootPolicy:
    return learn_policy([explained_boot([*HONEST, *steps])], name="x", version=1)


def test_each_event_stands_under_its_heading() -> None:
    card = Step(2, EventType.EV_EFI_BOOT_SERVICES_DRIVER, bytes(32), b"option ROM")
    odd = Step(7, EventType.EV_EFI_ACTION, b"DMA Protection Disabled")
    shim = Step(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SbatLevel", b"sbat"))
    files = [file("(hd0,gpt1)/boot/grub/vmlinuz/grub.cfg", b"cfg"), file("(hd0,gpt1)/boot/vmlinuz-6.1", b"again")]

    found = learn_policy([explained_boot([*HONEST[:7], card, odd, shim, *HONEST[7:], *files])], name="x", version=1)

    assert found.firmware is not None
    assert [build.events for build in found.firmware.builds] == [tuple((step.kind, step.digest) for step in FIRMWARE)]
    assert found.drivers is not None
    assert set(found.drivers.digests) == {card.digest}
    assert found.secure_boot is not None
    assert found.secure_boot.state == "on"
    assert {name: set(digests) for name, digests in found.secure_boot.variables.items()} == {
        name: {step.digest} for name, step in zip(("PK", "KEK", "db", "dbx"), SECURE_BOOT[1:], strict=True)
    }
    assert found.secure_boot.authorities == {AUTHORITY.digest: "db"}
    assert found.secure_boot.others == {
        odd.digest: "EV_EFI_ACTION",
        shim.digest: "EV_EFI_VARIABLE_DRIVER_CONFIG SbatLevel",
    }
    assert found.boot_loader is not None
    assert set(found.boot_loader.digests) == {LOADER.digest}
    assert found.kernel is not None
    assert set(found.kernel.digests) == {KERNEL.digest, files[1].digest}
    assert found.initrd is not None
    assert set(found.initrd.digests) == {INITRD.digest}
    assert found.boot_files is not None
    assert set(found.boot_files.digests) == {files[0].digest}


def test_words_that_no_host_needs_are_forbidden_as_long_as_none_has_them() -> None:
    def forbidden(line: str) -> set[str]:
        rules = learned(grub("kernel_cmdline", line)).command_line
        assert rules is not None
        return set(FORBIDDEN) - set(rules.rules.forbidden)

    assert forbidden("/vmlinuz ro") == set()
    assert forbidden("/vmlinuz debug") == {"debug"}
    assert forbidden("/vmlinuz single init=/bin/x") == {"single", "init=*"}
    assert forbidden("/vmlinuz rd.breakpoint efi=debugger debugs") == {"rd.break*"}
    assert forbidden("/vmlinuz init in") == set()


def test_a_heading_under_which_nothing_was_measured_is_empty() -> None:
    found = learned()

    assert found.drivers is not None
    assert (found.drivers.digests, found.boot_files) == ({}, None)
    assert b'[drivers]\nmode = "enforce"\ndigests = []\n' in found.body


def test_a_log_that_cannot_conform_is_not_learned_from() -> None:
    """After a kernel, GRUB was started again: which no policy allows."""
    with pytest.raises(ConfigError, match="does not conform") as refused:
        learn_policy([explained_boot([*HONEST, LOADER, KERNEL])], name="x", version=1)
    assert refused.value.reason == "bad_policy"
