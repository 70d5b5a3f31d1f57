"""The node's side of the exchange: check the coordinator, prove ourselves, hold the lease as long as we can.

The lease ends by time, on the node as well: nobody has to reach it. Whoever needs the lease asks `HeldLease.holds`.
"""

import datetime as dt
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from tccp.errors import ProtocolError
from tccp.model import PcrBank, PcrSelection, spki_sha256
from tccp.node.coordinator_check import check_admission, check_coordinator
from tccp.node.identity import NodeIdentity
from tccp.node.ima_list import ImaList
from tccp.node.key_desk import KeyDesk
from tccp.protocol import binding
from tccp.protocol.binding import Channel
from tccp.protocol.messages import (
    FIRMWARE_LOG,
    PROTOCOL_VERSION,
    Admitted,
    AnyMessage,
    Challenge,
    Evidence,
    Hello,
    HostLogPart,
    HostLogRequest,
    MoveOrder,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
    VmAnswer,
)
from tccp.protocol.session import Role, Session, expect
from tccp.tpm import Ak, Ek, Tpm
from tccp.tpm.event_log import read_event_log
from tccp.transport.calling import call
from tccp.transport.certificates import Authority
from tccp.transport.connection import Connection, fresh_nonce, handshake
from tccp.transport.errors import PeerGoneError
from tccp.transport.tls import SERVER_NAME, node_context
from tccp.transport.trust import CoordinatorTrust

CONNECT_S = 10.0
# The coordinator may wait for its own TPM, behind all the other nodes that came back with us.
ANSWER_S = 60.0
# To end a VM takes time, and clocks differ: so much before its lease ends, nothing runs any more.
VMS_MARGIN_S_MAX = 2.0
VMS_MARGIN_SHARE = 0.1

log = structlog.get_logger()
M = TypeVar("M", bound=AnyMessage)


@dataclass(slots=True)
class HeldLease:
    """The lease that this node holds, or held."""

    lease_id: bytes = b""
    certificate: bytes = b""
    receipt: bytes = b""  # of the admission in the coordinator's log
    renewals: int = 0
    _ends_at: float = 0.0
    _margin_s: float = 0.0

    @property
    def left_s(self) -> float:
        """How long it holds on; 0 or less when it has lapsed. Goes on while the host sleeps."""
        return self._ends_at - time.clock_gettime(time.CLOCK_BOOTTIME)

    @property
    def holds(self) -> bool:
        """Are we inside the perimeter?"""
        return bool(self.lease_id) and self.left_s > 0

    @property
    def vms_end_at(self) -> float:
        """When every VM must have ended (CLOCK_BOOTTIME): before the coordinator counts the lease as over."""
        return self._ends_at - self._margin_s

    @property
    def allows_vms(self) -> bool:
        """Whether VMs may run."""
        return bool(self.lease_id) and self.vms_left_s > 0

    @property
    def vms_left_s(self) -> float:
        """How long VMs may go on until they must be ended in good order."""
        return self.left_s - 2 * self._margin_s

    def extend(self, lease_id: bytes, certificate: bytes, *, asked_at: float, lease_s: int) -> None:
        """Take a grant; it counts from *asked_at* (CLOCK_BOOTTIME), before our quote, so never longer than meant."""
        self.lease_id, self.certificate = lease_id, certificate
        self._ends_at = asked_at + lease_s
        self._margin_s = min(VMS_MARGIN_S_MAX, VMS_MARGIN_SHARE * lease_s)

    def drop(self) -> None:
        """We are out: revoked or refused."""
        self.lease_id, self.certificate, self.receipt, self._ends_at = b"", b"", b"", 0.0


@dataclass(slots=True)
class NodeTpm:
    """This host's TPM with the keys that stay loaded, and its firmware's log."""

    tpm: Tpm = field(repr=False)
    ek: Ek
    ak: Ak
    event_log: Path | None
    ima_list: ImaList = field(default_factory=lambda: ImaList(None))

    async def read_host_log(self, request: HostLogRequest) -> HostLogPart:
        """What the coordinator wants to see of a log, as it is now.

        Raises:
            HostError: There is one, and it cannot be read.
        """
        if request.log == FIRMWARE_LOG:
            return HostLogPart(content=(await self.read_event_log())[request.offset :])
        return HostLogPart(content=await trio.to_thread.run_sync(self.ima_list.read, request.offset))

    async def read_event_log(self) -> bytes:
        """What the firmware measured; empty when there is no log.

        Raises:
            HostError: There is one, and it cannot be read or is too large to send.
        """
        return await trio.to_thread.run_sync(read_event_log, self.event_log)


async def connect(host: str, port: int, identity: NodeIdentity, context: ssl.SSLContext) -> Connection:
    """A TLS connection to the coordinator, whose certificate comes from the CA of the trust file.

    Raises:
        HostError: It cannot be reached.
        ProtocolError: It shows another certificate, or refuses ours.
    """
    stream = await call(host, port, within_s=CONNECT_S)
    tls = await handshake(stream, context, server_side=False, server_name=SERVER_NAME)
    return Connection(tls, Session(Role.NODE), own_spki_sha256=spki_sha256(identity.tls_spki))


def door_context(identity: NodeIdentity, trust: CoordinatorTrust) -> ssl.SSLContext:
    """The TLS context of a node: its boot-time key under the door's certificate."""
    own = identity.door_certificate(Authority(trust.door), now=dt.datetime.now(tz=dt.UTC))
    return node_context(own, trust.ca_certificate)


async def register(
    connection: Connection, host: NodeTpm, identity: NodeIdentity, trust: CoordinatorTrust, lease: HeldLease
) -> Channel:
    """Messages 1 to 4; *lease* holds afterwards. The channel that renewals are bound to.

    Raises:
        EvidenceError: The coordinator is not the one that the trust file names, or its log has not our admission.
        RefusalError: It refused us.
        PeerGoneError, ProtocolError, TpmError: As their names say.
    """
    channel = connection.channel(trust.coordinator_id, own_end_is_coordinator=False)
    nonce = fresh_nonce()
    await connection.send(
        Hello(
            version=PROTOCOL_VERSION,
            node_nonce=nonce.value,
            ek_certificate=host.ek.certificate or b"",
            ek_chain=host.ek.chain,
            ek_public=host.ek.public,
            ak_public=host.ak.public,
        )
    )
    challenge = await _receive(connection, Challenge)
    statement = check_coordinator(challenge.coordinator, trust=trust, node_nonce=nonce.value, channel=channel)
    credential = await host.tpm.activate_credential(host.ak, host.ek, challenge.id_object, challenge.encrypted_secret)
    asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    selection = _selection(challenge.bank, challenge.pcr_indexes)
    qualifying_data = binding.registration(challenge.nonce, channel, identity.statement)
    quote, pcrs = await host.tpm.quote_with_pcrs(host.ak, qualifying_data, selection)
    await connection.send(
        Evidence(
            credential=credential,
            identity=identity.statement,
            attest=quote.attest,
            signature=quote.signature,
            pcrs=tuple(pcrs.values[index] for index in selection.indexes),
            event_log=await host.read_event_log(),
        )
    )
    admitted = await _receive_grant(connection, host)
    entry = check_admission(admitted.receipt, statement, node=identity.name, lease_id=admitted.lease_id)
    lease.extend(admitted.lease_id, admitted.certificate, asked_at=asked_at, lease_s=admitted.lease_s)
    lease.receipt = admitted.receipt
    log.info("admitted", lease=admitted.lease_id.hex(), lease_s=admitted.lease_s, log_index=entry.index)
    return channel


async def _receive_grant(connection: Connection, host: NodeTpm) -> Admitted:
    """The grant, after whatever the coordinator wants to see before."""
    while True:
        message = await _receive_any(connection, seconds=ANSWER_S)
        if not isinstance(message, HostLogRequest):
            return expect(message, Admitted)
        await connection.send(await host.read_host_log(message))


async def keep_lease(
    connection: Connection,
    channel: Channel,
    host: NodeTpm,
    identity: NodeIdentity,
    lease: HeldLease,
    *,
    desk: KeyDesk,
) -> None:
    """Answer the coordinator's challenges until it refuses, revokes or vanishes; raises as `register` does.

    An answer may be followed by another challenge instead of a grant: the policy changed in the meantime. What the
    coordinator says of VMs goes to *desk*.
    """
    asked_at: float | None = None
    while True:
        # No challenge before the lease ends: it has lapsed, and only registering again helps.
        message = await _receive_any(connection, seconds=max(lease.left_s, 0.0) if asked_at is None else ANSWER_S)
        if isinstance(message, Renewed) and asked_at is not None:
            lease.extend(message.lease_id, message.certificate, asked_at=asked_at, lease_s=message.lease_s)
            lease.renewals += 1
            asked_at = None
            log.debug("renewed", lease_s=message.lease_s)
        elif isinstance(message, VmAnswer):
            desk.take(message, lease.lease_id)
        elif isinstance(message, HostLogRequest):
            await connection.send(await host.read_host_log(message))
        elif isinstance(message, MoveOrder):
            desk.on_order(message)
        else:
            asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            challenge = expect(message, RenewalChallenge)
            await connection.send(await _answer(challenge, channel, host, identity, lease))


async def _answer(
    challenge: RenewalChallenge, channel: Channel, host: NodeTpm, identity: NodeIdentity, lease: HeldLease
) -> RenewalEvidence:
    if challenge.lease_id != lease.lease_id:
        raise ProtocolError("another_lease", "the coordinator speaks of a lease that is not ours")
    selection = _selection(challenge.bank, challenge.pcr_indexes)
    qualifying_data = binding.renewal(challenge.nonce, channel, lease.lease_id, identity.statement)
    quote, pcrs = await host.tpm.quote_with_pcrs(host.ak, qualifying_data, selection)
    return RenewalEvidence(
        attest=quote.attest,
        signature=quote.signature,
        pcrs=tuple(pcrs.values[index] for index in selection.indexes),
    )


async def _receive(connection: Connection, kind: type[M]) -> M:
    return expect(await _receive_any(connection, seconds=ANSWER_S), kind)


async def _receive_any(connection: Connection, *, seconds: float) -> AnyMessage:
    try:
        with trio.fail_after(seconds):
            return await connection.receive_any()
    except trio.TooSlowError:
        raise PeerGoneError("peer_gone", f"nothing from the coordinator in {seconds:.0f} s") from None


def _selection(bank: int, indexes: tuple[int, ...]) -> PcrSelection:
    try:
        return PcrSelection(PcrBank(bank), indexes)
    except ValueError as problem:
        raise ProtocolError("bad_selection", str(problem)) from None
