"""The process in which many nodes live: it registers them, has them answer every challenge, and does what it is told.

    python -m bench.load.crowd --control SOCKET --port PORT [--policy tvmm]

Commands come on standard input, a JSON object a line, and each is answered by one line; `bench.load.coordinator` gives
them. Challenges are answered at any time, by a loop over epoll and each node's own session and TLS: one core of this
must keep one core of a coordinator busy.
"""

import argparse
import collections
import json
import random
import resource
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from bench.load.nodes import FAULTS, LoadNode, enrol_all, register_all
from tccp.errors import TccpError
from tccp.node.daemon import BACKOFF_FIRST_S, BACKOFF_MAX_S
from tccp.protocol.messages import Refused, RenewalChallenge, Renewed, Revoked
from tccp.transport.connection import RefusalError
from tccp.transport.trust import CoordinatorTrust

READY_AT_ONCE = 256  # sockets that are looked at before answers that are due go out


class Crowd:
    """All nodes, and what has become of them."""

    def __init__(self, control: Path, port: int, policy: str) -> None:
        self._control, self._port, self._policy = control, port, policy
        self._trust: CoordinatorTrust
        self._nodes: list[LoadNode] = []
        self._by_fd: dict[int, LoadNode] = {}
        self._lost: list[LoadNode] = []
        self._poll = select.epoll()
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._waiting = collections.deque[tuple[float, LoadNode, RenewalChallenge]]()
        self._delay_s = 0.0
        self._start_over()
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "add": self._add,
            "delay": self._set_delay,
            "spoil": self._spoil,
            "report": self._report,
            "come_back": self._come_back,
        }

    def _start_over(self) -> None:
        self._asked_at, self._refusals = 0.0, collections.Counter[str]()
        self._renewed_at: list[float] = []
        self._took_s: list[float] = []

    def run(self) -> None:
        """Answer challenges and obey, until standard input ends."""
        while True:
            timeout = max(self._waiting[0][0] - time.perf_counter(), 0) if self._waiting else None
            for fd, _ in self._poll.poll(timeout, READY_AT_ONCE):
                if fd != sys.stdin.fileno():
                    self._read(fd)
                    continue
                line = sys.stdin.readline()
                if not line:
                    return
                command = json.loads(line)
                print(json.dumps(self._commands[command["do"]](command)), flush=True)
            while self._waiting and self._waiting[0][0] <= time.perf_counter():
                _, node, asked = self._waiting.popleft()
                if node.fd >= 0:
                    node.answer(asked)

    def _read(self, fd: int) -> None:
        node = self._by_fd.get(fd)
        if node is None:
            return
        try:
            for message in node.arrived():
                if isinstance(message, RenewalChallenge):
                    now = time.perf_counter()
                    self._asked_at = self._asked_at or now
                    self._waiting.append((now + self._delay_s, node, message))
                elif isinstance(message, Refused | Revoked):
                    self._refusals[message.reason] += 1
                    if isinstance(message, Revoked):  # it leaves by itself, as a node does
                        self._lose(node)
                        return
                else:
                    assert isinstance(message, Renewed), message
                    now = time.perf_counter()
                    self._renewed_at.append(now)
                    self._took_s.append(now - node.answered_at)
        except OSError:
            self._lose(node)

    def _watch(self, node: LoadNode) -> None:
        self._by_fd[node.fd] = node
        self._poll.register(node.fd, select.EPOLLIN)

    def _lose(self, node: LoadNode) -> None:
        self._poll.unregister(node.fd)
        del self._by_fd[node.fd]
        node.stream._socket.close()  # no trio here
        self._lost.append(node)

    # ---- commands

    def _add(self, command: dict[str, Any]) -> dict[str, Any]:
        """Enrol and register *count* nodes more, 64 at once."""
        names = (f"load-{number}" for number in range(command["first"], command["first"] + command["count"]))
        nodes = [LoadNode(name) for name in names]
        self._trust = enrol_all(self._control, nodes, self._policy)
        began = time.perf_counter()
        failures = trio.run(register_all, self._port, nodes, self._trust)
        seconds = time.perf_counter() - began
        self._nodes += nodes
        for node in nodes if not failures else ():
            self._watch(node)
        return {"seconds": seconds, "failures": failures[:10], "times_s": [node.registration_s for node in nodes]}

    def _set_delay(self, command: dict[str, Any]) -> dict[str, Any]:
        """Answer each challenge *ms* later: the round-trip time of a network."""
        self._delay_s = command["ms"] / 1000
        return {}

    def _spoil(self, command: dict[str, Any]) -> dict[str, Any]:
        """Let each *every*-th node answer its next challenge with bad evidence."""
        spoilt = list(self._by_fd.values())[:: command["every"]]
        faults = list(FAULTS)
        for number, node in enumerate(spoilt):
            node.fault = faults[number % len(faults)]
        return {"nodes": len(spoilt)}

    def _report(self, command: dict[str, Any]) -> dict[str, Any]:
        """What has happened since the last report that began anew (*anew*)."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        told = {
            "connected": len(self._by_fd),
            "lost": len(self._lost),
            "renewals": len(self._renewed_at),
            "refusals": dict(self._refusals),
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }
        if command.get("anew"):
            told |= {"asked_at": self._asked_at, "renewed_at": self._renewed_at, "took_s": self._took_s}
            self._start_over()
        return told

    def _come_back(self, _: dict[str, Any]) -> dict[str, Any]:
        """Let all who lost their connection register again, each on its own, with the pauses of the node daemon."""
        lost, self._lost = self._lost, []
        began = time.perf_counter()
        back_s, failures = trio.run(self._all_come_back, lost)
        for node in lost:
            self._watch(node)
        return {"seconds": time.perf_counter() - began, "back_s": back_s, "failures": dict(failures)}

    async def _all_come_back(self, lost: list[LoadNode]) -> tuple[list[float], collections.Counter[str]]:
        back_s: list[float] = []
        failures = collections.Counter[str]()
        began = time.perf_counter()

        async def one(node: LoadNode) -> None:
            backoff = BACKOFF_FIRST_S
            while True:
                await trio.sleep(backoff * random.uniform(0.5, 1.5))  # noqa: S311 - as the daemon does
                try:
                    await node.register(self._port, self._trust)
                except (TccpError, RefusalError) as problem:
                    failures[getattr(problem, "reason", "") or str(problem)] += 1
                    backoff = min(2 * backoff, BACKOFF_MAX_S)
                else:
                    back_s.append(time.perf_counter() - began)
                    return

        async with trio.open_nursery() as nursery:
            for node in lost:
                nursery.start_soon(one, node)
        return back_s, failures


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--policy", default="tvmm")
    options = parser.parse_args()
    Crowd(options.control, options.port, options.policy).run()


if __name__ == "__main__":
    main()
