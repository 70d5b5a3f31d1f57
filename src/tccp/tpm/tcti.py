"""Where a TPM is, and how bytes get there and back.

A TCTI string, the way tpm2-tools write it, names the TPM: ``device:/dev/tpmrm0``, ``swtpm:path=/run/x.sock`` or
``swtpm:host=127.0.0.1,port=2321``. A `Connection` moves whole bytes and knows nothing of what they mean;
`tccp.tpm.channel` does.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from tccp.errors import ConfigError, TpmError
from tccp.tpm.constants import MESSAGE_BYTES_MAX

_UNIX_PATH_BYTES_MAX = 107
_RESOURCE_MANAGER_PREFIX = "tpmrm"
_SYNTAX_HINT = "Write device:/dev/tpmrm0, swtpm:path=/run/swtpm.sock or swtpm:host=127.0.0.1,port=2321."
_DEVICE_HINT = "Name the device of a TPM: device:/dev/tpmrm0."
_SWTPM_HINT = "Is swtpm running, and does it listen there (swtpm socket --tpm2 --server type=unixio,path=...)?"


class Connection(Protocol):
    """An open way to a TPM."""

    async def send(self, data: bytes) -> None:
        """Pass a whole command on."""

    async def receive(self) -> bytes:
        """Some bytes of the answer, MESSAGE_BYTES_MAX at most; empty when the TPM is gone."""

    async def aclose(self) -> None:
        """Close it; again is harmless."""


@dataclass(frozen=True, slots=True)
class DeviceTcti:
    """The kernel's driver: ``/dev/tpmrm0``, or ``/dev/tpm0`` without its resource manager."""

    path: Path

    def __str__(self) -> str:
        """The TCTI string."""
        return f"device:{self.path}"

    @property
    def has_resource_manager(self) -> bool:
        """Whether objects and sessions vanish with our connection, and others' are out of our sight."""
        return self.path.name.startswith(_RESOURCE_MANAGER_PREFIX)

    @property
    def one_client_only(self) -> bool:
        """Whether a second client waits in silence: the driver refuses it instead."""
        return False

    async def connect(self) -> Connection:
        """Open the device.

        Raises:
            ConfigError: There is none, or we may not use it.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _device_error(self, error) from error
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError("tpm_missing", f"{self.path} is not a device", hint=_DEVICE_HINT)
        return DeviceConnection(descriptor)


@dataclass(frozen=True, slots=True)
class SwtpmTcti:
    """A software TPM behind the data socket of swtpm, at a Unix path or a host and port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        """The TCTI string."""
        return f"swtpm:path={self.path}" if self.path else f"swtpm:host={self.host},port={self.port}"

    @property
    def has_resource_manager(self) -> bool:
        """Objects and sessions outlive a connection to swtpm."""
        return False

    @property
    def one_client_only(self) -> bool:
        """Swtpm accepts a second client only when the first is gone, and lets it wait in silence until then."""
        return True

    async def connect(self) -> Connection:
        """Connect to the data socket.

        Raises:
            ConfigError: Nobody listens there, or we may not connect.
        """
        try:
            if self.path:
                return StreamConnection(await trio.open_unix_socket(self.path))
            return StreamConnection(await trio.open_tcp_stream(self.host, self.port))
        except OSError as error:
            raise _swtpm_error(self, error) from error


Tcti = DeviceTcti | SwtpmTcti


def parse_tcti(text: str) -> Tcti:
    """The TPM that *text* names.

    Raises:
        ConfigError: *text* is no TCTI that tccp knows; the hint says how one looks.
    """
    kind, _, rest = text.partition(":")
    if kind == "device":
        return DeviceTcti(_absolute(text, rest))
    if kind != "swtpm":
        raise _invalid(text, "it begins neither with device: nor with swtpm:")
    options: dict[str, str] = {}
    for option in rest.split(","):
        key, _, value = option.partition("=")
        if key in options or not value:
            raise _invalid(text, f"{option!r} is given twice or has no value")
        options[key] = value
    if options.keys() == {"path"}:
        path = _absolute(text, options["path"])
        if len(os.fsencode(path)) > _UNIX_PATH_BYTES_MAX:
            raise _invalid(text, f"the path of a Unix socket has {_UNIX_PATH_BYTES_MAX} bytes at most")
        return SwtpmTcti(path=path)
    if options.keys() == {"host", "port"}:
        return SwtpmTcti(host=options["host"], port=_port(text, options["port"]))
    raise _invalid(text, "swtpm takes path, or host and port")


def _absolute(text: str, path: str) -> Path:
    if not path.startswith("/") or "\0" in path:
        raise _invalid(text, f"{path!r} is not an absolute path")
    return Path(path)


def _port(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 5 and 0 < int(digits) < 65536):
        raise _invalid(text, f"{digits!r} is not a port")
    return int(digits)


def _invalid(text: str, why: str) -> ConfigError:
    return ConfigError("tcti_invalid", f"{text!r}: {why}", hint=_SYNTAX_HINT)


def _device_error(tcti: DeviceTcti, error: OSError) -> ConfigError | TpmError:
    if isinstance(error, FileNotFoundError):
        hint = "Is the TPM on in the firmware set-up? In a virtual machine, add one. For tests: swtpm:path=..."
        return ConfigError("tpm_missing", f"{tcti.path} does not exist", hint=hint)
    if isinstance(error, PermissionError):
        hint = "Add the service's user to the group tss (SupplementaryGroups=tss), and allow the device in its unit."
        return ConfigError("tpm_permission", f"{tcti.path}: permission denied", hint=hint)
    if error.errno == errno.EBUSY:
        return TpmError("tpm_busy", f"{tcti.path} is in use", hint="Use the resource manager, device:/dev/tpmrm0.")
    return ConfigError("tpm_missing", f"{tcti.path}: {error.strerror}", hint=_DEVICE_HINT)


def _swtpm_error(tcti: SwtpmTcti, error: OSError) -> ConfigError:
    if isinstance(error, PermissionError):
        hint = "Give the service's user access to the socket, for instance through its group."
        return ConfigError("tpm_permission", f"{tcti}: permission denied", hint=hint)
    return ConfigError("tpm_missing", f"{tcti}: {error.strerror or error}", hint=_SWTPM_HINT)


class StreamConnection:
    """A connection over any trio stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        """Pass a whole command on."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise gone() from error

    async def receive(self) -> bytes:
        """Some bytes of the answer, MESSAGE_BYTES_MAX at most; empty when the TPM is gone."""
        try:
            return bytes(await self._stream.receive_some(MESSAGE_BYTES_MAX))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise gone() from error

    async def aclose(self) -> None:
        """Close it; again is harmless."""
        await trio.aclose_forcefully(self._stream)


class DeviceConnection:
    """The kernel's driver: one write is a command, poll tells when the answer is there (Linux >= 4.20)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def send(self, data: bytes) -> None:
        """Pass a whole command on; the driver takes it in one piece or not at all."""
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise gone() from error
        if written != len(data):
            raise TpmError("tpm_gone", f"the driver took {written} of {len(data)} bytes")

    async def receive(self) -> bytes:
        """Some bytes of the answer, MESSAGE_BYTES_MAX at most; empty when the TPM is gone."""
        try:
            await trio.lowlevel.wait_readable(self._descriptor)
            return os.read(self._descriptor, MESSAGE_BYTES_MAX)
        except (OSError, trio.ClosedResourceError) as error:
            raise gone() from error

    async def aclose(self) -> None:
        """Close it; again is harmless."""
        if self._descriptor >= 0:
            trio.lowlevel.notify_closing(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        await trio.lowlevel.checkpoint()


def gone() -> TpmError:
    """The error for a TPM that went away."""
    return TpmError("tpm_gone", "the connection to the TPM broke", hint="Did swtpm stop, or was the driver unloaded?")
