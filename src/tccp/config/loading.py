"""A file that is right, as the object that a daemon works with."""

from pathlib import Path
from typing import TypeVar

import msgspec

from tccp.config.coordinator import CoordinatorConfig
from tccp.config.node import NodeConfig
from tccp.config.witness import WitnessConfig
from tccp.errors import ConfigError
from tccp.toml import parse_toml

C = TypeVar("C", bound=msgspec.Struct)

_HOW_TO_WRITE: dict[type, str] = {
    CoordinatorConfig: "`tccp coordinator init` writes one for a coordinator",
    NodeConfig: "`tccp config example node` prints one to start from",
    WitnessConfig: "`tccp witness init` writes one for a witness",
}


def load_config(path: Path, kind: type[C]) -> C:
    """The file at *path* as a *kind*.

    Raises:
        ConfigError: It cannot be read, is not TOML, or a key is unknown, missing or has no legal value; the
            detail reads ``node.toml:7: tpm.tcti: ...``.
    """
    content = read_config(path, kind)
    try:
        return msgspec.convert(parse_toml(content), kind, strict=True)
    except ValueError:  # of UTF-8, TOML, and msgspec
        from tccp.config.mistakes import find_mistakes  # noqa: PLC0415 - only where something is wrong

        first, *others = find_mistakes(content, kind)
        where = f"{path}:{first.line}" if first.line else str(path)
        hint = f"`tccp config check` tells all {len(others) + 1} mistakes" if others else first.suggestion
        raise ConfigError("config_invalid", f"{where}: {first}", hint=hint) from None


def read_config(path: Path, kind: type[msgspec.Struct]) -> bytes:
    """What stands in the file.

    Raises:
        ConfigError: ``config_unreadable``, with a hint how to get one where there is none.
    """
    try:
        return path.read_bytes()
    except OSError as problem:
        hint = _HOW_TO_WRITE.get(kind, "") if isinstance(problem, FileNotFoundError) else ""
        raise ConfigError("config_unreadable", f"{path}: {problem.strerror}", hint=hint) from None
