"""``witness.toml``."""

from typing import Annotated

from msgspec import Meta

from tccp.config.tables import AbsolutePath, LogConfig, Port, Table

_LOG = "39336434613931316331643665376532.tccp.internal/log"


class WitnessListenConfig(Table, frozen=True):
    """``[listen]`` of a witness."""

    address: str = "127.0.0.1"
    """The address of this machine to listen on."""

    port: Port = 7446
    """The TCP port."""

    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """Logs at once."""


class WitnessedLogConfig(Table, frozen=True):
    """``[[logs]]``: a log that is witnessed."""

    key: Annotated[str, Meta(examples=[f"{_LOG}+b58a18da+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"])]
    """The log's key, `name+id+key`; `tccp trust show` prints a coordinator's."""

    origin: Annotated[str, Meta(examples=[_LOG])] = ""
    """The log's name, where it is not that of its key."""


class WitnessConfig(Table, frozen=True):
    """``witness.toml``."""

    name: Annotated[str, Meta(min_length=1, max_length=255, examples=["witness.example.net/w1"])]
    """The name of its key, which tenants and logs know it by."""

    state_directory: AbsolutePath = "/var/lib/tccp/witness"
    """Key and memory. Made by `tccp witness init`. Never put the memory back from a copy: it would have forgotten
    something."""

    listen: WitnessListenConfig = WitnessListenConfig()
    """Where logs connect, with HTTP; behind a web server that speaks TLS. The socket unit says where, under systemd."""

    logs: tuple[WitnessedLogConfig, ...] = ()
    """Each log that is witnessed."""

    log: LogConfig = LogConfig()
    """What the daemon writes into its own log."""
