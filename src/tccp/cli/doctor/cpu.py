"""Which instructions of this CPU the hot paths can use."""

from typing import NamedTuple

from tccp.cli.doctor.finding import Finding, Status

AREA = "cpu"
CPUINFO = "/proc/cpuinfo"
CPUINFO_BYTES_MAX = 1 << 20


class Feature(NamedTuple):
    """An instruction set: its names in /proc/cpuinfo (x86, arm64), and what it is worth."""

    check: str
    title: str
    flags: frozenset[str]
    without: str


FEATURES = (
    Feature(
        "aes", "AES instructions", frozenset({"aes"}), "Images are encrypted with XChaCha20-Poly1305, 6 times slower."
    ),
    Feature(
        "sha", "SHA-2 instructions", frozenset({"sha_ni", "sha2"}), "Logs are hashed with plain code, 4 times slower."
    ),
    Feature(
        "avx512_ifma",
        "AVX-512 IFMA",
        frozenset({"avx512ifma"}),
        "Quotes are verified by OpenSSL, 2 to 4 times slower.",
    ),
)


def findings(cpuinfo: str) -> list[Finding]:
    """Judge the text of /proc/cpuinfo. Nothing here is needed for tccp to work, only for it to be fast."""
    flags = cpu_flags(cpuinfo)
    if not flags:
        return [Finding(AREA, "features", Status.WARN, f"{CPUINFO} lists no CPU features", "Mount /proc.")]
    return [
        Finding(AREA, feature.check, Status.OK, f"{feature.title}: there")
        if flags & feature.flags
        else Finding(AREA, feature.check, Status.WARN, f"{feature.title}: missing", feature.without)
        for feature in FEATURES
    ]


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The features of the first CPU: the line is called ``flags`` on x86 and ``Features`` on arm64."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()
