"""``coordinator.toml``: also what `tccp-feeder` and `tccp-notifier` on the same machine read."""

from typing import Annotated, Literal

from msgspec import Meta

from tccp.config.tables import (
    EVENT_LOG,
    AbsolutePath,
    ControlConfig,
    HttpUrl,
    LogConfig,
    MetricsConfig,
    PcrIndex,
    Port,
    Table,
    TpmConfig,
)
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection


class CoordinatorTpmConfig(TpmConfig, frozen=True):
    """``[tpm]`` of a coordinator."""

    bank: Literal["sha256", "sha384", "sha512"] = "sha256"
    """The bank of PCRs that its own quotes show."""

    pcrs: Annotated[tuple[PcrIndex, ...], Meta(min_length=1)] = (0, 2, 4, 7)
    """The PCRs that its own quotes show, and the trust file pins; a change needs new trust files."""

    event_log: str = EVENT_LOG
    """The firmware's event log, shown to tenants; empty when there is none."""

    def __post_init__(self) -> None:
        """Nobody would believe PCRs that any software can reset."""
        if not RESETTABLE_PCRS.isdisjoint(self.pcrs):
            raise ValueError("pcrs: PCR 16 and 23 prove nothing: software can reset them")

    @property
    def selection(self) -> PcrSelection:
        """What this coordinator quotes."""
        return PcrSelection.of(PcrBank.from_name(self.bank), self.pcrs)


class CoordinatorControlConfig(ControlConfig, frozen=True):
    """``[control]`` of a coordinator."""

    socket: AbsolutePath = "/run/tccp/coordinator/control.sock"
    """Where the socket is. Under systemd the socket unit says so."""


class ListenConfig(Table, frozen=True):
    """``[listen]``: where nodes connect, unless systemd hands the socket over."""

    address: str = "0.0.0.0"  # noqa: S104 - nodes come from the network; what they say is verified
    """The address of this machine to listen on."""

    port: Port = 7443
    """The TCP port."""

    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """Nodes at once; further ones wait in the kernel's backlog."""

    workers: Annotated[int, Meta(ge=1, le=32)] = 1
    """Processes that do TLS for nodes; with one it is the coordinator's own, which is best on up to two cores."""


class TenantsConfig(Table, frozen=True):
    """``[tenants]``: where tenants connect, unless systemd hands the socket over."""

    address: str = "0.0.0.0"  # noqa: S104 - tenants come from anywhere, and are told what anybody may know
    """The address of this machine to listen on; `tccp-feeder` connects there, too."""

    port: Port = 7444
    """The TCP port."""

    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    """Tenants at once."""

    connections_per_address_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    """Tenants at once from one IPv4 address, or from one /64 of IPv6; further ones are closed at once."""

    log_url: Annotated[
        str,
        Meta(max_length=512, pattern=r"^\Z|^https?://[!-~]+\Z", title="an http:// or https:// URL, or empty"),
    ] = ""
    """What tenants are told about where the log is served: `https://log.example.net/`."""


class WitnessKeyConfig(Table, frozen=True):
    """``[[witness]]``: whose cosignatures are collected."""

    url: Annotated[HttpUrl, Meta(examples=["https://witness.example.net/"])]
    """Where `tccp-feeder` takes the checkpoints: `add-checkpoint` is below it."""

    key: Annotated[str, Meta(examples=["witness.example.net/w1+dcaa0527+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"])]
    """The witness's key: `tccp witness key` prints it."""


class LogServerConfig(Table, frozen=True):
    """``[log_server]``: where the log is served over HTTPS, unless systemd hands the socket over."""

    address: str = "0.0.0.0"  # noqa: S104 - the log is for everybody
    """The address of this machine to listen on."""

    port: Port = 7445
    """The TCP port."""

    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
    """Readers at once."""

    connections_per_address_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 50
    """Readers at once from one IPv4 address, or from one /64 of IPv6; further ones are closed at once."""

    certificate: Annotated[AbsolutePath | None, Meta(examples=["/etc/tccp/log.pem"])] = None
    """A PEM file of the server's certificate and its chain; without it the coordinator's own authority issues one at
    each start."""

    key: Annotated[AbsolutePath | None, Meta(examples=["/etc/tccp/log.key"])] = None
    """A PEM file of its key: the two go together; a reload reads them again."""

    def __post_init__(self) -> None:
        """One is nothing without the other."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key: both or neither")


class WebhookConfig(Table, frozen=True):
    """``[webhook]``: whom `tccp-notifier` tells of events."""

    url: Annotated[HttpUrl, Meta(examples=["https://alerts.example.net/tccp"])]
    """Gets a POST of JSON for each event, in order, until it answers 2xx."""

    kinds: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-z_]{1,64}\Z", title="the kind of an event")], ...],
        Meta(min_length=1, max_length=32),
    ] = ("revoke", "refuse", "told")
    """Of which events, as `tccp coordinator watch` names them."""

    secret: Annotated[AbsolutePath | None, Meta(examples=["/etc/tccp/webhook-secret"])] = None
    """A file of 16 to 1024 bytes, readable by the group tccp-notifier: signs each POST in its header tccp-signature."""

    state_directory: AbsolutePath = "/var/lib/tccp/notifier"
    """Where it is noted which event was told last."""


class EnrolmentConfig(Table, frozen=True):
    """``[enrolment]``: folders of certificates of TPM makers; none trusted unless listed."""

    ek_authorities: Annotated[AbsolutePath | None, Meta(examples=["/etc/tccp/ek-authorities"])] = None
    """A folder of certificates, PEM or DER (.pem, .crt, .cer, .der): each is trusted by itself. Lists of certificates
    that their makers have revoked (CRLs, .crl) may stand beside them."""

    ek_intermediates: Annotated[AbsolutePath | None, Meta(examples=["/etc/tccp/ek-intermediates"])] = None
    """A folder of certificates that help to build chains, and are trusted in nothing; and .crl files, likewise."""


class PoliciesConfig(Table, frozen=True):
    """``[policies]``: whose signatures policies need."""

    operator_keys: Annotated[tuple[AbsolutePath, ...], Meta(max_length=16, examples=[["/etc/tccp/operator.pub"]])] = ()
    """Files of public keys: a policy needs the signature of one of them, as `tccp policy sign tvmm.toml --key
    operator.key` makes it. With none, what an administrator adds needs no signature."""


class ImaConfig(Table, frozen=True):
    """``[ima]``: the folder of compiled IMA policies."""

    policies: Annotated[AbsolutePath | None, Meta(examples=["/etc/tccp/ima"])] = None
    """A folder of what `tccp policy compile tvmm.ima --measured host.ima` writes, `*.ima`; boot policies name them
    by their hash. Replace by renaming only. Without it no policy may ask for IMA."""


class LeaseConfig(Table, frozen=True):
    """``[leases]``: how long a verdict on a node holds."""

    seconds: Annotated[int, Meta(ge=2, le=86_400)] = 300
    """How long a lease holds. It is renewed before half of it is over, and ends by itself."""


class ReleaseConfig(Table, frozen=True):
    """``[releases]``: how old the evidence of a node may be that asks for keys; an older one has to quote first."""

    evidence_age_s: Annotated[int, Meta(ge=0, le=86_400)] = 0
    """In seconds. With 0 it quotes anew for each; more spares the TPMs of nodes that start many VMs at a time."""


class CoordinatorConfig(Table, frozen=True):
    """``coordinator.toml``."""

    state_directory: AbsolutePath = "/var/lib/tccp/coordinator"
    """Keys and database. Made by `tccp coordinator init`, kept for ever, backed up by you."""

    listen: ListenConfig = ListenConfig()
    """Where nodes connect. Under systemd the socket unit says where, and address and port here are not used."""

    tenants: TenantsConfig = TenantsConfig()
    """Where tenants connect, and whoever else wants to know this coordinator. The socket unit says where, likewise."""

    log_server: LogServerConfig = LogServerConfig()
    """Where the log is served over HTTPS, to anybody. The socket unit says where, likewise."""

    control: CoordinatorControlConfig = CoordinatorControlConfig()
    """The socket for the `tccp` command. root and the daemon's own user may do everything."""

    tpm: CoordinatorTpmConfig = CoordinatorTpmConfig()
    """The TPM of this machine, with which the coordinator proves itself to nodes and tenants."""

    enrolment: EnrolmentConfig = EnrolmentConfig()
    """Whose TPMs may be enrolled. Nobody's unless listed."""

    policies: PoliciesConfig = PoliciesConfig()
    """Whose signatures policies need."""

    ima: ImaConfig = ImaConfig()
    """Compiled IMA policies."""

    leases: LeaseConfig = LeaseConfig()
    """How long a verdict on a node holds."""

    releases: ReleaseConfig = ReleaseConfig()
    """How old the evidence of a node may be that asks for the keys of a VM."""

    witness: Annotated[tuple[WitnessKeyConfig, ...], Meta(max_length=8)] = ()
    """Whose cosignatures are collected, at most eight."""

    metrics: MetricsConfig | None = None
    """For Prometheus and health checks, over HTTP; without this table nobody listens (but on a socket of systemd's)."""

    webhook: WebhookConfig | None = None
    """Whom tccp-notifier tells of revocations and refusals; the coordinator itself calls nobody."""

    log: LogConfig = LogConfig()
    """What the daemon writes into its own log."""
