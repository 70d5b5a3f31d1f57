"""Sessions that keep a secret from whoever listens between CPU and TPM (TPM 2.0 Library, Part 1, 17 and 19).

A salt that only the TPM's storage key can read makes a session key. With it each command and each answer carries an
HMAC, and the first parameter of those that ask for it is encrypted: AES-128-CFB under a key of its own for each
message, since both sides' nonces go into it.

    nonceCaller, {salt}_storage key  ->  handle, nonceTPM          session key = KDFa(salt, "ATH", both nonces)

Who takes the TPM's place at the first contact can name a storage key of his own: this keeps listeners out, and no
more. Later contacts compare the key's name with the one that was seen first.
"""

import contextlib
import hashlib
import hmac
import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB  # TPM_ALG_CFB: what every TPM has; the HMAC authenticates
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tccp.core.memory import wipe
from tccp.errors import TpmError
from tccp.tpm.channel import Acknowledgement, Answer, Channel, Session
from tccp.tpm.constants import Algorithm, CommandCode, Handle, SessionAttribute
from tccp.tpm.marshal import Reader, malformed, tpm2b, u8, u16, u32
from tccp.tpm.objects import Primary, flush_surely
from tccp.tpm.structures import public_area

_NONCE_BYTES = 32
_AES_KEY_BYTES = 16
_AES_BLOCK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Named:
    """A loaded object together with its name, over which the HMAC of a command goes."""

    handle: int
    name: bytes


class SaltedSession:
    """A session made by `salted_session`. Its commands are sent one after the other, or their nonces go astray."""

    def __init__(self, channel: Channel, handle: int, key: bytes, nonce_tpm: bytes) -> None:
        self._channel = channel
        self.handle = handle
        self._key = key
        self._nonce_tpm = nonce_tpm

    async def command(
        self, code: CommandCode, handles: Sequence[Named], parameters: bytes, attributes: SessionAttribute
    ) -> Answer:
        """Have the TPM carry out a command that this session authorizes.

        Args:
            handles: The first is what needs the authorization, with an empty password.
            parameters: In the clear; DECRYPT has the first of them, a sized buffer, go encrypted.
            attributes: ENCRYPT has the first parameter of the answer come encrypted, and be read in the clear.

        Raises:
            TpmError: As `Channel.command`; ``tpm_answer_forged`` when the answer is not by the holder of the salt.
        """
        attributes |= SessionAttribute.CONTINUE
        nonce = os.urandom(_NONCE_BYTES)
        if SessionAttribute.DECRYPT in attributes:
            parameters = self._with_first(parameters, newer=nonce, older=self._nonce_tpm, encrypt=True)
        names = b"".join(named.name for named in handles)
        digest = hashlib.sha256(u32(code) + names + parameters).digest()
        authorization = Session(self.handle, attributes, nonce, self._hmac(digest, nonce, self._nonce_tpm, attributes))
        answer = await self._channel.command(
            code, tuple(named.handle for named in handles), parameters, (authorization,)
        )
        (said,) = answer.acknowledgements
        body = answer.parameters.rest()
        self._check(code, said, body, nonce)
        self._nonce_tpm = said.nonce
        if SessionAttribute.ENCRYPT in attributes:
            body = self._with_first(body, newer=said.nonce, older=nonce, encrypt=False)
        return Answer(answer.handles, Reader(body), answer.acknowledgements)

    def _check(self, code: CommandCode, said: Acknowledgement, body: bytes, nonce: bytes) -> None:
        digest = hashlib.sha256(u32(0) + u32(code) + body).digest()
        if not hmac.compare_digest(said.hmac, self._hmac(digest, said.nonce, nonce, said.attributes)):
            raise TpmError(
                "tpm_answer_forged",
                f"the HMAC of the answer to TPM2_{code.name} is wrong",
                hint="Something between CPU and TPM alters what passes; trust nothing on this machine.",
            )

    def _hmac(self, digest: bytes, newer: bytes, older: bytes, attributes: int) -> bytes:
        return hmac.digest(self._key, digest + newer + older + u8(attributes), "sha256")

    def _with_first(self, parameters: bytes, *, newer: bytes, older: bytes, encrypt: bool) -> bytes:
        """*parameters* with the first of them, a sized buffer, encrypted or decrypted (Part 1, 19.3).

        What was in the clear is wiped, but in what is returned.
        """
        reader = Reader(parameters)
        first, rest = reader.tpm2b(), reader.rest()
        derived = kdf_a(self._key, b"CFB", newer, older, _AES_KEY_BYTES + _AES_BLOCK_BYTES)
        cipher = Cipher(AES(derived[:_AES_KEY_BYTES]), CFB(derived[_AES_KEY_BYTES:]))
        operation = cipher.encryptor() if encrypt else cipher.decryptor()
        changed = operation.update(first) + operation.finalize()
        whole = b"".join((u16(len(changed)), changed, rest))
        in_the_clear = first if encrypt else changed
        if len(in_the_clear) > 1:
            wipe(in_the_clear)
        return whole


@contextlib.asynccontextmanager
async def salted_session(channel: Channel, storage_key: Primary, session_type: int) -> AsyncGenerator[SaltedSession]:
    """A session of *session_type* (``SESSION_TYPE_HMAC`` or ``_POLICY``), salted for *storage_key* (Part 3, 11.1)."""
    salt, encrypted_salt = _make_salt(storage_key.public)
    nonce = os.urandom(_NONCE_BYTES)
    symmetric = u16(Algorithm.AES) + u16(8 * _AES_KEY_BYTES) + u16(Algorithm.CFB)
    parameters = tpm2b(nonce) + tpm2b(encrypted_salt) + u8(session_type) + symmetric + u16(Algorithm.SHA256)
    answer = await channel.command(CommandCode.START_AUTH_SESSION, (storage_key.handle, Handle.NULL), parameters)
    (handle,) = answer.handles
    try:
        nonce_tpm = answer.parameters.tpm2b()
        answer.parameters.finish()
        if len(nonce_tpm) != _NONCE_BYTES:
            raise malformed(f"a nonce of {len(nonce_tpm)} bytes")
        yield SaltedSession(channel, handle, kdf_a(salt, b"ATH", nonce_tpm, nonce, 32), nonce_tpm)
    finally:
        await flush_surely(channel, handle)


def _make_salt(storage_public: bytes) -> tuple[bytes, bytes]:
    """A salt, and the same for the holder of a P-256 storage key alone: an ephemeral point (Part 1, C.6.1)."""
    their_key = load_der_public_key(public_area(storage_public).spki)
    if not isinstance(their_key, ec.EllipticCurvePublicKey) or not isinstance(their_key.curve, ec.SECP256R1):
        raise malformed("a storage key that is not the one of our template")
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    ours, theirs = ephemeral.public_key().public_numbers(), their_key.public_numbers()
    x, y, their_x = (number.to_bytes(32, "big") for number in (ours.x, ours.y, theirs.x))
    shared = ephemeral.exchange(ec.ECDH(), their_key)
    return kdf_e(shared, b"SECRET", x, their_x), tpm2b(x) + tpm2b(y)


def kdf_a(key: bytes, label: bytes, newer: bytes, older: bytes, size: int) -> bytes:
    """KDFa with SHA-256: *size* bytes, 32 at most (Part 1, 11.4.10.2; SP 800-108, counter mode)."""
    assert size <= hashlib.sha256().digest_size
    return hmac.digest(key, u32(1) + label + b"\0" + newer + older + u32(8 * size), "sha256")[:size]


def kdf_e(shared: bytes, label: bytes, party_u: bytes, party_v: bytes) -> bytes:
    """KDFe with SHA-256: 32 bytes of the shared x coordinate (Part 1, 11.4.10.3; SP 800-56A)."""
    return hashlib.sha256(u32(1) + shared + label + b"\0" + party_u + party_v).digest()
