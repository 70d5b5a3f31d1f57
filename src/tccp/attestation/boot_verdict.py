"""What was said of a boot, kept in a few bytes: the next quote of the same boot needs its log no more.

A boot's PCRs do not change while the host runs. So a verdict holds for every quote with the same values, as long as the
policy is the same, and a host of which one knows that much is judged again by comparing two hashes.
"""

import hashlib
from dataclasses import dataclass, field

from tccp.attestation.boot_judge import check_measurements
from tccp.attestation.boot_policy import BootPolicy
from tccp.attestation.ima import AcceptedMeasurements
from tccp.attestation.policy import TrustedPlatform, judged_platform
from tccp.attestation.quote import VerifiedQuote
from tccp.model import IMA_PCR, PcrValues

WARNINGS_MAX = 8
WARNING_CHARS_MAX = 256
_MADE = object()


@dataclass(frozen=True, slots=True)
class JudgedBoot:
    """PCR values that a policy has allowed once; made by `remember_boot` only.

    Args:
        warnings: The first of those that `TrustedPlatform` has, cut where they are long.
    """

    policy_sha256: bytes
    pcrs_sha256: bytes
    warnings: tuple[str, ...]
    _token: object = field(repr=False)

    def __post_init__(self) -> None:
        """Nobody but a policy allows a boot."""
        if self._token is not _MADE:
            raise TypeError("a JudgedBoot is made by remember_boot only")


def remember_boot(policy: BootPolicy, platform: TrustedPlatform) -> JudgedBoot:
    """What to keep of the verdict by which *policy* made *platform*."""
    assert (platform.policy_name, platform.policy_version) == (policy.name, policy.version)
    warnings = tuple(warning[:WARNING_CHARS_MAX] for warning in platform.warnings[:WARNINGS_MAX])
    return JudgedBoot(policy.sha256, boot_sha256(platform.quote.pcrs), warnings, _MADE)


def judge_again(
    policy: BootPolicy, quote: VerifiedQuote, judged: JudgedBoot | None, measurements: AcceptedMeasurements | None
) -> TrustedPlatform | None:
    """The platform behind *quote*, if *policy* has judged these very values before; else None: its log has to be read.

    Args:
        measurements: Those that the IMA policy accepted of this very quote; needed where *policy* names one.

    Raises:
        PolicyError: ``ima_not_judged``, ``ima_nothing_measured``.
    """
    if judged is None or judged.policy_sha256 != policy.sha256 or judged.pcrs_sha256 != boot_sha256(quote.pcrs):
        return None
    check_measurements(policy, quote.pcrs, measurements)
    return judged_platform(quote, policy.name, policy.version, warnings=judged.warnings)


def boot_sha256(pcrs: PcrValues) -> bytes:
    """Of the bank, and of indices and values of all PCRs but IMA's, which grows."""
    parts = [bytes([index]) + pcrs.values[index] for index in pcrs.selection.indexes if index != IMA_PCR]
    return hashlib.sha256(int(pcrs.selection.bank).to_bytes(2, "big") + b"".join(parts)).digest()
