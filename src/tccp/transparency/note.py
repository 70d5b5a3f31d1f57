"""Signed notes: a text, an empty line, and a line for each signature. C2SP signed-note.

    example.org/log
    17
    qINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=

    \N{EM DASH} example.org/log wLqM9...
    \N{EM DASH} witness.example.net/w1 Bx5Y...

Keys are known beforehand, by name and key id; signatures of anybody else are passed over. A cosignature is a signature
with the time in it (C2SP tlog-cosignature, Ed25519).
"""

import base64
import binascii
import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from tccp.errors import ConfigError, LogError

NOTE_BYTES_MAX = 1 << 17
SIGNATURES_MAX = 64
NAME_BYTES_MAX = 255
TIME_MAX = (1 << 63) - 1
_DASH = "\N{EM DASH} "


class SignatureType(enum.IntEnum):
    """What a key signs, and how; part of its id."""

    ED25519 = 1  # the text
    COSIGNATURE = 4  # the text of a checkpoint, and when it was seen


@dataclass(frozen=True)
class NoteKey:
    """A key that verifies signatures on notes."""

    name: str
    public_key: bytes
    type: SignatureType = SignatureType.ED25519

    def __post_init__(self) -> None:
        """Nobody can be called anything, and a key has its length."""
        if not is_key_name(self.name) or len(self.public_key) != 32:
            raise ConfigError("note_key", f"{self.name!r}: no name of a key, or no Ed25519 key")

    @property
    def key_id(self) -> bytes:
        """Four bytes that are no proof of anything: they only say which key to try."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public_key).digest()[:4]

    def __str__(self) -> str:
        """As other tools write it: ``name+id+key``."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(bytes([self.type]) + self.public_key)}"


def parse_note_key(text: str) -> NoteKey:
    """Read a key as ``str(key)`` writes it.

    Raises:
        ConfigError: ``note_key``.
    """
    try:
        name, key_id, encoded = text.split("+", 2)
        data = from_base64(encoded)
        key = NoteKey(name, data[1:], SignatureType(data[0]))
    except (ValueError, IndexError) as error:
        raise ConfigError("note_key", f"not NAME+ID+KEY: {error}") from None
    if key.key_id.hex() != key_id:
        raise ConfigError("note_key", f"{name}: the id is not that of the key")
    return key


class NoteSigner:
    """A key that signs notes, under a name.

    Raises:
        ConfigError: ``note_key``: nobody can be called that.
    """

    def __init__(
        self, name: str, signing_key: SigningKey, signature_type: SignatureType = SignatureType.ED25519
    ) -> None:
        self.key = NoteKey(name, bytes(signing_key.verify_key), signature_type)
        self._signing_key = signing_key

    def sign(self, text: str, at_s: int = 0) -> "NoteSignature":
        """Sign *text*; a cosignature says that it was seen at *at_s*, seconds since 1970."""
        if self.key.type is SignatureType.ED25519:
            return NoteSignature(self.key.name, self.key.key_id, self._signing_key.sign(text.encode()).signature)
        signed = self._signing_key.sign(_cosigned(text, at_s)).signature
        return NoteSignature(self.key.name, self.key.key_id, at_s.to_bytes(8, "big") + signed)


@dataclass(frozen=True)
class NoteSignature:
    """A line below a note. It is worth nothing before `open_note` has verified it."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        """The line as it stands in the note."""
        return f"{_DASH}{self.name} {to_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True)
class Note:
    """A note as it came in; nobody has verified it."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """The note as it is passed on."""
        return "".join([self.text, "\n", *map(str, self.signatures)]).encode()


@dataclass(frozen=True)
class VerifiedNote:
    """A note, and the known keys that signed it: each with the time of its cosignature, in seconds, or None."""

    note: Note
    signers: dict[NoteKey, int | None]


def sign_note(text: str, *signers: NoteSigner) -> Note:
    """A note of *text*, which ends with a newline."""
    return Note(text, tuple(signer.sign(text) for signer in signers))


def parse_note(data: bytes) -> Note:
    """Take a note apart; nothing is verified.

    Only one way to write a note is accepted, so that what two people have read as the same is the same.

    Raises:
        LogError: ``note_malformed``.
    """
    if len(data) > NOTE_BYTES_MAX:
        raise LogError("note_malformed", f"{len(data)} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise LogError("note_malformed", "not UTF-8") from None
    if any(character < " " and character != "\n" for character in whole):
        raise LogError("note_malformed", "a control character")
    text, separator, below = whole.rpartition("\n\n")
    if not separator or not below.endswith("\n"):
        raise LogError("note_malformed", "no empty line before the signatures, or no newline at the end")
    lines = below[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise LogError("note_malformed", f"{len(lines)} signatures")
    return Note(text + "\n", tuple(map(_parse_signature, lines)))


def _parse_signature(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        data = from_base64(encoded)
    except ValueError:
        data = b""
    if not line.startswith(_DASH) or not space or not is_key_name(name) or len(data) < 5:
        raise LogError("note_malformed", "no signature line")
    return NoteSignature(name, data[:4], data[4:])


def open_note(data: bytes, keys: Sequence[NoteKey]) -> VerifiedNote:
    """Verify a note: at least one of *keys* signed it, and none that seems to have signed it did not.

    Raises:
        LogError: ``note_malformed``; ``signature``: it is not by the key that it names; ``signed_twice`` by one key;
            ``unsigned`` by any of *keys*.
        ConfigError: ``ambiguous_keys``: two have one name and one id.
    """
    known = {(key.name, key.key_id): key for key in keys}
    if len(known) != len(keys):
        raise ConfigError("ambiguous_keys", "two keys of one name and one id")
    note = parse_note(data)
    signers: dict[NoteKey, int | None] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if key in signers:
            raise LogError("signed_twice", key.name)
        signers[key] = _verify(key, note.text, signature.signature)
    if not signers:
        raise LogError("unsigned", "by none of the keys that count")
    return VerifiedNote(note, signers)


def _verify(key: NoteKey, text: str, signature: bytes) -> int | None:
    at_s = None
    message = text.encode()
    if key.type is SignatureType.COSIGNATURE:
        at_s, signature = int.from_bytes(signature[:8], "big"), signature[8:]
        if at_s > TIME_MAX:
            raise LogError("signature", f"{key.name}: no time")
        message = _cosigned(text, at_s)
    try:
        VerifyKey(key.public_key).verify(message, signature)
    except (BadSignatureError, ValueError):
        raise LogError("signature", key.name) from None
    return at_s


def _cosigned(text: str, at_s: int) -> bytes:
    """What a cosignature is over."""
    return f"cosignature/v1\ntime {at_s}\n{text}".encode()


def is_key_name(name: str) -> bool:
    """Whether a key may be called that: no space of any kind, no plus, no control character."""
    forbidden = any(character.isspace() or character == "+" or character < " " for character in name)
    try:
        return 0 < len(name.encode()) <= NAME_BYTES_MAX and not forbidden
    except UnicodeEncodeError:
        return False


def to_base64(data: bytes) -> str:
    """RFC 4648, 4."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """RFC 4648, 4, strictly: what is decoded would be encoded to *text* again.

    Raises:
        ValueError: It would not.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(str(error)) from None
    if to_base64(data) != text:
        raise ValueError("not the one way to write it")
    return data
