"""``tccp-notifier``: tell a webhook what happens at this machine's coordinator.

    coordinator --control socket: events after N--> notifier --POST, in order, until it says 2xx--> webhook
                                                       '- N, durable after each

The coordinator calls nobody and waits for nobody. This process may look and no more; a webhook that is slow or gone
delays only what is told to it. Each event is told at least once: a crash between its 2xx and the note of it repeats it.
"""

import hashlib
import hmac
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog
import trio

from tccp import systemd
from tccp.config import CoordinatorConfig, WebhookConfig, load_config
from tccp.control.client import ControlClient
from tccp.durable import replace_file
from tccp.errors import ConfigError, HostError, PeerError, RefusedError
from tccp.protocol.control import CoordinatorStatus, Event, GetStatus, WatchEvents
from tccp.service import Program, run_daemon
from tccp.transport.http import HttpLimits
from tccp.transport.http_client import http_url, post

POLL_S = 0.5
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 60.0
EVENTS_AT_ONCE = 256
SECRET_BYTES = range(16, 1025)
LIMITS = HttpLimits(body_bytes_max=65_536, head_s=30.0)

PROGRAM = Program(
    "notifier",
    CoordinatorConfig,
    "Tells the webhook of its configuration what happens at this machine's coordinator.",
    Path("/etc/tccp/coordinator.toml"),
)

log = structlog.get_logger()


@dataclass
class Notifier:
    """Tells one webhook.

    Args:
        socket: The coordinator's control socket.
        place: Where it is kept which event was told last.
        secret: Signs what is told; empty: nothing is signed.
    """

    socket: Path
    webhook: WebhookConfig
    place: Path
    secret: bytes = b""

    async def run(self) -> None:
        """Tell until cancelled; whatever fails is tried again after a pause."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                while True:
                    looked_at = await self.tell_new()
                    pause_s = PAUSE_FIRST_S
                    if not looked_at:
                        await trio.sleep(POLL_S)
            except (HostError, PeerError, ConfigError, RefusedError) as problem:
                log.warning("not_notified", reason=problem.reason, detail=problem.detail)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def tell_new(self) -> int:
        """Tell what is new, in order; how many entries were looked at, which may not be all.

        Raises:
            HostError: ``not_taken``: the webhook answers anything but 2xx; ``unreachable``; the coordinator is away.
            PeerError: It speaks no HTTP.
        """
        status, told, events = await trio.to_thread.run_sync(self._look, abandon_on_cancel=True)
        noted = told
        for event in events:
            told = event.seq
            if event.kind in self.webhook.kinds:
                await self._tell(status, event)
                await trio.to_thread.run_sync(self._note, told)
                noted = told
        if told != noted:
            await trio.to_thread.run_sync(self._note, told)
        systemd.notify(f"STATUS=told up to entry {told}")
        return len(events)

    def _look(self) -> tuple[CoordinatorStatus, int, Sequence[Event]]:
        """What the coordinator has, how far we are, and what comes next. What was before the first start is left."""
        with ControlClient(self.socket) as coordinator:
            status = coordinator.ask(GetStatus(), CoordinatorStatus)
        told = self._told()
        if told is None or told > status.log_size:
            log.warning("starting_here", entry=status.log_size, told_before=told)
            told = status.log_size
            self._note(told)
        with ControlClient(self.socket) as coordinator:
            found = coordinator.stream(WatchEvents(since=told, follow=False), Event)
            return status, told, list(islice(found, EVENTS_AT_ONCE))

    async def _tell(self, status: CoordinatorStatus, event: Event) -> None:
        body = json.dumps(
            {
                "coordinator_id": status.coordinator_id.hex(),
                "seq": event.seq,
                "at_ms": event.at_ms,
                "kind": event.kind,
                "node": event.node,
                "fields": event.fields,
            }
        ).encode("ascii")
        headers = [("content-type", "application/json")]
        if self.secret:
            signature = hmac.new(self.secret, body, hashlib.sha256).hexdigest()
            headers.append(("tccp-signature", f"sha256={signature}"))
        answer = await post(http_url(self.webhook.url), "", body, headers=tuple(headers), limits=LIMITS)
        if not 200 <= answer.status < 300:
            raise HostError("not_taken", f"the webhook answers {answer.status} to entry {event.seq}")
        log.info("notified", entry=event.seq, kind=event.kind, node=event.node)

    def _told(self) -> int | None:
        try:
            return int(self.place.read_text("ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            raise HostError("place_unreadable", f"{self.place}: {problem}") from None

    def _note(self, told: int) -> None:
        """Durable and whole, or as it was."""
        replace_file(self.place, b"%d\n" % told, mode=0o600)


def notifier_of(config: CoordinatorConfig) -> Notifier:
    """What tells the webhook of a configuration.

    Raises:
        ConfigError: ``no_webhook``, ``bad_url``, ``webhook_secret``.
    """
    webhook = config.webhook
    if webhook is None:
        raise ConfigError("no_webhook", "there is no [webhook] to be told")
    http_url(webhook.url)
    return Notifier(Path(config.control.socket), webhook, Path(webhook.state_directory) / "told", _secret(webhook))


def _secret(webhook: WebhookConfig) -> bytes:
    if webhook.secret is None:
        return b""
    try:
        secret = Path(webhook.secret).read_bytes().strip()
    except OSError as problem:
        raise ConfigError("webhook_secret", f"{webhook.secret}: {problem.strerror}") from None
    if len(secret) not in SECRET_BYTES:
        raise ConfigError("webhook_secret", f"{webhook.secret}: {len(secret)} bytes, 16 to 1024 are wanted")
    return secret


async def serve(config_path: Path, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
    """Tell the webhook of a coordinator's configuration until told to stop (SIGTERM, SIGINT) or cancelled."""
    notifier = notifier_of(load_config(config_path, CoordinatorConfig))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.run)
        nursery.start_soon(lambda: systemd.keep_watchdog(healthy=lambda: True))
        systemd.notify("READY=1")
        task_status.started()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            async for _ in received:
                systemd.notify("STOPPING=1")
                nursery.cancel_scope.cancel()
                return


def main(arguments: list[str] | None = None) -> int:
    """The command ``tccp-notifier``; exit codes as `tccp` has them."""
    return run_daemon(PROGRAM, serve, arguments)
