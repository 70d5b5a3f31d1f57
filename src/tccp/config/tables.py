"""What the files of several daemons have in common.

Below each key stands what it means, once: the reference, the examples and the man pages are made from it. How a value
must look is its type; ``title`` is what people are told of a pattern, ``examples`` stands for what has no default.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65_535)]
AbsolutePath = Annotated[str, Meta(pattern=r"^/", title="an absolute path")]
PcrIndex = Annotated[int, Meta(ge=0, le=23)]
HttpUrl = Annotated[str, Meta(max_length=512, pattern=r"^https?://[!-~]+\Z", title="an http:// or https:// URL")]
IMA_LIST = "/sys/kernel/security/ima/binary_runtime_measurements"
EVENT_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of a file."""


class TpmConfig(Table, frozen=True):
    """``[tpm]``: the TPM of this host."""

    tcti: str = "device:/dev/tpmrm0"
    """Where the TPM is: `device:PATH`, or `swtpm:path=PATH` for trials."""

    ak: Literal["ecc", "rsa"] = "ecc"
    """The kind of its attestation key; a change at a coordinator needs new trust files."""


class ControlConfig(Table, frozen=True):
    """``[control]``: the Unix socket for the `tccp` command."""

    socket: AbsolutePath
    """Where the socket is. Under systemd the socket unit says so."""

    admin_group: str = "tccp-admin"
    """Its members may change things."""

    viewer_group: str = "tccp-viewer"
    """Its members may look."""


class LogConfig(Table, frozen=True):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is too unimportant to be told."""

    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: JSON to the journal, text to a terminal."""


class MetricsConfig(Table, frozen=True):
    """``[metrics]``: where monitoring systems ask over HTTP; nowhere without it, or a socket of systemd's."""

    address: str = "127.0.0.1"
    """Whoever reaches it reads all of it."""

    port: Port = 7447
    """The TCP port."""
