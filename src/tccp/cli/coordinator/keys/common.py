"""What the commands around the coordinator's keys share."""

import argparse
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tccp.cli.arguments import Parser, add_file
from tccp.cli.files import PUBLIC_MODE, SECRET_MODE, read_file, write_file, write_new_key
from tccp.cli.output import Screen
from tccp.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from tccp.config import CoordinatorConfig
    from tccp.coordinator.custody.approval import Request
    from tccp.coordinator.custody.key_set import KeySet
    from tccp.store import EventKind
    from tccp.tpm import Tpm

    Seal: TypeAlias = Callable[[Tpm, ec.EllipticCurvePublicKey], Awaitable[Request]]

CONFIG = Path("/etc/tccp/coordinator.toml")
NEW_AUTHORITY = "update-authority.key"
FIRST_REQUEST = "request.toml"


class Found(NamedTuple):
    """What came of sealing a coordinator's keys: a new authority, or a request to the one that was named."""

    authority_id: bytes
    new_authority: Path | None = None
    request: Path | None = None

    @property
    def document(self) -> Mapping[str, Any]:
        """For ``--json``."""
        return {
            "authority": self.authority_id.hex(),
            "authority_key": None if self.new_authority is None else str(self.new_authority),
            "request": None if self.request is None else str(self.request),
        }

    def say(self, screen: Screen) -> None:
        """For people: what to do next."""
        if self.new_authority is not None:
            screen.line(f"{self.new_authority}: the secret key of the new update authority; take it off this machine")
        if self.request is not None:
            screen.line(f"{self.request}: have the authority approve it (`tccp coordinator keys approve`) and install")
            screen.line("the answer (`tccp coordinator keys install-approval`); the coordinator does not start before")


def found_keys(args: argparse.Namespace, config: "CoordinatorConfig", keys: "KeySet", event: "EventKind") -> Found:
    """Seal *keys* in the state directory, which has none yet.

    Raises:
        ConfigError: ``already_initialised``, and as `seal_for_authority`.
    """
    from tccp.coordinator.custody.vault import check_vacant, create_vault

    state = Path(config.state_directory)
    check_vacant(state)

    async def seal(tpm: "Tpm", authority: "ec.EllipticCurvePublicKey") -> "Request":
        selection = config.tpm.selection
        return await create_vault(tpm, state, keys, authority, selection, event=event, now_ms=now_ms())

    return seal_for_authority(args, config, seal)


def add_config(parser: Parser) -> None:
    """The option that names the coordinator's configuration."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, default=CONFIG, help=f"the configuration (default: {CONFIG})"
    )


def add_authority(parser: Parser) -> None:
    """The options that say who approves states of the machine."""
    either = parser.add_mutually_exclusive_group()
    add_file(either, "--authority", summary="public key of the update authority, PEM (default: a new one is made)")
    about = f"where to write the secret key of a new one (default: {NEW_AUTHORITY} beside the configuration)"
    add_file(either, "--new-authority", summary=about)


def load(args: argparse.Namespace) -> "tuple[CoordinatorConfig, Path]":
    """The configuration that ``--config`` names, and its state directory."""
    from tccp.config import CoordinatorConfig, load_config

    config = load_config(args.config, CoordinatorConfig)
    return config, Path(config.state_directory)


def now_ms() -> int:
    """By this machine's clock."""
    return time.time_ns() // 1_000_000


def seal_for_authority(args: argparse.Namespace, config: "CoordinatorConfig", seal: "Seal") -> Found:
    """Have *seal* seal keys to this machine's TPM, for the authority of ``--authority`` or for a new one.

    A new authority approves the present state at once; one that was named is asked to.

    Raises:
        ConfigError: ``key_exists``, and what *seal* raises; nothing was done.
    """
    import trio

    from tccp.coordinator.custody import authority as a
    from tccp.coordinator.custody.approval import approve, write_request
    from tccp.coordinator.custody.vault import install_approval, read_vault

    if args.authority is not None:
        named = a.read_authority_public(read_file(args.authority, bytes_max=a.AUTHORITY_FILE_BYTES_MAX))
        request = trio.run(_with_tpm, config, seal, named)
        path = args.config.with_name(FIRST_REQUEST)
        write_file(path, write_request(request), PUBLIC_MODE)
        return Found(a.authority_id(named), request=path)
    state, new = Path(config.state_directory), a.make_authority()
    path = args.new_authority or args.config.with_name(NEW_AUTHORITY)
    public_path = write_authority(path, new)
    try:
        request = trio.run(_with_tpm, config, seal, new.public_key())
    except BaseException:
        if not _obey(state, a.authority_id(new.public_key())):
            path.unlink()
            public_path.unlink()
        raise
    install_approval(state, read_vault(state), approve(request, new), now_ms=now_ms())
    return Found(a.authority_id(new.public_key()), new_authority=path)


async def _with_tpm(config: "CoordinatorConfig", seal: "Seal", authority: "ec.EllipticCurvePublicKey") -> "Request":
    from tccp.tpm import open_tpm

    async with open_tpm(config.tpm.tcti) as tpm:
        return await seal(tpm, authority)


def _obey(state: Path, authority_id: bytes) -> bool:
    """Whether the keys in *state* have come to obey this authority: then its secret key is not to be lost."""
    from tccp.coordinator.custody.authority import authority_id as id_of
    from tccp.coordinator.custody.vault import read_vault

    try:
        return id_of(read_vault(state).authority) == authority_id
    except ConfigError:
        return False


def write_authority(path: Path, authority: "ec.EllipticCurvePrivateKey") -> Path:
    """Write the secret key of *authority* to *path*, and the public one beside it, where that is; both or neither.

    Raises:
        ConfigError: ``key_exists``.
        HostError: ``file_unwritable``.
    """
    from tccp.coordinator.custody.authority import public_pem, secret_pem

    public_path = path.with_suffix(".pub")
    write_new_key(path, secret_pem(authority), SECRET_MODE)
    try:
        write_new_key(public_path, public_pem(authority.public_key()), PUBLIC_MODE)
    except BaseException:
        path.unlink()
        raise
    return public_path
