"""Whether the libraries are there, and recent enough."""

import platform
import sys
from importlib import metadata

from tccp.cli.doctor.finding import Finding, Status

AREA = "libraries"
OPENSSL_MIN = (3, 0)
SODIUM_MIN = (1, 0, 20)
PYTHON_MIN = (3, 11)
# What pyproject.toml names, as distributions.
DISTRIBUTIONS = ("cryptography", "PyNaCl", "trio", "msgspec", "msgpack")


def findings() -> list[Finding]:
    """Look at this process's own libraries."""
    python = Finding(AREA, "python", Status.OK, f"Python {platform.python_version()}")
    if sys.version_info < PYTHON_MIN:
        python = python._replace(status=Status.FAIL, mend="Install Python 3.11 or later.")
    return [python, *_core(), *(_distribution(name) for name in DISTRIBUTIONS)]


def _core() -> list[Finding]:
    try:
        from tccp.core.library import library_versions
    except ImportError as error:
        return [
            Finding(AREA, "core", Status.FAIL, f"the C core does not load: {error}", "Build it anew: pip install tccp.")
        ]
    info = library_versions()
    return [
        _at_least("openssl", "OpenSSL", info.openssl, OPENSSL_MIN),
        _at_least("libsodium", "libsodium", info.sodium, SODIUM_MIN),
        _lanes(crypto_mb=info.crypto_mb_built),
    ]


def _lanes(*, crypto_mb: bool) -> Finding:
    from tccp.core.quote import lanes_available

    check = "lanes"
    if not lanes_available():
        return Finding(AREA, check, Status.OK, "OpenSSL verifies quotes: no AVX-512 IFMA in this CPU, or in this build")
    if crypto_mb:
        return Finding(AREA, check, Status.OK, "quotes are verified in eight lanes")
    return Finding(
        AREA,
        check,
        Status.WARN,
        "C core without Intel crypto_mb: quotes by P-384 keys are verified by OpenSSL",
        "Install `tccp[lanes]` from source: they are verified 8 times faster.",
    )


def _at_least(check: str, title: str, version: str, minimum: tuple[int, ...]) -> Finding:
    if parse_version(version) >= minimum:
        return Finding(AREA, check, Status.OK, f"{title} {version}")
    wanted = ".".join(map(str, minimum))
    return Finding(AREA, check, Status.FAIL, f"{title} {version}", f"Install {title} {wanted} or later.")


def parse_version(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``3.0.17-dev`` is (3, 0, 17)."""
    numbers: list[int] = []
    for part in version.replace("-", ".").split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _distribution(name: str) -> Finding:
    check = name.lower()
    try:
        return Finding(AREA, check, Status.OK, f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        return Finding(AREA, check, Status.FAIL, f"{name} is not installed", "Install tccp anew: pip install tccp.")
