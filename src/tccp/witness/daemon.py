"""``tccp-witness``: cosign the checkpoints of the logs that the configuration names."""

import contextlib
import signal
from pathlib import Path

import structlog
import trio

from tccp import systemd
from tccp.config import WitnessConfig, load_config
from tccp.errors import ConfigError, HostError
from tccp.service import Program, run_daemon
from tccp.transparency.add_checkpoint import REQUEST_BYTES_MAX
from tccp.transparency.note import NoteKey, parse_note_key
from tccp.transport.accepting import serve_connections
from tccp.transport.errors import PeerGoneError
from tccp.transport.http import HttpLimits, serve_http
from tccp.witness.answers import WitnessAnswers
from tccp.witness.keys import load_signer
from tccp.witness.memory import WitnessMemory

BACKLOG = 256
LIMITS = HttpLimits(body_bytes_max=REQUEST_BYTES_MAX)

PROGRAM = Program(
    "witness",
    WitnessConfig,
    "A witness: cosigns the heads of logs that only go forward.",
    Path("/etc/tccp/witness.toml"),
)

log = structlog.get_logger()


async def serve(config_path: Path, *, task_status: "trio.TaskStatus[str]" = trio.TASK_STATUS_IGNORED) -> None:
    """Run the witness until it is told to stop (SIGTERM, SIGINT) or cancelled; starts with where it listens."""
    config = load_config(config_path, WitnessConfig)
    state = Path(config.state_directory)
    signer = load_signer(state, config.name)
    answers = WitnessAnswers(signer, WitnessMemory(state), log_keys(config))
    given = systemd.listen_fds().get("witness")
    async with contextlib.AsyncExitStack() as opened:
        listeners = systemd.trio_listeners(given) if given else await _listeners(config)
        for listener in listeners:
            await opened.enter_async_context(listener)
        host, port, *_ = listeners[0].socket.getsockname()
        listening = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

        async def serve_one(stream: trio.SocketStream) -> None:
            try:
                await serve_http(stream, answers.answer, LIMITS)
            except PeerGoneError as problem:
                log.debug("peer_gone", detail=problem.detail)
            except HostError as problem:
                log.error("request_failed", reason=problem.reason, detail=problem.detail)
            finally:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await stream.aclose()

        nursery = await opened.enter_async_context(trio.open_nursery())
        nursery.start_soon(_obey_signals, nursery.cancel_scope)
        nursery.start_soon(lambda: systemd.keep_watchdog(healthy=lambda: True))
        systemd.notify("READY=1", f"STATUS=listening on {listening}")
        log.info("ready", listening=listening, key=str(signer.key), logs=len(config.logs))
        task_status.started(listening)
        await serve_connections(listeners, serve_one, connections_max=config.listen.connections_max)


def log_keys(config: WitnessConfig) -> dict[str, NoteKey]:
    """The logs of a configuration, by origin.

    Raises:
        ConfigError: ``note_key``; ``ambiguous_keys``: one origin twice.
    """
    keys: dict[str, NoteKey] = {}
    for entry in config.logs:
        key = parse_note_key(entry.key)
        origin = entry.origin or key.name
        if origin in keys:
            raise ConfigError("ambiguous_keys", f"the log {origin!r} stands twice")
        keys[origin] = key
    return keys


async def _listeners(config: WitnessConfig) -> list[trio.SocketListener]:
    listen = config.listen
    try:
        return await trio.open_tcp_listeners(listen.port, host=listen.address, backlog=BACKLOG)
    except OSError as problem:
        where = f"{listen.address}:{listen.port}"
        raise ConfigError("cannot_listen", f"{where}: {problem.strerror or problem}", hint="set [listen]") from None


async def _obey_signals(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            systemd.notify("STOPPING=1")
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
            return


def main(arguments: list[str] | None = None) -> int:
    """The command ``tccp-witness``; exit codes as `tccp` has them."""
    return run_daemon(PROGRAM, serve, arguments)
