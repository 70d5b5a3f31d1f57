"""The coordinator's side of a tenant's connection: prove ourselves, and give out hashes of the log.

Anybody may connect and is told what everybody may know; only who wants a node to be probed has to be somebody. So
everything that costs us something has its bound: connections, silence, activations, questions, probes.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import trio

from tccp.coordinator.activations import Activations, is_of_the_credential
from tccp.coordinator.log_view import LogView
from tccp.coordinator.probes import Probes
from tccp.coordinator.services import Services
from tccp.errors import HostError, LaunchError, LogError, PolicyError, ProtocolError, TccpError, TpmError
from tccp.model import spki_sha256
from tccp.protocol import binding
from tccp.protocol.tenant_messages import (
    TENANT_PROTOCOL_VERSION,
    Activate,
    Activated,
    AddCosignature,
    AnyTenantMessage,
    GetHead,
    GetTile,
    Introduction,
    LogHead,
    LogTile,
    Probe,
    TenantHello,
    TenantRefused,
)
from tccp.tpm.event_log import read_event_log
from tccp.transparency.tile import Tile
from tccp.transport.certificates import der_of_pem
from tccp.transport.connection import handshake
from tccp.transport.errors import PeerGoneError, gone_after
from tccp.transport.tenant_connection import TenantConnection

HELLO_S = 10.0
IDLE_S = 60.0
QUESTIONS_MAX = 4_096  # on one connection; a proof needs some sixteen

log = structlog.get_logger()


@dataclass(slots=True)
class TenantDesk:
    """What tenants are served from."""

    services: Services
    activations: Activations = field(repr=False)
    log_view: LogView
    probes: Probes

    async def introduction(self, nonce: bytes) -> Introduction:
        """Our evidence over a tenant's nonce, the TPM behind it, and the head of the log.

        Raises:
            HostError: Our TPM, or the log, cannot be read.
        """
        services = self.services
        leaf = binding.tenant_leaf(nonce, services.coordinator_id, spki_sha256(services.identity.tls_spki))
        ek, ak = self.activations.ek, self.activations.ak
        event_log = services.config.tpm.event_log
        heads = await self.log_view.heads()
        return Introduction(
            coordinator=await services.evidence.evidence_for(leaf),
            ek_certificate=ek.certificate or b"",
            ek_chain=ek.chain,
            ek_public=ek.public,
            ak_public=ak.public,
            event_log=read_event_log(Path(event_log) if event_log else None),
            ca_certificate=der_of_pem(services.identity.keys.ca.certificate_pem),
            log_url=services.config.tenants.log_url,
            checkpoint=heads.newest,
            witnessed=heads.witnessed,
        )


async def serve_tenant(desk: TenantDesk, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
    """Serve one tenant from the TLS handshake to the end of the connection. Never raises what a peer can cause."""
    try:
        tls = await handshake(stream, context, server_side=True)
        try:
            await _serve(desk, TenantConnection(tls))
        finally:
            tls.close()
    except PeerGoneError as problem:
        log.debug("tenant_gone", detail=problem.detail)
    except ProtocolError as problem:
        log.debug("tenant_protocol_error", reason=problem.reason, detail=problem.detail)
    except HostError as problem:
        log.error("tenant_failed", reason=problem.reason, detail=problem.detail)


async def _serve(desk: TenantDesk, connection: TenantConnection) -> None:
    with gone_after(HELLO_S):
        hello = await connection.receive_any()
    if isinstance(hello, TenantHello):
        await _introduce(desk, connection, hello)
    else:
        await connection.send(await _answer(desk, hello))
    questions = 0
    while not connection.is_over and questions < QUESTIONS_MAX:
        with gone_after(IDLE_S):
            question = await connection.receive_any()
        questions += 1
        await connection.send(await _answer(desk, question))


async def _introduce(desk: TenantDesk, connection: TenantConnection, hello: TenantHello) -> None:
    if hello.version != TENANT_PROTOCOL_VERSION:
        await connection.send(TenantRefused(reason="protocol_version"))
        return
    try:
        answer: AnyTenantMessage = await desk.introduction(hello.tenant_nonce)
    except HostError as problem:
        log.error("no_introduction", reason=problem.reason, detail=problem.detail)
        answer = TenantRefused(reason="unavailable")
    await connection.send(answer)


async def _answer(desk: TenantDesk, question: AnyTenantMessage) -> AnyTenantMessage:
    try:
        return await _found(desk, question)
    except TpmError as problem:
        reason = "activation_refused" if is_of_the_credential(problem) else "unavailable"
        _note("activation_failed", problem, blameless=is_of_the_credential(problem))
    except LogError as problem:
        brought = isinstance(question, AddCosignature)
        reason = "no_cosignature" if brought else "unavailable"
        _note("no_answer_to_tenant", problem, blameless=brought)
    except (LaunchError, PolicyError) as problem:
        reason = problem.reason
        log.info("not_probed", reason=problem.reason, detail=problem.detail)
    except HostError as problem:
        reason = "overloaded" if problem.reason == "overloaded" else "unavailable"
        _note("no_answer_to_tenant", problem, blameless=problem.reason in {"overloaded", "tile_missing"})
    return TenantRefused(reason=reason)


def _note(what: str, problem: TccpError, *, blameless: bool) -> None:
    """What any stranger can cause is not worth a warning: he would fill the journal."""
    (log.debug if blameless else log.error)(what, reason=problem.reason, detail=problem.detail)


async def _found(desk: TenantDesk, question: AnyTenantMessage) -> AnyTenantMessage:
    match question:
        case Activate():
            secret = await desk.activations.activate(question.id_object, question.encrypted_secret)
            return Activated(credential=secret)
        case GetTile():
            tile = Tile(question.level, question.index, question.width)
            return LogTile(content=await desk.log_view.read_tile(tile))
        case Probe():
            return await desk.probes.answer(question)
        case GetHead() | AddCosignature():
            if isinstance(question, AddCosignature):
                desk.services.cosignatures.add(question.note)
            return LogHead(checkpoint=(await desk.log_view.heads()).newest)
    raise AssertionError(f"the table lets no tenant say {type(question).__name__}")
