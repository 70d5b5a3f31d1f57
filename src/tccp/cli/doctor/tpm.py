"""Whether the TPM is there, answers, and can prove who made it."""

import math
from typing import TYPE_CHECKING

from tccp.cli.doctor.finding import Finding, Status
from tccp.errors import TccpError

if TYPE_CHECKING:
    from tccp.tpm.client import Tpm

AREA = "tpm"
# A TPM takes seconds for a key at most; the doctor's patience ends sooner than a daemon's.
ANSWER_S = 30.0


def findings(tcti: str) -> list[Finding]:
    """Open the TPM that *tcti* names, and look at it; nothing in it is changed.

    Only a TPM without a resource manager (swtpm, ``/dev/tpm0``) loses the transient objects of earlier clients.
    """
    import trio

    found: list[Finding] = []
    trio.run(_examine, tcti, found)
    return found


async def _examine(tcti: str, found: list[Finding]) -> None:
    from tccp.tpm.client import open_tpm

    try:
        async with open_tpm(tcti, timeout_s=ANSWER_S) as tpm:
            found.append(Finding(AREA, "open", Status.OK, f"{tcti} answers"))
            for check, look in CHECKS.items():
                try:
                    found.append(await look(tpm))
                except TccpError as error:
                    found.append(_failure(check, error))
    except TccpError as error:
        found.append(_failure("open", error))


def _failure(check: str, error: TccpError) -> Finding:
    return Finding(AREA, check, Status.FAIL, str(error), error.hint)


async def _maker(tpm: "Tpm") -> Finding:
    properties = await tpm.properties()
    found = f"made by {properties.manufacturer or '?'} ({properties.vendor or '?'}), firmware {properties.firmware}"
    return Finding(AREA, "maker", Status.OK, found)


async def _banks(tpm: "Tpm") -> Finding:
    from tccp.model import PcrBank

    banks = await tpm.pcr_banks()
    found = f"PCR banks: {', '.join(bank.hash_name for bank in banks) or 'none'}"
    if set(banks) <= {PcrBank.SHA1}:
        mend = "Switch the sha256 bank on in the firmware set-up, or by tpm2_pcrallocate and a reboot."
        return Finding(AREA, "banks", Status.FAIL, found, mend)
    return Finding(AREA, "banks", Status.OK, found)


async def _clock(tpm: "Tpm") -> Finding:
    clock = await tpm.read_clock()
    found = (
        f"clock {math.floor(clock.clock_ms / 1000)} s, {clock.reset_count} resets, {clock.restart_count} restarts"
        + ("" if clock.safe else ", not safe: the TPM lost power without warning")
    )
    return Finding(AREA, "clock", Status.OK, found)


async def _ek_certificate(tpm: "Tpm") -> Finding:
    ek = await tpm.read_ek()
    if ek.certificate is not None:
        found = f"EK certificate of {len(ek.certificate)} bytes, about the EK that the TPM holds"
        return Finding(AREA, "ek_certificate", Status.OK, found)
    return Finding(
        AREA,
        "ek_certificate",
        Status.WARN,
        "the TPM holds no EK certificate",
        "Get it from the maker, or enrol this node by its EK itself: tccp coordinator enrol --ek-public.",
    )


CHECKS = {"maker": _maker, "banks": _banks, "clock": _clock, "ek_certificate": _ek_certificate}
