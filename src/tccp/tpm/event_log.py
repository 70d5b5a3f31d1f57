"""The firmware's event log as the kernel gives it."""

from pathlib import Path

from tccp.errors import HostError

EVENT_LOG_BYTES_MAX = 768 * 1024


def read_event_log(path: Path | None) -> bytes:
    """What the firmware measured; empty when there is no log, or no *path*.

    Raises:
        HostError: ``event_log``: there is one, and it cannot be read or is too large to send.
    """
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            content = file.read(EVENT_LOG_BYTES_MAX + 1)
    except FileNotFoundError:
        return b""
    except OSError as problem:
        raise HostError("event_log", f"{path}: {problem.strerror}") from None
    if len(content) > EVENT_LOG_BYTES_MAX:
        raise HostError("event_log", f"{path}: more than {EVENT_LOG_BYTES_MAX} bytes")
    return content
