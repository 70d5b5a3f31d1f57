"""Boot four guests under OVMF and keep what they measured: ``python -m tests.vectors.boot.make``."""

import json
import subprocess
import tempfile
from pathlib import Path

from tests.support.guest import guest_kernel
from tests.support.measured_guest import CONSOLE, Measured, boot_measured, grub_partition, make_initrd, unified_image

HERE = Path(__file__).parent
COMMAND_LINE = f"{CONSOLE} lockdown=integrity module.sig_enforce=1"
IMA_COMMAND_LINE = "ima_policy=tcb ima_hash=sha256 ima_template=ima-sig lockdown=integrity"
IMA_SCRIPT = r"""printf 'measure func=BPRM_CHECK\nmeasure func=FILE_CHECK mask=MAY_READ\n' > $S/ima/policy
echo hello > /tmp/file; cat /tmp/file
exec 3>>/tmp/open; cat /tmp/open; exec 3>&-
"""
SNAKEOIL = Path("/usr/share/ovmf/PkKek-1-snakeoil.key")


def keep(name: str, measured: Measured) -> None:
    """Write one folder."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "event_log.bin").write_bytes(measured.event_log)
    (folder / "ima.bin").write_bytes(measured.ima)
    values = {str(index): value.hex() for index, value in measured.pcrs.values.items()}
    (folder / "pcrs.json").write_text(json.dumps({"sha256": values}, indent=1) + "\n")


def sign(image: Path, work: Path) -> bytes:
    """The image, signed by the key that OVMF's variables call snakeoil."""
    key, signed = work / "key.pem", work / "signed.efi"
    subprocess.run(["openssl", "rsa", "-in", SNAKEOIL, "-passin", "pass:snakeoil", "-out", key], check=True)
    certificate = SNAKEOIL.with_suffix(".pem")
    subprocess.run(["sbsign", "--key", key, "--cert", certificate, "--output", signed, image], check=True)
    return signed.read_bytes()


def main() -> None:
    """Boot all four."""
    kernel = guest_kernel()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        measuring = make_initrd(work / "measuring", IMA_SCRIPT)
        initrd = make_initrd(work / "initrd")
        keep("direct", boot_measured(work / "1", kernel=kernel, initrd=measuring, command_line=IMA_COMMAND_LINE))
        keep("grub", boot_measured(work / "2", esp=grub_partition(work, kernel, initrd, COMMAND_LINE)))
        image = unified_image(work, kernel, initrd, COMMAND_LINE)
        keep("unified", boot_measured(work / "3", esp={"EFI/BOOT/BOOTX64.EFI": image.read_bytes()}))
        keep(
            "secure_boot",
            boot_measured(
                work / "4",
                esp={"EFI/BOOT/BOOTX64.EFI": sign(image, work)},
                firmware="OVMF_CODE_4M.secboot.fd",
                variables="OVMF_VARS_4M.snakeoil.fd",
            ),
        )


if __name__ == "__main__":
    main()
