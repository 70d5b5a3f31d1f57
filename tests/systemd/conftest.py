"""A notification socket like systemd's, and an environment without any of systemd's variables."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted_systemd import BootedSystemd, boot
from tests.systemd.booted import install

VARIABLES = ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID",
             "CREDENTIALS_DIRECTORY"]  # fmt: skip


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Manager:
    """The receiving end of sd_notify."""

    def __init__(self, address: str) -> None:
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.channel.bind(address)
        self.channel.settimeout(60)

    def receive(self) -> list[str]:
        """The assignments of the next datagram."""
        return self.channel.recv(4096).decode().split("\n")

    def heard(self) -> list[list[str]]:
        """All that is waiting to be read, without waiting for more."""
        messages = []
        self.channel.setblocking(False)
        try:
            while True:
                messages.append(self.receive())
        except BlockingIOError:
            return messages


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with manager.channel:
        yield manager


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSystemd]:
    """A booted systemd with our units, users and folders, as a package would install them."""
    with boot(tmp_path_factory.mktemp("machine")) as machine:
        install(machine)
        yield machine
