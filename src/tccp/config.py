"""One TOML file for each daemon, checked whole before anything starts. An unknown key is an error."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from tccp.errors import ConfigError
from tccp.model import RESETTABLE_PCRS, NodeName, PcrBank, PcrSelection

Port = Annotated[int, Meta(ge=0, le=65_535)]
AbsolutePath = Annotated[str, Meta(pattern=r"^/")]
PcrIndex = Annotated[int, Meta(ge=0, le=23)]
IMA_LIST = "/sys/kernel/security/ima/binary_runtime_measurements"
EVENT_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
C = TypeVar("C", bound=msgspec.Struct)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class TpmConfig(_Table, frozen=True):
    """``[tpm]``: the TPM of this host."""

    tcti: str = "device:/dev/tpmrm0"
    ak: Literal["ecc", "rsa"] = "ecc"


class CoordinatorTpmConfig(TpmConfig, frozen=True):
    """``[tpm]`` of a coordinator: beside, the PCRs that its own quotes show, and the log that explains them."""

    bank: Literal["sha256", "sha384", "sha512"] = "sha256"
    pcrs: Annotated[tuple[PcrIndex, ...], Meta(min_length=1)] = (0, 2, 4, 7)
    event_log: str = EVENT_LOG

    def __post_init__(self) -> None:
        """Nobody would believe PCRs that any software can reset."""
        if not RESETTABLE_PCRS.isdisjoint(self.pcrs):
            raise ValueError("PCR 16 and 23 prove nothing: software can reset them")

    @property
    def selection(self) -> PcrSelection:
        """What this coordinator quotes."""
        return PcrSelection.of(PcrBank.from_name(self.bank), self.pcrs)


class NodeTpmConfig(TpmConfig, frozen=True):
    """``[tpm]`` of a node: beside, where its firmware's event log and IMA's list are; empty when there is none."""

    event_log: str = EVENT_LOG
    ima_list: str = IMA_LIST


class ControlConfig(_Table, frozen=True):
    """``[control]``: the Unix socket for the `tccp` command."""

    socket: AbsolutePath
    admin_group: str = "tccp-admin"
    viewer_group: str = "tccp-viewer"


class CoordinatorControlConfig(ControlConfig, frozen=True):
    """``[control]`` of a coordinator."""

    socket: AbsolutePath = "/run/tccp/coordinator/control.sock"


class NodeControlConfig(ControlConfig, frozen=True):
    """``[control]`` of a node."""

    socket: AbsolutePath = "/run/tccp/node/control.sock"


class LogConfig(_Table, frozen=True):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class ListenConfig(_Table, frozen=True):
    """``[listen]``: where nodes connect, unless systemd hands the socket over; and how many processes do their TLS, one
    meaning the coordinator's own.
    """

    address: str = "0.0.0.0"  # noqa: S104 - nodes come from the network; what they say is verified
    port: Port = 7443
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    workers: Annotated[int, Meta(ge=1, le=32)] = 1


class TenantsConfig(_Table, frozen=True):
    """``[tenants]``: where tenants connect, unless systemd hands the socket over."""

    address: str = "0.0.0.0"  # noqa: S104 - tenants come from anywhere, and are told what anybody may know
    port: Port = 7444
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    log_url: Annotated[str, Meta(max_length=512, pattern=r"^$|^https?://[!-~]+$")] = ""


class WitnessKeyConfig(_Table, frozen=True):
    """``[[witness]]``: whose cosignatures are collected; `tccp-feeder` takes checkpoints to *url*."""

    url: Annotated[str, Meta(max_length=512, pattern=r"^https?://[!-~]+$")]
    key: str


class LogServerConfig(_Table, frozen=True):
    """``[log_server]``: where the log is served over HTTPS, unless systemd hands the socket over; and with which
    certificate, if not one of the coordinator's own authority.
    """

    address: str = "0.0.0.0"  # noqa: S104 - the log is for everybody
    port: Port = 7445
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
    certificate: AbsolutePath | None = None
    key: AbsolutePath | None = None

    def __post_init__(self) -> None:
        """One is nothing without the other."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key: both or neither")


class MetricsConfig(_Table, frozen=True):
    """``[metrics]``: where monitoring systems ask over HTTP; nowhere without it, or a socket of systemd's."""

    address: str = "127.0.0.1"
    port: Port = 7447


class WebhookConfig(_Table, frozen=True):
    """``[webhook]``: whom `tccp-notifier` tells of events, and of which; with a secret it signs what it says."""

    url: Annotated[str, Meta(max_length=512, pattern=r"^https?://[!-~]+$")]
    kinds: Annotated[tuple[Annotated[str, Meta(pattern=r"^[a-z_]{1,64}$")], ...], Meta(min_length=1, max_length=32)] = (
        "revoke",
        "refuse",
        "told",
    )
    secret: AbsolutePath | None = None
    state_directory: AbsolutePath = "/var/lib/tccp/notifier"


class EnrolmentConfig(_Table, frozen=True):
    """``[enrolment]``: folders of PEM or DER certificates of TPM makers; none trusted unless listed."""

    ek_authorities: AbsolutePath | None = None
    ek_intermediates: AbsolutePath | None = None


class PoliciesConfig(_Table, frozen=True):
    """``[policies]``: whose signatures policies need; where none is named, what an administrator adds needs none."""

    operator_keys: Annotated[tuple[AbsolutePath, ...], Meta(max_length=16)] = ()


class ImaConfig(_Table, frozen=True):
    """``[ima]``: the folder of compiled IMA policies (``*.ima``)."""

    policies: AbsolutePath | None = None


class LeaseConfig(_Table, frozen=True):
    """``[leases]``: how long a verdict on a node holds; it is renewed when half of that is over."""

    seconds: Annotated[int, Meta(ge=2, le=86_400)] = 300


class ReleaseConfig(_Table, frozen=True):
    """``[releases]``: how old the evidence of a node may be that asks for keys; an older one has to quote first."""

    evidence_age_s: Annotated[int, Meta(ge=0, le=86_400)] = 0


class CoordinatorConfig(_Table, frozen=True):
    """``coordinator.toml``."""

    state_directory: AbsolutePath = "/var/lib/tccp/coordinator"
    listen: ListenConfig = ListenConfig()
    tenants: TenantsConfig = TenantsConfig()
    log_server: LogServerConfig = LogServerConfig()
    control: CoordinatorControlConfig = CoordinatorControlConfig()
    tpm: CoordinatorTpmConfig = CoordinatorTpmConfig()
    enrolment: EnrolmentConfig = EnrolmentConfig()
    policies: PoliciesConfig = PoliciesConfig()
    ima: ImaConfig = ImaConfig()
    leases: LeaseConfig = LeaseConfig()
    releases: ReleaseConfig = ReleaseConfig()
    witness: Annotated[tuple[WitnessKeyConfig, ...], Meta(max_length=8)] = ()
    metrics: MetricsConfig | None = None
    webhook: WebhookConfig | None = None
    log: LogConfig = LogConfig()


class NodeCoordinatorConfig(_Table, frozen=True):
    """``[coordinator]`` of a node: where it is, and what it must prove (`tccp coordinator trust`)."""

    address: Annotated[str, Meta(pattern=r"^[^\s:]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$")]
    trust_file: AbsolutePath

    def __post_init__(self) -> None:
        """The pattern cannot count."""
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"{self.port} is no TCP port")

    @property
    def host(self) -> str:
        """The host part of the address, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of the address."""
        return int(self.address.rpartition(":")[2])


class VmsConfig(_Table, frozen=True):
    """``[vms]`` of a node: where VMs live, and as which users each runs alone. Without it the node runs none."""

    run: AbsolutePath = "/run/tccp/node/vms"
    state: AbsolutePath = "/var/lib/tccp/node/vms"
    first_user: Annotated[int, Meta(ge=1000, le=4_294_000_000)] | None = None
    users: Annotated[int, Meta(ge=1, le=10_000)] = 256
    console_group: str | None = None
    move_address: Annotated[str, Meta(min_length=1, max_length=128)] | None = None  # on which VMs come from other nodes


class NodeConfig(_Table, frozen=True):
    """``node.toml``."""

    name: str
    coordinator: NodeCoordinatorConfig
    control: NodeControlConfig = NodeControlConfig()
    tpm: NodeTpmConfig = NodeTpmConfig()
    vms: VmsConfig | None = None
    metrics: MetricsConfig | None = None
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        """The name is one that a coordinator can enrol."""
        NodeName(self.name)


class WitnessListenConfig(_Table, frozen=True):
    """``[listen]`` of a witness: HTTP, unless systemd hands the socket over."""

    address: str = "127.0.0.1"
    port: Port = 7446
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 256


class WitnessedLogConfig(_Table, frozen=True):
    """``[[logs]]``: a log that is witnessed.

    Attributes:
        key: ``name+id+key``; `tccp trust show` prints a coordinator's.
        origin: The log's name, where it is not that of its key.
    """

    key: str
    origin: str = ""


class WitnessConfig(_Table, frozen=True):
    """``witness.toml``."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    state_directory: AbsolutePath = "/var/lib/tccp/witness"
    listen: WitnessListenConfig = WitnessListenConfig()
    logs: tuple[WitnessedLogConfig, ...] = ()
    log: LogConfig = LogConfig()


_HOW_TO_WRITE: dict[type, str] = {
    CoordinatorConfig: "`tccp coordinator init` writes one for a coordinator",
    NodeConfig: "docs/examples/node.toml is one to start from",
}


def load_config(path: Path, kind: type[C]) -> C:
    """The file at *path* as a *kind*.

    Raises:
        ConfigError: It cannot be read, is not TOML, or a key is unknown, missing or has no legal value; the
            detail reads ``node.toml: tpm.tcti: ...``.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as problem:
        hint = _HOW_TO_WRITE.get(kind, "") if isinstance(problem, FileNotFoundError) else ""
        raise ConfigError("config_unreadable", f"{path}: {problem.strerror}", hint=hint) from None
    except UnicodeDecodeError:
        raise ConfigError("config_invalid", f"{path}: not UTF-8 text") from None
    try:
        return msgspec.convert(tomllib.loads(text), kind, strict=True)
    except (tomllib.TOMLDecodeError, RecursionError) as problem:
        raise ConfigError("config_invalid", f"{path}: {problem}") from None
    except msgspec.ValidationError as problem:
        raise ConfigError("config_invalid", f"{path}: {_readable(str(problem))}") from None


def _readable(problem: str) -> str:
    """``Expected `int`, got `str` - at `$.tpm.ak``` -> ``tpm.ak: Expected `int`, got `str```."""
    message, _, place = problem.partition(" - at `$")
    key = re.sub(r"^\.", "", place.rstrip("`"))
    return f"{key}: {message}" if key else message
