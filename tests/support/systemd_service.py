"""A small trio service for the tests of `tccp.systemd`: tells what systemd gave it, and misbehaves on demand.

It listens on every socket that systemd opened for it, whatever its command line says. Each connection sends one word
and gets one line of JSON back:

    state     pid, names of the sockets, credentials, number of reloads, what is left in the environment
    reloaded  the same, once there was a reload
    unwell    the health check says no from now on
    stuck     the event loop stops turning, as if a bug spun or blocked in it
"""

import json
import os
import signal
import threading
from pathlib import Path

import trio

from tccp import systemd


class Service:
    """What the words above look at and change."""

    def __init__(self) -> None:
        self.healthy = True
        self.reloads = 0
        self.reloaded = trio.Event()
        self.sockets = systemd.listen_fds()

    def state(self) -> dict[str, object]:
        key = systemd.credential("key")
        return {
            "pid": os.getpid(),
            "sockets": {name: len(sockets) for name, sockets in self.sockets.items()},
            "inheritable": [sock.get_inheritable() for sockets in self.sockets.values() for sock in sockets],
            "left": sorted(name for name in os.environ if name.startswith("LISTEN_")),
            "second_call": len(systemd.listen_fds()),
            "credential": key.decode() if key is not None else None,
            "absent_credential": systemd.credential("absent") is None,
            "reloads": self.reloads,
            "user": os.getuid(),
        }

    async def answer(self, stream: trio.SocketStream) -> None:
        word = bytes(await stream.receive_some(64)).strip()
        if word == b"reloaded":
            await self.reloaded.wait()
        if word == b"unwell":
            self.healthy = False
        reply = json.dumps(self.state()).encode() + b"\n"
        await stream.send_all(reply)
        await stream.aclose()
        if word == b"stuck":
            threading.Event().wait()

    async def reload_on_hangup(self) -> None:
        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            async for _ in hangups:
                with systemd.reloading("reading again"):
                    self.reloads += 1
                systemd.notify(f"STATUS=reloaded {self.reloads} times")
                self.reloaded.set()


async def main() -> None:
    service = Service()
    listeners = systemd.trio_listeners(sock for sockets in service.sockets.values() for sock in sockets)
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM) as terminations:
            nursery.start_soon(service.reload_on_hangup)
            nursery.start_soon(lambda: systemd.keep_watchdog(healthy=lambda: service.healthy))
            nursery.start_soon(trio.serve_listeners, service.answer, listeners)
            systemd.notify("READY=1", "STATUS=serving")
            async for _ in terminations:
                systemd.notify("STOPPING=1")
                nursery.cancel_scope.cancel()
                break


if __name__ == "__main__":
    trio.run(main)
    if state_directory := os.environ.get("STATE_DIRECTORY"):
        Path(state_directory, "stopped-in-order").touch()
