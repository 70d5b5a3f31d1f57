"""What a tenant has pinned: one file for each coordinator, in a folder of hers.

    ~/.config/tccp/trust/NAME.json     who it is, what it must prove, and the last head of its log that was seen
    ~/.config/tccp/trust/.NAME.lock

After a crash a file is the old one or the new one. The head that was seen must be on the disk before anything is done
because of it; otherwise a coordinator could show an older one once more.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from tccp.durable import replace_file, sync_folder
from tccp.errors import ConfigError, HostError, LogError
from tccp.protocol.statements import coordinator_id, log_origin
from tccp.tenant.policy import TenantPolicy, parse_tenant_policy
from tccp.transparency.checkpoint import Checkpoint, parse_checkpoint
from tccp.transparency.note import NOTE_BYTES_MAX, NoteKey, parse_note
from tccp.transport.certificates import spki_of_pem

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
FILE_BYTES_MAX = 512 * 1024
FORMAT = "tccp/v1/trust"
RELEASE_KEY_BYTES = 1216  # X-Wing

Hex32 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex = Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{2})+\Z", max_length=16_384)]


class PinnedCoordinator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A coordinator that was verified once.

    Attributes:
        address: ``HOST:PORT`` of its port for tenants.
        ca: PEM of the authority of leases and of its TLS certificate.
        ak: The attestation key of its TPM, DER.
        software: What it said it runs when it was looked at last.
        policy: The tenant's demands, as she wrote them.
        seen: The newest checkpoint that was verified, the whole note.
        added_s: Seconds since 1970, as *checked_s*.
    """

    format: str
    name: str
    address: str
    identity: Hex32
    ca: Annotated[str, Meta(max_length=8192)]
    ak: Hex
    log_key: Hex32
    release_key: Hex
    log_url: Annotated[str, Meta(max_length=512)]
    software: Annotated[str, Meta(max_length=64)]
    policy: Annotated[str, Meta(max_length=65_536)]
    seen: Annotated[str, Meta(max_length=NOTE_BYTES_MAX)]
    added_s: Annotated[int, Meta(ge=0)]
    checked_s: Annotated[int, Meta(ge=0)]

    @property
    def coordinator_id(self) -> bytes:
        """32 bytes."""
        return coordinator_id(bytes.fromhex(self.identity))

    @property
    def origin(self) -> str:
        """The name of its log."""
        return log_origin(self.coordinator_id)

    @property
    def note_key(self) -> NoteKey:
        """The key of its log's checkpoints."""
        return NoteKey(self.origin, bytes.fromhex(self.log_key))

    @property
    def release_key_raw(self) -> bytes:
        """The X-Wing public key that VM keys are wrapped to, 1216 bytes."""
        return bytes.fromhex(self.release_key)

    @property
    def demands(self) -> TenantPolicy:
        """The policy, read again; a relative folder in it means nothing here."""
        return parse_tenant_policy(self.policy.encode())

    @property
    def head(self) -> Checkpoint:
        """The checkpoint that was seen last."""
        return parse_checkpoint(parse_note(self.seen.encode()).text)

    @property
    def host(self) -> str:
        """The host part of the address, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of the address."""
        return int(self.address.rpartition(":")[2])


def parse_pinned(body: bytes) -> PinnedCoordinator:
    """The content of a file of the store.

    Raises:
        ConfigError: ``trust_invalid``.
    """
    if len(body) > FILE_BYTES_MAX:
        raise ConfigError("trust_invalid", f"more than {FILE_BYTES_MAX} bytes")
    try:
        pinned = msgspec.json.decode(body, type=PinnedCoordinator)
        problem = _problem_of(pinned)
    except (msgspec.DecodeError, UnicodeError, ValueError, RecursionError, LogError, ConfigError) as error:
        raise ConfigError("trust_invalid", str(error)) from None
    if problem:
        raise ConfigError("trust_invalid", problem)
    return pinned


def _problem_of(pinned: PinnedCoordinator) -> str:
    """What is wrong with it, or nothing; raises what reading its parts raises."""
    if pinned.format != FORMAT or not NAME.fullmatch(pinned.name):
        return f"no {FORMAT}, or no name"
    if not 1 <= pinned.port <= 65_535 or len(pinned.release_key) != 2 * RELEASE_KEY_BYTES:
        return "no port, or no release key"
    spki_of_pem(pinned.ca.encode("ascii"))
    if pinned.head.origin != pinned.note_key.name:
        return "the checkpoint is of another log"
    return "" if pinned.demands.allowed or pinned.demands.measured_boot else "no policy"


def write_pinned(pinned: PinnedCoordinator) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(pinned), indent=2) + b"\n"


class TrustStore:
    """The folder of pinned coordinators.

    Every method raises HostError (``trust_store``) when the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Nobody else changes what is pinned as *name* meanwhile; waits for who does."""
        path = self._path(name).with_name(f".{name}.lock")
        with _disk_errors():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with _disk_errors():
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def names(self) -> list[str]:
        """Who is pinned, in order."""
        with _disk_errors():
            if not self.folder.is_dir():
                return []
            return sorted(path.stem for path in self.folder.glob("*.json") if NAME.fullmatch(path.stem))

    def find(self, name: str) -> PinnedCoordinator | None:
        """The coordinator pinned as *name*.

        Raises:
            ConfigError: ``trust_invalid``: what is there is none.
        """
        with _disk_errors():
            try:
                with self._path(name).open("rb") as file:
                    body = file.read(FILE_BYTES_MAX + 1)
            except FileNotFoundError:
                return None
        try:
            pinned = parse_pinned(body)
        except ConfigError as problem:
            hint = "It was changed or damaged. Delete it, and verify the coordinator anew: `tccp trust add`."
            raise ConfigError(problem.reason, f"{self._path(name)}: {problem.detail}", hint=hint) from None
        if pinned.name != name:
            raise ConfigError("trust_invalid", f"{self._path(name)}: it is of {pinned.name!r}")
        return pinned

    def load(self, name: str | None = None) -> PinnedCoordinator:
        """The coordinator pinned as *name*, or the only one.

        Raises:
            ConfigError: ``not_pinned``, ``which_one``, ``trust_invalid``.
        """
        if name is None:
            names = self.names()
            if len(names) > 1:
                raise ConfigError("which_one", f"{', '.join(names)} are pinned: name one of them")
            name = names[0] if names else None
        pinned = self.find(name) if name else None
        if pinned is None:
            hint = "`tccp trust add HOST:PORT --policy FILE` verifies a coordinator and pins it"
            what = f"{name} is not pinned" if name else "no coordinator is pinned"
            raise ConfigError("not_pinned", f"{self.folder}: {what}", hint=hint)
        return pinned

    def save(self, pinned: PinnedCoordinator) -> None:
        """Keep *pinned*; durable when this returns. The caller holds `locked`."""
        try:
            replace_file(self._path(pinned.name), write_pinned(pinned), mode=0o600)
        except HostError as problem:
            raise HostError("trust_store", problem.detail) from None

    def remove(self, name: str) -> None:
        """Forget a coordinator, and the head of its log. The caller holds `locked`."""
        with _disk_errors():
            self._path(name).unlink()
            sync_folder(self.folder)

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ConfigError("bad_name", f"{name!r} is not a name: a-z, 0-9, '-', '_' and '.', 1 to 63 characters")
        return self.folder / f"{name}.json"


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise HostError("trust_store", f"{problem.filename or ''}: {problem.strerror or problem}") from None


def default_folder() -> Path:
    """``$XDG_CONFIG_HOME/tccp/trust``, or ``~/.config/tccp/trust``."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(configured) if configured else Path.home() / ".config") / "tccp" / "trust"
