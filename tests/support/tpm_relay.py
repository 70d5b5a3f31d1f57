"""Lets several clients use one software TPM at once, as a machine's resource manager does.

    client --+
    client --+-- TpmRelay -- SoftTpm        whole commands, one at a time

swtpm serves one client and lets the next wait. Behind a relay somebody may extend a PCR while a daemon holds its
connection: what an administrator does on a real machine. The relay moves commands and knows nothing of keys: a client
that flushes the slots of others still does.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.soft_tpm import SoftTpm

_HEADER_BYTES = 10
_TPM_ALG = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
_TPM_CC_PCR_EXTEND = 0x182
_EMPTY_PASSWORD = bytes.fromhex("00000009 40000009 0000 01 0000")


class TpmRelay:
    """Stands before *soft_tpm* from ``with`` to the end of the block.

    It connects to the TPM when the first command comes, and again after the TPM was restarted; clients from before a
    restart are disconnected. Until the end of the block nobody else can use `SoftTpm.tcti`.
    """

    def __init__(self, soft_tpm: SoftTpm) -> None:
        self._soft_tpm = soft_tpm
        self._lock = threading.Lock()
        self._data: socket.socket | None = None
        self._power_on = 0

    @property
    def socket_path(self) -> Path:
        """Where clients connect."""
        return self._soft_tpm.socket_path.with_name("relay")

    @property
    def tcti(self) -> str:
        """What tccp and tpm2-tools call it."""
        return f"swtpm:path={self.socket_path}"

    def extend_pcr(self, index: int, bank: str, digest: bytes) -> None:
        """Extend a PCR behind everybody's back."""
        body = index.to_bytes(4, "big") + _EMPTY_PASSWORD + (1).to_bytes(4, "big")
        body += _TPM_ALG[bank].to_bytes(2, "big") + digest
        header = (0x8002).to_bytes(2, "big") + (_HEADER_BYTES + len(body)).to_bytes(4, "big")
        response, _ = self.exchange(header + _TPM_CC_PCR_EXTEND.to_bytes(4, "big") + body)
        if response[6:10] != bytes(4):
            raise RuntimeError(f"the TPM refused to extend PCR {index}: 0x{response[6:10].hex()}")

    def exchange(self, command: bytes, power_on: int | None = None) -> tuple[bytes, int]:
        """The TPM's response to *command*, and which time of being powered on it was.

        OSError when there is no TPM, or when it was restarted since the time *power_on*.
        """
        with self._lock:
            data = self._connected()
            if power_on not in {None, self._power_on}:
                raise ConnectionError("the TPM was restarted")
            try:
                data.sendall(command)
                return _read_message(data), self._power_on
            except OSError:
                self._disconnect()
                raise

    def _connected(self) -> socket.socket:
        if self._data is None or _hung_up(self._data):
            self._disconnect()
            data = socket.socket(socket.AF_UNIX)
            try:
                data.connect(str(self._soft_tpm.socket_path))
            except OSError:
                data.close()
                raise
            self._data = data
            self._power_on += 1
        return self._data

    def __enter__(self) -> Self:
        """Listen."""
        control = self.socket_path.with_name("relay.ctrl")
        for path in (self.socket_path, control):
            path.unlink(missing_ok=True)
        # tpm2-tools want to set the locality first.
        control.symlink_to(self._soft_tpm.socket_path.with_name(self._soft_tpm.socket_path.name + ".ctrl"))
        self._server = _Server(str(self.socket_path), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Disconnect everybody."""
        self._server.shutdown()
        self._thread.join()
        self._server.disconnect_clients()
        self._server.server_close()
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, relay: TpmRelay) -> None:
        self.relay = relay
        self._clients: set[socket.socket] = set()
        self._clients_lock = threading.Lock()
        super().__init__(path, _Client)

    def disconnect_clients(self) -> None:
        with self._clients_lock, contextlib.suppress(OSError):
            for client in self._clients:
                client.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def connected(self, client: socket.socket) -> Iterator[None]:
        with self._clients_lock:
            self._clients.add(client)
        try:
            yield
        finally:
            with self._clients_lock:
                self._clients.discard(client)


class _Client(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        with self.server.connected(self.request), contextlib.suppress(OSError):
            power_on = None
            while True:
                response, power_on = self.server.relay.exchange(_read_message(self.request), power_on)
                self.request.sendall(response)


def _hung_up(stream: socket.socket) -> bool:
    try:
        return stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _read_message(stream: socket.socket) -> bytes:
    """A command or response: both carry their size behind a tag of two bytes."""
    header = _read(stream, _HEADER_BYTES)
    return header + _read(stream, max(0, int.from_bytes(header[2:6], "big") - _HEADER_BYTES))


def _read(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        some = stream.recv(count - len(data))
        if not some:
            raise ConnectionError("disconnected")
        data += some
    return data
