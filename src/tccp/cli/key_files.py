"""Files of keys on a command line: public ones may be anybody's to read, secret ones only their owner's."""

import argparse
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tccp.cli.arguments import COMPLETE_FILES
from tccp.cli.files import STDIN, read_file
from tccp.errors import ConfigError, HostError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from nacl.signing import SigningKey, VerifyKey

    from tccp.image.keys import RecipientPublicKey, RecipientSecretKey

DESCRIPTOR = re.compile(r"fd:([0-9]{1,9})")
OTHERS = stat.S_IRWXG | stat.S_IRWXO
Key = TypeVar("Key")


def add_secret(container: argparse._ActionsContainer, name: str, *, summary: str, required: bool = False) -> None:
    """An option that names a secret key."""
    about = f"{summary}, a file or fd:N"
    action = container.add_argument(name, metavar="FILE", type=secret_path, required=required, help=about)
    action.complete = COMPLETE_FILES  # type: ignore[attr-defined]


def recipient_public(path: Path) -> "RecipientPublicKey":
    """The public key of a recipient."""
    from tccp.image.keys import KEY_FILE_BYTES_MAX, read_recipient_public

    return _named(path, read_recipient_public, read_file(path, bytes_max=KEY_FILE_BYTES_MAX))


def recipients_public(paths: Sequence[Path]) -> list["RecipientPublicKey"]:
    """The public keys of several."""
    return [recipient_public(path) for path in paths]


def tenant_public(path: Path) -> "VerifyKey":
    """The public key of a tenant."""
    from tccp.image.keys import KEY_FILE_BYTES_MAX, read_tenant_public

    return _named(path, read_tenant_public, read_file(path, bytes_max=KEY_FILE_BYTES_MAX))


def operator_public(path: Path) -> "VerifyKey":
    """The public key of an operator."""
    from tccp.image.keys import KEY_FILE_BYTES_MAX, read_operator_public

    return _named(path, read_operator_public, read_file(path, bytes_max=KEY_FILE_BYTES_MAX))


def recipient_secret(path: Path) -> "RecipientSecretKey":
    """The secret key of a recipient, from a file or ``fd:N``."""
    from tccp.image.keys import read_recipient_secret

    return _named(path, read_recipient_secret, _read_secret(path))


def tenant_secret(path: Path) -> "SigningKey":
    """The secret key of a tenant, from a file or ``fd:N``."""
    from tccp.image.keys import read_tenant_secret

    return _named(path, read_tenant_secret, _read_secret(path))


def operator_secret(path: Path) -> "SigningKey":
    """The secret key of an operator, from a file or ``fd:N``."""
    from tccp.image.keys import read_operator_secret

    return _named(path, read_operator_secret, _read_secret(path))


def authority_secret(path: Path) -> "ec.EllipticCurvePrivateKey":
    """The secret key of an update authority, from a file or ``fd:N``."""
    from tccp.coordinator.custody.authority import read_authority_secret

    return _named(path, read_authority_secret, _read_secret(path))


def _named(path: Path, read: Callable[[bytes], Key], content: bytes) -> Key:
    """The same, with the file's name in the error."""
    try:
        return read(content)
    except ConfigError as error:
        raise ConfigError(error.reason, f"{path}: {error.detail}", hint=error.hint) from error


def _read_secret(path: Path) -> bytes:
    from tccp.image.keys import KEY_FILE_BYTES_MAX

    handed_over = DESCRIPTOR.fullmatch(str(path))
    try:
        with os.fdopen(int(handed_over[1]) if handed_over else open_secret(path), "rb") as file:
            return file.read(KEY_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise HostError("file_unreadable", f"{path}: {error.strerror}") from error


def open_secret(path: Path) -> int:
    """A descriptor of the file with a secret key; the caller closes it.

    Raises:
        ConfigError: ``key_exposed``: others than its owner may read it.
        HostError: It cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError("file_unreadable", f"{path}: {error.strerror}") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and mode & OTHERS:
        os.close(descriptor)
        hint = f"chmod 600 {path}; was it ever copied?"
        raise ConfigError("key_exposed", f"{path}: others may read or write it", hint=hint)
    return descriptor


def secret_path(text: str) -> Path:
    """A file or ``fd:N``; a type for ``add_argument``."""
    if Path(text) == STDIN:
        raise argparse.ArgumentTypeError("a secret key comes from a file or a descriptor (fd:3)")
    return Path(text)
