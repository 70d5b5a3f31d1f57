"""Real software TPMs (swtpm) with EK certificates from an authority of our own: for tests, the demo and benchmarks.

    with EkAuthority(folder / "ca") as authority, SoftTpm(authority, folder / "tpm") as soft_tpm:
        async with open_tpm(soft_tpm.tcti) as tpm: ...

Nothing here knows pytest or trio; every call is synchronous and short. Start TPMs from the main thread: the kernel
kills a swtpm when the thread that started it ends, and so none outlives an interrupted run.
"""

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_DEADLINE_S = 60
# What swtpm's control channel understands (swtpm_ioctls(3)): ask for the capabilities, 8 bytes.
_CMD_GET_CAPABILITY = (1).to_bytes(4, "big")
_TPM2_SHUTDOWN_CLEAR = bytes.fromhex("8001 0000000c 00000145 0000")
_TPM2_SHUTDOWN_STATE = bytes.fromhex("8001 0000000c 00000145 0001")
_CERTIFICATES = ("swtpm-localca-rootca-cert.pem", "issuercert.pem")


class EkAuthority:
    """A local certificate authority of TPMs (a root and an issuer below it), made by swtpm's own tools on first use.

    Args:
        directory: Where it lives; made when missing. Whoever reads it can certify TPMs.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        (directory / "localca.conf").write_text(
            f"statedir = {directory}\n"
            f"signingkey = {directory}/signkey.pem\n"
            f"issuercert = {directory}/issuercert.pem\n"
            f"certserial = {directory}/certserial\n"
        )
        (directory / "localca.options").write_text(
            "--platform-manufacturer tccp\n--platform-version 1\n--platform-model test\n"
        )
        (directory / "setup.conf").write_text(
            "create_certs_tool = /usr/bin/swtpm_localca\n"
            f"create_certs_tool_config = {directory}/localca.conf\n"
            f"create_certs_tool_options = {directory}/localca.options\n"
            "active_pcr_banks = sha256\n"
        )

    @property
    def certificates(self) -> tuple[bytes, bytes]:
        """The root and the issuer, DER. They exist once a first TPM was manufactured."""
        root, issuer = (ssl.PEM_cert_to_DER_cert((self.directory / name).read_text()) for name in _CERTIFICATES)
        return root, issuer

    def manufacture(self, state: Path, *, pcr_banks: str = "sha256,sha384") -> None:
        """Make the state of a new TPM in the folder *state*, with RSA and ECC EKs and certificates; takes 0.6 s."""
        state.mkdir(parents=True, exist_ok=True)
        log = state.parent / f"{state.name}.setup.log"
        with log.open("wb") as output:
            finished = subprocess.run(
                [
                    *("swtpm_setup", "--tpm2", "--tpm-state", state, "--config", self.directory / "setup.conf"),
                    *("--create-ek-cert", "--lock-nvram", "--pcr-banks", pcr_banks, "--overwrite"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_DEADLINE_S,
                check=False,
            )
        if finished.returncode:
            raise RuntimeError(f"swtpm_setup failed:\n{log.read_text(errors='replace')[-2000:]}")


class SoftTpm:
    """One swtpm: manufactured when it is made, running from `start` to `stop` or `kill`; a context manager does both.

    Its data socket serves one client at a time; a second one waits until the first has gone.

    Args:
        authority: Who certifies its EKs.
        directory: Where its state, sockets and log live; the path is short, or the sockets do not fit (107 bytes).
        pcr_banks: As swtpm_setup takes them.
    """

    def __init__(self, authority: EkAuthority, directory: Path, *, pcr_banks: str = "sha256,sha384") -> None:
        self.authority = authority
        self._directory = directory
        self._state = directory / "state"
        self._pristine = directory / "pristine"
        self._process: subprocess.Popen[bytes] | None = None
        authority.manufacture(self._pristine, pcr_banks=pcr_banks)
        shutil.copytree(self._pristine, self._state)

    @property
    def socket_path(self) -> Path:
        """The data socket; the control socket is beside it, ``.ctrl`` behind its name, where tpm2-tools look for it."""
        return self._directory / "tpm"

    @property
    def tcti(self) -> str:
        """What tccp and tpm2-tools call it."""
        return f"swtpm:path={self.socket_path}"

    @property
    def log_path(self) -> Path:
        """Where swtpm's output goes."""
        return self._directory / "swtpm.log"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process; it must have been started."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, startup: str = "clear") -> None:
        """Power on, and return when it answers; *startup* is "clear" or "state" (TPM2_Startup)."""
        assert not self.running, "it runs already"
        assert threading.current_thread() is threading.main_thread(), "the TPM would end with this thread"
        for path in (self.socket_path, self._control_path):
            path.unlink(missing_ok=True)
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--", "swtpm", "socket", "--tpm2"),
                    *("--tpmstate", f"dir={self._state}", "--server", f"type=unixio,path={self.socket_path}"),
                    *("--ctrl", f"type=unixio,path={self._control_path}"),
                    *("--flags", f"not-need-init,startup-{startup}", "--seccomp", "action=kill"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Power off in good order, as an operating system does: TPM2_Shutdown first, unless a client is in the way."""
        if not self.running:
            return
        with contextlib.suppress(OSError):
            self._send_without_a_client(_TPM2_SHUTDOWN_CLEAR)
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Cut the power."""
        self._end(signal.SIGKILL)

    def reset(self) -> None:
        """Power off and on again: PCRs return to their start, resetCount grows, clients lose their connection."""
        self.stop()
        self.start()

    def sleep_and_wake(self) -> None:
        """As a machine suspends to RAM: PCRs stay as they are, restartCount grows, clients lose their connection."""
        self._send_without_a_client(_TPM2_SHUTDOWN_STATE)
        self._end(signal.SIGTERM)
        self.start(startup="state")

    def restore(self) -> None:
        """Be as new: the state that was manufactured, whatever has happened since. It must not be running."""
        assert not self.running, "it runs"
        shutil.rmtree(self._state)
        shutil.copytree(self._pristine, self._state)

    def __enter__(self) -> Self:
        """Power on."""
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Cut the power."""
        self.kill()

    @property
    def _control_path(self) -> Path:
        return self.socket_path.with_name(self.socket_path.name + ".ctrl")

    def _wait_until_it_answers(self) -> None:
        """Ask over the control channel, which swtpm opens after the data socket, until there is an answer."""
        assert self._process is not None
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(_DEADLINE_S)
                try:
                    control.connect(str(self._control_path))
                    control.sendall(_CMD_GET_CAPABILITY)
                    if control.recv(8):
                        return
                except (FileNotFoundError, ConnectionError):
                    time.sleep(0.002)
        raise RuntimeError(f"swtpm did not start:\n{self.log_path.read_text(errors='replace')[-2000:]}")

    def _send_without_a_client(self, command: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as data:
            data.settimeout(0.1)
            data.connect(str(self.socket_path))
            data.sendall(command)
            data.recv(4096)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


class SoftTpmPool:
    """TPMs that are manufactured once and lent out as new: each has an EK of its own.

    Args:
        authority: Who certifies their EKs.
        directory: Where they live.
    """

    def __init__(self, authority: EkAuthority, directory: Path) -> None:
        self._authority = authority
        self._directory = directory
        self._idle: list[SoftTpm] = []
        self._made = 0

    @contextlib.contextmanager
    def lend(self) -> Iterator[SoftTpm]:
        """A running TPM in the state in which it was manufactured; no two lent at once are the same."""
        soft_tpm = self._idle.pop() if self._idle else self._make()
        soft_tpm.restore()
        try:
            with soft_tpm:
                yield soft_tpm
        finally:
            self._idle.append(soft_tpm)

    def _make(self) -> SoftTpm:
        self._made += 1
        return SoftTpm(self._authority, self._directory / str(self._made))
