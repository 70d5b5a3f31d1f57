"""``node.toml``."""

from typing import Annotated

from msgspec import Meta

from tccp.config.tables import (
    EVENT_LOG,
    IMA_LIST,
    AbsolutePath,
    ControlConfig,
    LogConfig,
    MetricsConfig,
    Table,
    TpmConfig,
)
from tccp.model import NodeName


class NodeTpmConfig(TpmConfig, frozen=True):
    """``[tpm]`` of a node."""

    event_log: str = EVENT_LOG
    """The firmware's event log; empty when there is none."""

    ima_list: str = IMA_LIST
    """IMA's measurement list, sent where the policy asks for it; empty when there is none."""


class NodeControlConfig(ControlConfig, frozen=True):
    """``[control]`` of a node."""

    socket: AbsolutePath = "/run/tccp/node/control.sock"
    """Where the socket is. Under systemd the socket unit says so."""


class NodeCoordinatorConfig(Table, frozen=True):
    """``[coordinator]`` of a node."""

    address: Annotated[
        str,
        Meta(
            pattern=r"^[^\s:]+:[0-9]{1,5}\Z|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}\Z",
            title="HOST:PORT or [IPV6]:PORT",
            examples=["coordinator.example.org:7443"],
        ),
    ]
    """Host and port of the coordinator."""

    trust_file: Annotated[AbsolutePath, Meta(examples=["/etc/tccp/coordinator-trust.toml"])]
    """What `tccp coordinator trust` printed. It holds the door key: only root and the node's daemon may read it."""

    def __post_init__(self) -> None:
        """The pattern cannot count."""
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"address: {self.port} is not a TCP port")

    @property
    def host(self) -> str:
        """The host part of the address, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of the address."""
        return int(self.address.rpartition(":")[2])


class VmsConfig(Table, frozen=True):
    """``[vms]`` of a node."""

    run: AbsolutePath = "/run/tccp/node/vms"
    """Consoles and sockets of VMs that run."""

    state: AbsolutePath = "/var/lib/tccp/node/vms"
    """Live disks, and the state of vTPMs: ciphertext."""

    first_user: Annotated[Annotated[int, Meta(ge=1000, le=4_294_000_000)] | None, Meta(examples=[2_000_000_000])] = None
    """The first of the users (numbers that nobody else has) as which each VM runs alone; root needs them."""

    users: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """How many of them there are: as many VMs at once."""

    console_group: Annotated[str | None, Meta(examples=["tccp-admin"])] = None
    """Whose members may open consoles, beside root."""

    move_address: Annotated[
        Annotated[str, Meta(min_length=1, max_length=128)] | None, Meta(examples=["192.0.2.17"])
    ] = None
    """The address of this host to which other nodes send running VMs, on any free port; without it none comes."""

    mark_every_s: Annotated[int, Meta(ge=1, le=3600)] = 5
    """How often, in seconds, it is registered how far live disks have come: no older one passes after a crash."""


class NodeConfig(Table, frozen=True):
    """``node.toml``."""

    name: Annotated[str, Meta(examples=["rack1-07"])]
    """The name under which this host's TPM is enrolled: a-z, 0-9, '-' and '.'."""

    coordinator: NodeCoordinatorConfig
    """Where the coordinator is, and what it must prove before this node says a word."""

    control: NodeControlConfig = NodeControlConfig()
    """The socket for the `tccp` command. root and the daemon's own user may do everything."""

    tpm: NodeTpmConfig = NodeTpmConfig()
    """The TPM of this machine, and what its firmware and kernel measured."""

    vms: VmsConfig | None = None
    """Where VMs live, and as which users each runs. A node without this table runs no VMs."""

    metrics: MetricsConfig | None = None
    """For Prometheus and health checks, over HTTP; without this table nobody listens (but on a socket of systemd's)."""

    log: LogConfig = LogConfig()
    """What the daemon writes into its own log."""

    def __post_init__(self) -> None:
        """The name is one that a coordinator can enrol."""
        try:
            NodeName(self.name)
        except ValueError as problem:
            raise ValueError(f"name: {problem}") from None
