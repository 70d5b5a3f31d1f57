"""Several clients for one swtpm, as the kernel's /dev/tpmrm0 gives them for a real TPM.

swtpm serves one client at a time. Behind this relay a node daemon keeps its TPM while somebody else on the host
extends a PCR, which is what an attacker with root does. Commands of all clients go one after another; keys and
sessions are not kept apart, so the others must not flush what is not theirs.
"""

import contextlib
import socket
import threading
from pathlib import Path

HEADER_BYTES = 10


class TpmMux:
    """Listens at *path* and passes commands on to the swtpm at *tpm_path*, until `close`."""

    def __init__(self, path: Path, tpm_path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._tpm = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._tpm.connect(str(tpm_path))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def tcti(self) -> str:
        """What tccp and tpm2-tools call it."""
        return f"swtpm:path={self.path}"

    def command(self, command_hex: str) -> bytes:
        """Send one command of our own; the response.

        Raises:
            RuntimeError: The TPM refused it.
        """
        with self._lock:
            self._tpm.sendall(bytes.fromhex(command_hex))
            answer = _read_frame(self._tpm)
        if answer is None or answer[6:10] != bytes(4):
            raise RuntimeError(f"the TPM answered {answer.hex() if answer else 'nothing'}")
        return answer

    def close(self) -> None:
        """Take no more commands."""
        for sock in (self._listener, self._tpm):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
        except OSError:
            return  # closed

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                while (command := _read_frame(client)) is not None:
                    with self._lock:
                        self._tpm.sendall(command)
                        answer = _read_frame(self._tpm)
                    if answer is None:
                        return
                    client.sendall(answer)
        except OSError:
            return  # either end has gone


def _read_frame(sock: socket.socket) -> bytes | None:
    """A TPM command or response: tag (2), size of all (4), ..."""
    header = _read(sock, HEADER_BYTES)
    if header is None:
        return None
    rest = _read(sock, int.from_bytes(header[2:6], "big") - HEADER_BYTES)
    return None if rest is None else header + rest


def _read(sock: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            return None
        data += part
    return data
