"""The TPM makers whose EK certificates this coordinator believes: the files of the configured folders, no others."""

from pathlib import Path

from tccp.attestation.enrolment import EkAuthorities
from tccp.config import EnrolmentConfig
from tccp.errors import ConfigError, EnrolmentError

CERTIFICATE_BYTES_MAX = 4 << 20
SUFFIXES = frozenset({".pem", ".crt", ".cer", ".der"})


def load_authorities(config: EnrolmentConfig) -> EkAuthorities:
    """The configured authorities; none when no folder is configured.

    Raises:
        ConfigError: A folder or a certificate in it cannot be read; the detail names it.
    """
    authorities = _read_folder(config.ek_authorities, "enrolment.ek_authorities")
    intermediates = _read_folder(config.ek_intermediates, "enrolment.ek_intermediates")
    return EkAuthorities(authorities, intermediates)


def _read_folder(folder: str | None, key: str) -> list[bytes]:
    if folder is None:
        return []
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.suffix in SUFFIXES)
        return [_read(path) for path in paths]
    except OSError as problem:
        raise ConfigError("authorities_unreadable", f"{key}: {problem.filename}: {problem.strerror}") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(CERTIFICATE_BYTES_MAX + 1)
    if len(content) > CERTIFICATE_BYTES_MAX:
        raise ConfigError("bad_authority", f"{path}: more than {CERTIFICATE_BYTES_MAX} bytes")
    try:
        EkAuthorities([content])  # alone, so that the message can name the file
    except EnrolmentError as problem:
        raise ConfigError("bad_authority", f"{path}: {problem}") from None
    return content
