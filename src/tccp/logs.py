"""Logs of the daemons: JSON lines for the journal, text for people; neither carries a secret or a control character.

A log line may hold what a peer sent: it is escaped and cut before it is drawn, so that nobody can forge a line or talk
to the reader's terminal. Raw bytes are never drawn, only counted; who wants them in a log says ``.hex()`` on purpose.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Literal, get_args

import structlog

from tccp import printable
from tccp.errors import ConfigError
from tccp.model import SecretBytes

__all__ = ["Format", "Level", "configure", "escape"]

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

TEXT_CHARACTERS_MAX = 2048
ITEMS_MAX = 64
DEPTH_MAX = 4
LEFT_OUT = "(secret left out)"
# `ak_public_key` and `key_id` may be logged; `vm_key`, `signing_key`, `key_material` and `password` may not.
SECRET_NAME = re.compile(
    r"(?:^|_)(?:secret|password|passphrase|passwd|seed|key_material|token|bearer)(?:s|_|$)"
    r"|(?:^|_)(?:private|secret|signing|vm|image|wrap|wrapping|session|sealing|hpke|tls)_keys?$"
)
# syslog(3): what journalctl -p filters by.
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

Event = MutableMapping[str, Any]


def configure(*, log_format: Format = "auto", level: Level = "info", strict: bool | None = None) -> None:
    """Set up structlog for this process; may be called again when the configuration is reloaded.

    Args:
        log_format: ``"auto"`` is JSON when stderr is the journal, and text otherwise.
        level: The least severe level that is written.
        strict: A secret in a log call raises AssertionError, as a bug of ours, instead of being left out; by default
            in Python's development mode (``python -X dev``).

    Raises:
        ConfigError: There is no such format or level.
    """
    if log_format not in get_args(Format):
        raise ConfigError("log_format", f"{log_format!r} is not a log format; one of {', '.join(get_args(Format))}")
    if level not in get_args(Level):
        raise ConfigError("log_level", f"{level!r} is not a log level; one of {', '.join(get_args(Level))}")
    to_journal = _stderr_is_the_journal()
    as_json = log_format == "json" or (log_format == "auto" and to_journal)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Cleaner(strict=sys.flags.dev_mode if strict is None else strict),
            _JsonRenderer(with_priority=to_journal) if as_json else _text_renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=False,
    )


def escape(text: str) -> str:
    r"""*text* on one line, with everything that is not plainly visible as ``\x1b`` or ``\u202e``, cut at 2048."""
    if len(text) > TEXT_CHARACTERS_MAX:
        text = f"{text[:TEXT_CHARACTERS_MAX]} ... ({len(text) - TEXT_CHARACTERS_MAX} characters more)"
    return printable.escape(text)


def _stderr_is_the_journal() -> bool:
    """JOURNAL_STREAM is inherited by every child, also by those with another stderr: compare (systemd.exec(5))."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Cleaner:
    """Makes every value of an event printable, bounded and free of secrets; tracebacks become lists of lines."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        exc_info = event.pop("exc_info", None)
        cleaned = {escape(str(name)): self._value(str(name), value, DEPTH_MAX) for name, value in event.items()}
        if error := _exception_of(exc_info):
            cleaned["exception"] = [
                escape(line) for part in traceback.format_exception(error) for line in part.rstrip("\n").split("\n")
            ]
        return cleaned

    def _value(self, name: str, value: object, depth: int) -> object:
        if isinstance(value, SecretBytes) or SECRET_NAME.search(name.lower()):
            assert not self._strict, f"a secret was given to the log as {name!r}"
            return LEFT_OUT
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return f"({len(value)} bytes)"
        if depth and isinstance(value, Mapping):
            return {escape(str(key)): self._value(str(key), item, depth - 1) for key, item in _first(value.items())}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._value("", item, depth - 1) for item in _first(value)]
        return escape(str(value))


def _first(items: Iterable[Any]) -> Iterable[Any]:
    return (item for item, _ in zip(items, range(ITEMS_MAX), strict=False))


def _exception_of(exc_info: object) -> BaseException | None:
    """The exception that ``exc_info=True``, an exception, or what ``sys.exc_info()`` gave, means."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


class _JsonRenderer:
    """One JSON object a line; in the journal with the priority before it, which the journal takes off."""

    def __init__(self, *, with_priority: bool) -> None:
        self._with_priority = with_priority

    def __call__(self, _logger: object, _method: str, event: Event) -> str:
        prefix = f"<{PRIORITIES[event['level']]}>" if self._with_priority else ""
        return prefix + json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _text_renderer() -> Any:
    """structlog's own console; tracebacks are indented, so that no exception's message can look like a log line."""
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    draw = structlog.dev.ConsoleRenderer(colors=colours)

    def render(logger: Any, method: str, event: Event) -> str:
        lines = event.pop("exception", [])
        return "\n    | ".join([draw(logger, method, event), *lines])

    return render


class _StderrLogger:
    """Writes lines to stderr at once; a full disk or a closed pipe costs lines, and never stops the daemon."""

    _lost = 0

    def __init__(self, *_: object) -> None:
        pass

    def _write(self, line: str) -> None:
        lost = f"({_StderrLogger._lost} log lines could not be written)\n" if _StderrLogger._lost else ""
        left = memoryview((lost + line + "\n").encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[os.write(2, left) :]
            _StderrLogger._lost = 0
        except OSError:
            _StderrLogger._lost += 1

    msg = debug = info = warning = error = critical = exception = fatal = log = _write
