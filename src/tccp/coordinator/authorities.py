"""The TPM makers whose EK certificates this coordinator believes: the files of the configured folders, no others."""

from datetime import datetime
from pathlib import Path

import structlog

from tccp.attestation.enrolment import CERTIFICATE_SUFFIXES, REVOCATION_SUFFIXES, EkAuthorities
from tccp.config import EnrolmentConfig
from tccp.errors import ConfigError, EnrolmentError

CERTIFICATE_BYTES_MAX = 4 << 20

log = structlog.get_logger()


def load_authorities(config: EnrolmentConfig, now: datetime) -> EkAuthorities:
    """The configured authorities, and the revocations beside them; none when no folder is configured.

    Args:
        now: When; the log is told of revocations that have been replaced.

    Raises:
        ConfigError: A folder or a file in it cannot be read; the detail names it.
    """
    folders = {
        "enrolment.ek_authorities": config.ek_authorities,
        "enrolment.ek_intermediates": config.ek_intermediates,
    }
    authorities, intermediates = (_read_folder(folder, key, CERTIFICATE_SUFFIXES) for key, folder in folders.items())
    lists = [content for key, folder in folders.items() for content in _read_folder(folder, key, REVOCATION_SUFFIXES)]
    found = EkAuthorities(authorities, intermediates, lists)
    if found.has_old_lists(now):
        log.warning("revocations_outdated", files=old_revocations(config, now))
    return found


def old_revocations(config: EnrolmentConfig, now: datetime) -> list[str]:
    """The files of revocations that their makers have replaced by *now*.

    Raises:
        ConfigError: As of `load_authorities`.
    """
    return [
        str(path)
        for folder in (config.ek_authorities, config.ek_intermediates)
        for path in _paths(folder, REVOCATION_SUFFIXES)
        if EkAuthorities([], [], [_read(path)]).has_old_lists(now)
    ]


def _paths(folder: str | None, suffixes: frozenset[str]) -> list[Path]:
    return (
        sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in suffixes) if folder is not None else []
    )


def _read_folder(folder: str | None, key: str, suffixes: frozenset[str]) -> list[bytes]:
    try:
        return [_read(path) for path in _paths(folder, suffixes)]
    except OSError as problem:
        raise ConfigError("authorities_unreadable", f"{key}: {problem.filename}: {problem.strerror}") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(CERTIFICATE_BYTES_MAX + 1)
    if len(content) > CERTIFICATE_BYTES_MAX:
        raise ConfigError("bad_authority", f"{path}: more than {CERTIFICATE_BYTES_MAX} bytes")
    try:
        # Alone, so that the message can name the file.
        EkAuthorities([], [], [content]) if path.suffix.lower() in REVOCATION_SUFFIXES else EkAuthorities([content])
    except EnrolmentError as problem:
        raise ConfigError("bad_authority", f"{path}: {problem}") from None
    return content
