import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tccp.errors import ConfigError, HostError
from tccp.systemd import FIRST_FD, listen_fds, trio_listeners

ROOT = Path(__file__).parents[2]


def ask(path: Path, word: str) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(60)
        stream.connect(str(path))
        stream.sendall(word.encode() + b"\n")
        return json.loads(stream.makefile().readline())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Two sockets, of which systemd-socket-activate starts our service at the first connection."""
    service = [sys.executable, "-m", "tests.support.systemd_service"]
    sockets = ["--listen", tmp_path / "nodes", "--listen", tmp_path / "control", "--fdname=nodes:control"]
    with subprocess.Popen(
        ["systemd-socket-activate", *sockets, *service], stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as activator:
        assert activator.stderr
        try:
            while "/control" not in (line := activator.stderr.readline()):
                assert line, "systemd-socket-activate ended before it listened"
            yield tmp_path
        finally:
            activator.terminate()


def test_sockets_come_by_name_from_a_real_systemd_socket_activate(folder: Path) -> None:
    state = ask(folder / "control", "state")

    assert state["sockets"] == {"nodes": 1, "control": 1}
    assert ask(folder / "nodes", "state")["pid"] == state["pid"], "both sockets are served by the one process"


def test_children_inherit_neither_the_sockets_nor_the_variables(folder: Path) -> None:
    state = ask(folder / "control", "state")

    assert state["inheritable"] == [False, False]
    assert state["left"] == []
    assert state["second_call"] == 0


def test_an_activated_service_ends_on_sigterm(folder: Path) -> None:
    pid = ask(folder / "control", "state")["pid"]
    assert isinstance(pid, int)
    handle = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)

    os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined]
    os.close(handle)


def test_there_are_no_sockets_without_systemd() -> None:
    assert listen_fds() == {}


def test_sockets_for_another_process_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "2")

    assert listen_fds() == {}
    assert "LISTEN_FDS" not in os.environ, "a child whose process id is 1 in its namespace must not take them either"


@pytest.mark.parametrize(
    ("count", "names"), [("x", ""), ("-1", ""), ("99999999999", ""), ("1025", ""), ("2", "one"), ("1", "one:two")]
)
def test_variables_that_contradict_each_other_are_a_fault_of_the_host(
    count: str, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setenv("LISTEN_FDNAMES", names)

    with pytest.raises(HostError, match="socket_activation"):
        listen_fds()


def run_with_descriptor(number: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run *script* in a process of its own whose descriptor 3 is *number*, as systemd would start it."""
    prelude = (
        f"import os; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.dup2({number}, {FIRST_FD})\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + script], capture_output=True, text=True, pass_fds=[number], check=False
    )


def test_a_socket_without_a_name_is_called_unknown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = run_with_descriptor(server.fileno(), "from tccp.systemd import listen_fds; print(list(listen_fds()))")

    assert child.stdout == "['unknown']\n"


def test_a_descriptor_that_is_no_socket_is_a_fault_of_the_host(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        child = run_with_descriptor(file.fileno(), "from tccp.systemd import listen_fds; listen_fds()")

    assert "HostError: socket_activation: descriptor 3 (unknown)" in child.stderr


def test_a_datagram_socket_is_refused_with_a_hint() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, pytest.raises(ConfigError) as caught:
        trio_listeners([sock])

    assert "ListenStream=" in caught.value.hint
