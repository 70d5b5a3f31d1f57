"""A webhook hears of revocations and refusals in order, whatever it does itself; the coordinator waits for nobody."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tccp.config import WebhookConfig
from tccp.errors import HostError
from tccp.notifier import daemon
from tccp.notifier.daemon import Notifier
from tccp.protocol import control as c
from tccp.transport.accepting import serve_connections
from tccp.transport.errors import PeerGoneError
from tccp.transport.http import HttpRequest, HttpResponse, serve_http
from tests.support.live_coordinator import DEADLINE_S, HonestNode, LiveCoordinator

SECRET = b"s" * 32


class Webhook:
    """Somebody's web server: what it was told, and what it answers; 200 when nothing else is said."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[HttpRequest] = []
        self.answers: list[int] = []
        self.more = trio.Event()

    async def answer(self, request: HttpRequest) -> HttpResponse:
        self.heard.append(request)
        self.more.set()
        status = self.answers.pop(0) if self.answers else 200
        if not status:
            await trio.sleep_forever()
        return HttpResponse(status)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.heard]

    async def until(self, count: int) -> None:
        with trio.fail_after(DEADLINE_S):
            while len(self.heard) < count:
                self.more = trio.Event()
                await self.more.wait()


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    running = Webhook()

    async def serve_one(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await serve_http(stream, running.answer)
            except PeerGoneError:
                return

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    running.port = listeners[0].socket.getsockname()[1]
    async with listeners[0], trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_connections(listeners, serve_one, connections_max=4))
        yield running
        nursery.cancel_scope.cancel()


def notifier_for(coordinator: LiveCoordinator, webhook: Webhook, folder: Path) -> Notifier:
    config = WebhookConfig(url=f"http://127.0.0.1:{webhook.port}/tccp?team=a")
    return Notifier(Path(coordinator.services.config.control.socket), config, folder / "told", SECRET)


@asynccontextmanager
async def running(notifier: Notifier) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.run)
        yield
        nursery.cancel_scope.cancel()


async def revoke(coordinator: LiveCoordinator) -> None:
    await coordinator.ask(c.RevokeNode(name="alpha", reason="rootkit", severity="compromised"), c.NodeInfo)


async def test_a_webhook_hears_of_a_revocation_signed_and_in_order(
    coordinator: LiveCoordinator, alpha: HonestNode, webhook: Webhook, tmp_path: Path
) -> None:
    notifier = notifier_for(coordinator, webhook, tmp_path)
    await notifier.tell_new()
    assert webhook.heard == [], "what was before its first start"

    async with running(notifier):
        await revoke(coordinator)
        await webhook.until(2)

    first, second = webhook.documents
    assert (first["kind"], first["node"]) == ("revoke", "alpha")
    assert first["fields"] == {"reason": "rootkit", "severity": "compromised"}
    assert (second["kind"], second["fields"]["heard"]) == ("told", "away")
    assert second["seq"] > first["seq"]
    request = webhook.heard[0]
    expected = hmac.new(SECRET, request.body, hashlib.sha256).hexdigest()
    assert (request.target, request.header("tccp-signature")) == ("/tccp?team=a", f"sha256={expected}")


async def test_what_a_webhook_does_not_take_is_told_again_also_by_a_new_process(
    coordinator: LiveCoordinator, alpha: HonestNode, webhook: Webhook, tmp_path: Path
) -> None:
    notifier = notifier_for(coordinator, webhook, tmp_path)
    await notifier.tell_new()
    await revoke(coordinator)
    await coordinator.until("told")
    webhook.answers = [503]

    with pytest.raises(HostError, match="not_taken"):
        await notifier.tell_new()
    await notifier_for(coordinator, webhook, tmp_path).tell_new()
    await notifier_for(coordinator, webhook, tmp_path).tell_new()

    assert [each["kind"] for each in webhook.documents] == ["revoke", "revoke", "told"]


async def test_a_webhook_that_never_answers_holds_up_nobody_else(
    coordinator: LiveCoordinator, alpha: HonestNode, webhook: Webhook, tmp_path: Path
) -> None:
    notifier = notifier_for(coordinator, webhook, tmp_path)
    await notifier.tell_new()
    await alpha.register()
    webhook.answers = [0]
    async with running(notifier):
        await revoke(coordinator)
        await webhook.until(1)

        status = await coordinator.ask(c.GetStatus(), c.CoordinatorStatus)
        assert status.leases_open == 0


async def test_a_revocation_behind_many_other_events_is_told_without_a_pause(
    coordinator: LiveCoordinator, alpha: HonestNode, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "POLL_S", 10 * DEADLINE_S)
    monkeypatch.setattr(daemon, "EVENTS_AT_ONCE", 1)
    notifier = notifier_for(coordinator, webhook, tmp_path)
    while await notifier.tell_new():
        pass
    await alpha.register()
    await revoke(coordinator)
    await coordinator.until("told")

    async with running(notifier):
        await webhook.until(2)

    assert [each["kind"] for each in webhook.documents] == ["revoke", "told"]
