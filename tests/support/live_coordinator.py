"""A coordinator in this very process, and a node in steps: the bench on which attacks are tried.

    async with live_coordinator(folder, tpm, lease_s=60) as coordinator:
        node = await coordinator.make_node("alpha", host)
        await node.register()

Everything is real: the daemon's `serve`, TLS on a loopback port, SQLite on a disk, swtpm. An attack is an `HonestNode`
with one step overridden; what the coordinator made of it is asked of its store.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from tccp.control.client import ControlClient
from tccp.coordinator.daemon import serve
from tccp.coordinator.services import Services
from tccp.model import NodeName, PcrBank, PcrSelection
from tccp.node.coordinator_check import check_admission, check_coordinator
from tccp.node.identity import NodeIdentity, make_node_identity
from tccp.node.registration import NodeTpm, connect, door_context
from tccp.protocol import binding
from tccp.protocol import control as c
from tccp.protocol.binding import Channel
from tccp.protocol.messages import (
    FIRMWARE_LOG,
    HOST_LOG_PART_BYTES,
    PROTOCOL_VERSION,
    Admitted,
    AnyMessage,
    Challenge,
    Evidence,
    Hello,
    HostLogPart,
    HostLogRequest,
    RenewalChallenge,
    RenewalEvidence,
    Renewed,
)
from tccp.protocol.session import expect
from tccp.protocol.statements import CoordinatorStatement
from tccp.store import EventRecord, LeaseRecord, Store
from tccp.tpm import Quote, open_tpm
from tccp.transparency.receipt import VerifiedReceipt
from tccp.transport.connection import Connection, RefusalError, fresh_nonce
from tccp.transport.trust import CoordinatorTrust, parse_trust
from tests.support.coordinator_keys import make_keys
from tests.support.soft_tpm import SoftTpm

A = TypeVar("A", bound=msgspec.Struct)
M = TypeVar("M", bound=AnyMessage)

DEADLINE_S = 60.0
HOST = "127.0.0.1"
STEPS = (
    "connection",
    "hello",
    "challenge",
    "evidence",
    "admitted",
    "renewal challenge",
    "renewal evidence",
    "renewed",
)
POLICY = "tvmm"
ZERO = bytes(32)


class LiveCoordinator:
    """A running coordinator; made by `live_coordinator`."""

    def __init__(self, services: Services, config: Path, trust: CoordinatorTrust) -> None:
        self.services, self.config, self.trust = services, config, trust
        self.connections: list[Connection] = []

    @property
    def store(self) -> Store:
        """Its database."""
        return self.services.store

    @property
    def port(self) -> int:
        """Where nodes connect."""
        return int(self.services.listening.rpartition(":")[2])

    @property
    def tenants_port(self) -> int:
        """Where tenants connect."""
        return int(self.services.tenants_listening.rpartition(":")[2])

    @property
    def log_port(self) -> int:
        """Where the log is read."""
        return int(self.services.log_listening.rpartition(":")[2])

    async def ask(self, request: msgspec.Struct, answer: type[A]) -> A:
        """One request on the control socket."""
        return await ask_control(Path(self.services.config.control.socket), request, answer)

    async def add_policy(self, pcrs: dict[int, bytes], *, version: int = 1, bank: str = "sha256") -> None:
        """Put a version of the policy in force: one allowed value for each PCR."""
        lines = [f'name = "{POLICY}"', f"version = {version}", f'bank = "{bank}"', "[pcrs]"]
        lines += [f'{index} = ["{value.hex()}"]' for index, value in pcrs.items()]
        await self.ask(c.AddPolicy(body="\n".join(lines).encode()), c.PolicyInfo)

    async def enrol(self, name: str, host: NodeTpm, *, by_key: bool = False) -> None:
        """Take a host into the perimeter, by the certificate of its EK or by the key alone."""
        certificate, public = (b"", host.ek.public) if by_key else (host.ek.certificate or b"", b"")
        await self.ask(
            c.EnrolNode(name=name, ek_certificate=certificate, ek_public=public, policy=POLICY, attributes={}),
            c.NodeInfo,
        )

    async def leases(self) -> dict[str, LeaseRecord]:
        """The open leases by node."""
        return {str(lease.node): lease for lease in await self.store.open_leases()}

    async def log(self) -> list[EventRecord]:
        """The whole log, which has no holes."""
        events = await self.store.events()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events

    async def last_end(self, name: str) -> str | None:
        """Why the newest lease of a node that has ended did so."""
        ended = await self.store.leases_of(NodeName(name), 1)
        return ended[0].end_reason if ended else None

    async def challenge_now(self, name: str) -> None:
        """Have the coordinator want fresh evidence of a node at once, instead of when half of its lease is over."""
        await self.ask(c.SetNodePolicy(name=name, policy=POLICY), c.NodeInfo)

    async def until(self, what: str) -> None:
        """Until the log tells of an event of this kind, for instance ``end``."""
        with trio.fail_after(DEADLINE_S):
            async for event in self.store.watch(0):
                if event.kind == what:
                    return


@asynccontextmanager
async def live_coordinator(
    folder: Path, tpm: SoftTpm, *, lease_s: int = 60, port: int = 0, extra: str = "", log_server: str = ""
) -> AsyncIterator[LiveCoordinator]:
    """Run a coordinator on the state in *folder*, made when there is none yet; it trusts the maker of *tpm*.

    Args:
        extra: More TOML, for instance ``connections_max = 3`` of ``[listen]``, which comes last.
        log_server: More TOML of ``[log_server]``.
    """
    config = folder / "coordinator.toml"
    write_config(config, tpm, lease_s=lease_s, port=port, extra=extra, log_server=log_server)
    if not (folder / "state" / "keys").exists():
        await make_keys(folder / "state", tpm.tcti)
    async with trio.open_nursery() as nursery:
        services = await nursery.start(serve, config)
        trust = await ask_control(Path(services.config.control.socket), c.GetTrust(), c.TrustFile)
        running = LiveCoordinator(services, config, parse_trust(trust.body))
        try:
            yield running
        finally:
            for connection in running.connections:
                connection.close()
        nursery.cancel_scope.cancel()


async def ask_control(path: Path, request: msgspec.Struct, answer: type[A]) -> A:
    """One request on a daemon's control socket, while the daemon runs in this very process."""

    def ask() -> A:
        with ControlClient(path) as client:
            return client.ask(request, answer)

    return await trio.to_thread.run_sync(ask)


def write_config(
    config: Path, tpm: SoftTpm, *, lease_s: int = 60, port: int = 0, extra: str = "", log_server: str = ""
) -> None:
    """A ``coordinator.toml``, and the folder of EK authorities that it names."""
    folder = config.parent
    authorities = folder / "ek-authorities"
    authorities.mkdir(exist_ok=True)
    for number, certificate in enumerate(tpm.authority.certificates):
        (authorities / f"{number}.der").write_bytes(certificate)
    config.write_text(
        f'state_directory = "{folder}/state"\n[control]\nsocket = "{folder}/control.sock"\n'
        f'[tpm]\ntcti = "{tpm.tcti}"\n[enrolment]\nek_authorities = "{authorities}"\n'
        f'[leases]\nseconds = {lease_s}\n[log]\nlevel = "error"\n'
        f'[tenants]\naddress = "{HOST}"\nport = 0\n[log_server]\naddress = "{HOST}"\nport = 0\n{log_server}'
        f'[listen]\naddress = "{HOST}"\nport = {port}\n{extra}\n'
    )


@asynccontextmanager
async def open_host(soft_tpm: SoftTpm) -> AsyncIterator[NodeTpm]:
    """The TPM of a host with its keys, as the node daemon opens it; it has no event log."""
    async with open_tpm(soft_tpm.tcti) as tpm:
        yield NodeTpm(tpm, await tpm.read_ek(), await tpm.create_ak(), None)


class HonestNode:
    """A node that does everything right, step by step; an attack overrides a step.

    Args:
        name: What it calls itself.
        host: Its TPM.
    """

    def __init__(self, coordinator: LiveCoordinator, name: str, host: NodeTpm) -> None:
        self.coordinator = coordinator
        self.host = host
        self.identity: NodeIdentity = make_node_identity(name)
        self.nonce = fresh_nonce().value
        self.lease_id = b""
        self.firmware_log = self.ima_list = b""
        self.asked_for: list[HostLogRequest] = []
        self.statement: CoordinatorStatement
        self.admission: VerifiedReceipt  # the entry in the coordinator's log
        self.connection: Connection
        self.channel: Channel

    # ---- the steps ----

    async def connect(self) -> None:
        """TLS, with this boot's key."""
        trust = self.coordinator.trust
        context = door_context(self.identity, trust)
        self.connection = await connect(HOST, self.coordinator.port, self.identity, context)
        self.coordinator.connections.append(self.connection)
        self.channel = self.connection.channel(trust.coordinator_id, own_end_is_coordinator=False)

    async def hello(self) -> Hello:
        """Message 1."""
        ek = self.host.ek
        return Hello(PROTOCOL_VERSION, self.nonce, ek.certificate or b"", ek.chain, ek.public, self.host.ak.public)

    async def credential(self, challenge: Challenge) -> bytes:
        """What only the TPM of the EK can read, and only with the AK loaded."""
        return await self.host.tpm.activate_credential(
            self.host.ak, self.host.ek, challenge.id_object, challenge.encrypted_secret
        )

    def bound_to(self, challenge: Challenge) -> bytes:
        """What the registration's quote is bound to."""
        return binding.registration(challenge.nonce, self.channel, self.identity.statement)

    def renewal_bound_to(self, challenge: RenewalChallenge) -> bytes:
        """What a renewal's quote is bound to."""
        return binding.renewal(challenge.nonce, self.channel, self.lease_id, self.identity.statement)

    def selection(self, challenge: Challenge | RenewalChallenge) -> PcrSelection:
        """The PCRs that are quoted."""
        return PcrSelection(PcrBank(challenge.bank), challenge.pcr_indexes)

    async def quote(self, bound_to: bytes, selection: PcrSelection) -> tuple[Quote, tuple[bytes, ...]]:
        """A quote, and the values that are claimed for it."""
        quote, pcrs = await self.host.tpm.quote_with_pcrs(self.host.ak, bound_to, selection)
        return quote, tuple(pcrs.values[index] for index in selection.indexes)

    def event_log(self) -> bytes:
        """What the firmware measured; this host has none, unless a test gives it one."""
        return self.firmware_log

    def log_part(self, request: HostLogRequest) -> bytes:
        """What there is of a log, when it is asked for."""
        if request.log == FIRMWARE_LOG:
            return self.event_log()[request.offset :]
        return self.ima_list[request.offset : request.offset + HOST_LOG_PART_BYTES]

    async def answer(self, challenge: Challenge) -> Evidence:
        """Message 3."""
        quote, pcrs = await self.quote(self.bound_to(challenge), self.selection(challenge))
        credential = await self.credential(challenge)
        return Evidence(credential, self.identity.statement, quote.attest, quote.signature, pcrs, self.event_log())

    async def answer_renewal(self, challenge: RenewalChallenge) -> RenewalEvidence:
        """The answer to each challenge after admission."""
        quote, pcrs = await self.quote(self.renewal_bound_to(challenge), self.selection(challenge))
        return RenewalEvidence(quote.attest, quote.signature, pcrs)

    # ---- the exchanges ----

    async def get_challenge(self) -> Challenge:
        """Connect, messages 1 and 2; the coordinator must be the one that we trust."""
        await self.connect()
        await self.connection.send(await self.hello())
        challenge = await self.receive(Challenge)
        trust = self.coordinator.trust
        self.statement = check_coordinator(
            challenge.coordinator, trust=trust, node_nonce=self.nonce, channel=self.channel
        )
        return challenge

    async def register(self) -> Admitted:
        """Connect, messages 1 to 4."""
        challenge = await self.get_challenge()
        await self.connection.send(await self.answer(challenge))
        admitted = await self.receive(Admitted)
        self.lease_id = admitted.lease_id
        self.admission = check_admission(
            admitted.receipt, self.statement, node=self.identity.name, lease_id=self.lease_id
        )
        return admitted

    async def renew(self) -> Renewed:
        """Be challenged at once, and answer."""
        await self.coordinator.challenge_now(self.identity.name)
        await self.connection.send(await self.answer_renewal(await self.receive(RenewalChallenge)))
        return await self.receive(Renewed)

    async def go_until(self, step: str) -> None:
        """Be honest up to one of `STEPS`, and no further."""
        left = STEPS[: STEPS.index(step) + 1]
        await self.connect()
        if "hello" in left:
            await self.connection.send(await self.hello())
        if "challenge" in left:
            challenge = await self.receive(Challenge)
        if "evidence" in left:
            await self.connection.send(await self.answer(challenge))
        if "admitted" in left:
            self.lease_id = (await self.receive(Admitted)).lease_id
        if "renewal challenge" in left:
            await self.coordinator.challenge_now(self.identity.name)
            renewal = await self.receive(RenewalChallenge)
        if "renewal evidence" in left:
            await self.connection.send(await self.answer_renewal(renewal))
        if "renewed" in left:
            await self.receive(Renewed)

    async def receive(self, kind: type[M]) -> M:
        """The coordinator's next message, after all logs that it wants to see."""
        with trio.fail_after(DEADLINE_S):
            while isinstance(message := await self.connection.receive_any(), HostLogRequest):
                self.asked_for.append(message)
                await self.connection.send(HostLogPart(self.log_part(message)))
            return expect(message, kind)

    async def say(self, data: bytes) -> None:
        """Put bytes into the TLS connection, whether the protocol allows them or not."""
        self.connection._stream.send_nowait(data)
        await self.connection._stream.flush()

    def leave(self) -> None:
        """Vanish without a word."""
        self.connection.close()

    # ---- the verdicts ----

    async def is_refused(self) -> str:
        """Try to register; the reason of the refusal, after which there is no lease that was not there before."""
        before = await self.coordinator.leases()
        reason = await _refusal_of(self.register)
        assert await self.coordinator.leases() == before
        return reason

    async def is_put_out(self) -> str:
        """Try to renew; the reason of the refusal, after which it holds no lease."""
        reason = await _refusal_of(self.renew)
        assert self.identity.name not in await self.coordinator.leases()
        return reason

    async def is_admitted(self) -> bool:
        """Try to register; whether the lease is in the store."""
        admitted = await self.register()
        return (await self.coordinator.leases())[self.identity.name].lease_id == admitted.lease_id


async def _refusal_of(exchange: Callable[[], Awaitable[object]]) -> str:
    try:
        await exchange()
    except RefusalError as refusal:
        return refusal.message.reason
    raise AssertionError("not refused")
