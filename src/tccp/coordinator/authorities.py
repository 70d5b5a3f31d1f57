"""The TPM makers whose EK certificates this coordinator believes: the files of the configured folders, no others."""

from datetime import datetime
from pathlib import Path

from tccp.attestation.enrolment import CERTIFICATE_SUFFIXES, REVOCATION_SUFFIXES, EkAuthorities
from tccp.config import EnrolmentConfig
from tccp.errors import ConfigError, EnrolmentError

CERTIFICATE_BYTES_MAX = 4 << 20
FOLDERS = ("ek_authorities", "ek_intermediates")  # keys of [enrolment]


def load_authorities(config: EnrolmentConfig) -> EkAuthorities:
    """The configured authorities, and the revocations beside them; none when no folder is configured.

    Raises:
        ConfigError: A folder or a file in it cannot be read; the detail names it.
    """
    authorities, intermediates = (_read_folder(config, key, CERTIFICATE_SUFFIXES) for key in FOLDERS)
    return EkAuthorities(authorities.values(), intermediates.values(), _read_revocations(config).values())


def old_revocations(config: EnrolmentConfig, now: datetime) -> list[str]:
    """The files of revocations that their makers have replaced by *now*.

    Raises:
        ConfigError: As of `load_authorities`.
    """
    lists = _read_revocations(config)
    return [str(path) for path, content in lists.items() if EkAuthorities([], [], [content]).has_old_lists(now)]


def _read_revocations(config: EnrolmentConfig) -> dict[Path, bytes]:
    return {
        path: content for key in FOLDERS for path, content in _read_folder(config, key, REVOCATION_SUFFIXES).items()
    }


def _read_folder(config: EnrolmentConfig, key: str, suffixes: frozenset[str]) -> dict[Path, bytes]:
    folder = getattr(config, key)
    if folder is None:
        return {}
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in suffixes)
        return {path: _read(path) for path in paths}
    except OSError as problem:
        detail = f"enrolment.{key}: {problem.filename}: {problem.strerror}"
        raise ConfigError("authorities_unreadable", detail) from None


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
