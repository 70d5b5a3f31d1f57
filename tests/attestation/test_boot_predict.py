"""What is predicted of a kernel, an initrd and a command line is what firmware, GRUB and systemd's stub measure."""

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tccp.attestation.boot_judge import explain_boot, findings
from tccp.attestation.boot_learn import LEARNED_PCRS, learn_policy
from tccp.attestation.boot_predict import BootFiles, BootPath, PredictedEvent, predict_boot, predict_unified
from tccp.attestation.event_log import ExplainedEventLog, explain, replay_event_log
from tccp.attestation.ima import ImaProgress, Verdict, boot_aggregates, measurements_from_text, prove_measurements
from tccp.attestation.ima_rules import ImaRules
from tccp.attestation.pe_image import as_qemu_loads, authenticode_hash, sections
from tccp.errors import EvidenceError
from tccp.model import PcrBank
from tests.support.guest import guest_kernel
from tests.support.ima_lists import compiled
from tests.support.measured_guest import (
    CONSOLE,
    MEMORY_MIB,
    STUB,
    Measured,
    boot_measured,
    grub_partition,
    make_initrd,
    unified_image,
)

LINE = f"{CONSOLE} lockdown=integrity module.sig_enforce=1 ima_policy=tcb ima_hash=sha256 ima_template=ima-sig"
SHA256 = PcrBank.SHA256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boots")


@pytest.fixture(scope="module")
def initrd(folder: Path) -> Path:
    return make_initrd(folder / "initrd", "echo hello > /tmp/file; cat /tmp/file")


@pytest.fixture(scope="module")
def boots(folder: Path, initrd: Path) -> dict[str, Measured]:
    """Three real boots, at the same time."""
    kernel = guest_kernel()
    unified = unified_image(folder, kernel, initrd, LINE).read_bytes()
    partition = grub_partition(folder, kernel, initrd, LINE)
    rest = LINE.removeprefix(f"{CONSOLE} ")
    with ThreadPoolExecutor() as pool:
        running = {
            "direct": pool.submit(boot_measured, folder / "1", kernel=kernel, initrd=initrd, command_line=rest),
            "grub": pool.submit(boot_measured, folder / "2", esp=partition),
            "unified": pool.submit(boot_measured, folder / "3", esp={"EFI/BOOT/BOOTX64.EFI": unified}),
        }
        return {name: boot.result() for name, boot in running.items()}


def predicted(name: str, folder: Path, initrd: Path) -> tuple[PredictedEvent, ...]:
    if name == "unified":
        return predict_unified((folder / "unified.efi").read_bytes())
    kernel, content = guest_kernel().read_bytes(), initrd.read_bytes()
    if name == "grub":
        return predict_boot(BootFiles(kernel, content, f"/vmlinuz {LINE}"), BootPath.GRUB)
    return predict_boot(BootFiles(kernel, content, LINE, MEMORY_MIB), BootPath.QEMU)


def explained(measured: Measured, pcrs: tuple[int, ...] = (*LEARNED_PCRS, 11)) -> ExplainedEventLog:
    return explain(replay_event_log(measured.event_log, [SHA256]), measured.pcrs, pcrs)


@pytest.mark.parametrize("name", ["direct", "grub", "unified"])
def test_what_was_predicted_was_measured(name: str, boots: dict[str, Measured], folder: Path, initrd: Path) -> None:
    log = explained(boots[name])
    measured = [(entry.event.pcr, entry.event.claimed_type, entry.digest) for entry in log.events]
    expected = predicted(name, folder, initrd)

    assert not [event.title for event in expected if (event.pcr, event.event_type, event.digest) not in measured]
    # Nothing else was started, read or told, but the boot loader and its own commands.
    known = {event.digest for event in expected}
    others = [entry for entry in log.events if entry.event.pcr in {4, 9, 11} and entry.digest not in known]
    names = [str(entry.event.content()) for entry in others]
    loaders = [text for text in names if "BOOTX64.EFI" in text]
    assert len(loaders) == (1 if name == "grub" else 0)
    assert all("Separator" in text or "Calling EFI Application" in text or "BOOTX64.EFI" in text for text in names)


@pytest.mark.parametrize("name", ["direct", "grub", "unified"])
def test_a_policy_with_predicted_digests_trusts_the_boot_and_no_other(
    name: str, boots: dict[str, Measured], folder: Path, initrd: Path
) -> None:
    events = predicted(name, folder, initrd)
    rules = learn_policy([explained(boots[name], LEARNED_PCRS)], name="x", version=1, command_lines=_lines(events))

    for section in ("kernel", "initrd"):
        listed = getattr(rules, section).digests
        assert set(listed) == {event.digest for event in events if event.section == section}
    for other, measured in boots.items():
        found = findings(rules, explain_boot(rules, measured.pcrs, measured.event_log))
        assert (found == ()) == (other == name)


def _lines(events: tuple[PredictedEvent, ...]) -> list[str]:
    return [event.line for event in events if event.line]


@pytest.mark.parametrize("name", ["direct", "grub", "unified"])
def test_the_lists_of_ima_of_these_boots_lead_to_their_pcr_10(name: str, boots: dict[str, Measured]) -> None:
    measured = boots[name]

    proved = prove_measurements(measured.ima, ImaProgress.start(), measured.pcrs)
    from_text = prove_measurements(measurements_from_text(measured.ima_text), ImaProgress.start(), measured.pcrs)
    verdicts = compiled(ImaRules()).verdicts(proved, b"".join(boot_aggregates(measured.pcrs)))

    assert verdicts[0] == Verdict.BOOT_AGGREGATE
    assert from_text.progress.pcr == proved.progress.pcr
    assert [entry.path for entry in from_text.entries()] == [entry.path for entry in proved.entries()]


# ---- images ------------------------------------------------------------------------------------------------------


def test_a_signature_and_a_checksum_do_not_change_the_hash_of_an_image() -> None:
    kernel = bytearray(guest_kernel().read_bytes())
    expected = authenticode_hash(bytes(kernel))
    (pe_at,) = struct.unpack_from("<I", kernel, 0x3C)

    kernel[pe_at + 24 + 64] ^= 1  # the checksum
    kernel[-1] ^= 1  # inside of Debian's signature
    assert authenticode_hash(bytes(kernel)) == expected
    kernel[0x1000] ^= 1
    assert authenticode_hash(bytes(kernel)) != expected


def test_damaged_images_are_refused_or_hashed() -> None:
    image = Path(STUB).read_bytes()
    authenticode_hash(image)
    for damaged in (b"", b"MZ", image[:100], image[:0x1000], b"MZ" + bytes(4096)):
        with pytest.raises(EvidenceError, match="malformed"):
            authenticode_hash(damaged)
    for at in range(0x3C, 0x400):
        altered = bytearray(image)
        altered[at] ^= 0xFF
        try:
            authenticode_hash(bytes(altered))
            list(sections(bytes(altered)))
        except EvidenceError:
            continue


def test_what_is_no_kernel_is_not_loaded() -> None:
    for content in (b"", bytes(4096), guest_kernel().read_bytes()[:0x200]):
        with pytest.raises(EvidenceError, match="malformed"):
            as_qemu_loads(content, initrd_bytes=0, memory_mib=512)
    with pytest.raises(EvidenceError, match="no unified kernel image"):
        predict_unified(guest_kernel().read_bytes())
