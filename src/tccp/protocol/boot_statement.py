"""What the boot of a node signs about a VM, and what both kinds of it have to stand: `destruction`, `moving`."""

from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tccp.errors import LaunchError, ProtocolError
from tccp.protocol.encoding import Message, decode, encode
from tccp.protocol.statements import IdentityStatement, decode_identity


def sign_statement(said: Message, key: SigningKey) -> tuple[bytes, bytes]:
    """The statement and its signature."""
    body = encode(said)
    return body, key.sign(body).signature


def signed_by_boot(
    statement: bytes, signature: bytes, kind: type[Message], *, identity: bytes, word: str
) -> tuple[IdentityStatement, Any]:
    """The boot of *identity*, and the statement of this *kind* that it has signed; look at whom it speaks of.

    Args:
        word: How the reasons begin.

    Raises:
        LaunchError: ``..._malformed``, ``..._signature``.
    """
    try:
        boot = decode_identity(identity)
        VerifyKey(boot.signing_key).verify(statement, signature)
        return boot, decode(statement, kind)
    except ProtocolError as problem:
        raise LaunchError(f"{word}_malformed", problem.detail) from None
    except (BadSignatureError, ValueError):
        raise LaunchError(f"{word}_signature", "the boot that is named has not signed this") from None
