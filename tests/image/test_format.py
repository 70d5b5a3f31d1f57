"""The bytes of a sealed image, computed a second time from docs/IMAGE_FORMAT.md with other libraries."""

import gzip
import hashlib
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl import bindings as sodium

from tccp.image.keys import RecipientSecretKey, read_recipient_secret
from tccp.image.recipients import HPKE
from tccp.image.sealed import read_sealed_image, unlock_image
from tccp.merkle import merkle_tree
from tests.image.images import CHUNK, HEADER, PAGE, chunk_at, opened, tag_at
from tests.vectors.image.make import plaintext

VECTORS = Path(__file__).parents[1] / "vectors" / "image"


def image_and_key(name: str, tmp_path: Path) -> tuple[bytes, bytes]:
    content = gzip.decompress((VECTORS / f"{name}.sealed.gz").read_bytes())
    (tmp_path / "image").write_bytes(content)
    with opened(tmp_path / "image", 0) as descriptor:
        image = read_sealed_image(descriptor)
        key = unlock_image(image, read_recipient_secret((VECTORS / "recipient.key").read_bytes()))
        return content, bytes(key.buffer)


def subkey(content: bytes, key: bytes, label: bytes) -> bytes:
    context = content[32:48] + content[12:16]
    return hashlib.blake2b(context, digest_size=32, key=key, salt=content[48:64], person=label).digest()


def nonce(content: bytes, chunk: int, *, last: bool, kind: int) -> bytes:
    return content[48:64] + struct.pack("<QBB6x", chunk, last, kind)


def test_a_header_is_what_the_document_says(tmp_path: Path) -> None:
    content, key = image_and_key("base", tmp_path)
    head = subkey(content, key, b"tccp.image.head.")

    assert content[:24] == bytes.fromhex("89544349 0d0a1a0a 01000000 01000000 00000100 80000000")
    assert int.from_bytes(content[24:32], "little") == len(plaintext())
    assert content[64:96] == subkey(content, key, b"tccp.image.comm.")
    assert content[96:128] == merkle_tree([content[HEADER : HEADER + PAGE]])[0]
    assert content[4032:4064] == hashlib.blake2b(content[4096:HEADER], digest_size=32, key=head).digest()
    assert content[4064:4096] == hashlib.blake2b(content[:4064], digest_size=32, key=head).digest()
    root = hashlib.sha256(b"tccp image root v1\0" + content[:256]).digest()
    tenant = Ed25519PublicKey.from_public_bytes(content[256:288])
    tenant.verify(content[288:352], b"tccp image signature v1\0" + root)


def test_aegis_chunks_are_what_the_document_says(tmp_path: Path) -> None:
    content, key = image_and_key("base", tmp_path)
    data = subkey(content, key, b"tccp.image.data.")
    padded = plaintext().ljust(4 * CHUNK, b"\0")

    for chunk in (0, 2, 3):
        text = padded[chunk * CHUNK : (chunk + 1) * CHUNK]
        sealed = sodium.crypto_aead_aegis256_encrypt(text, None, nonce(content, chunk, last=chunk == 3, kind=0), data)
        assert content[chunk_at(chunk) : chunk_at(chunk) + CHUNK] == sealed[:CHUNK]
        assert content[tag_at(chunk) : tag_at(chunk) + 32] == sealed[CHUNK:]
    zeros = sodium.crypto_aead_aegis256_encrypt(b"", None, nonce(content, 1, last=False, kind=1), data)
    assert content[tag_at(1) : tag_at(1) + 32] == zeros
    assert content[chunk_at(1) : chunk_at(1) + CHUNK] == bytes(CHUNK)


def test_xchacha20_chunks_are_what_the_document_says(tmp_path: Path) -> None:
    content, key = image_and_key("xchacha20", tmp_path)
    data = subkey(content, key, b"tccp.image.data.")

    sealed = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext()[:CHUNK], None, nonce(content, 0, last=False, kind=0)[8:], data
    )

    assert content[chunk_at(0) : chunk_at(0) + CHUNK] == sealed[:CHUNK]
    assert content[tag_at(0) : tag_at(0) + 32] == sealed[CHUNK:] + bytes(16)


def test_what_another_implementation_wrapped_is_unwrapped() -> None:
    vector = json.loads((VECTORS / "hpke_xwing.json").read_text())
    secret = RecipientSecretKey.from_seed(bytes.fromhex(vector["seed"]))

    public = secret.public.raw.hex()
    assert public.startswith(vector["public_key_begins"])
    assert public.endswith(vector["public_key_ends"])
    ciphertext, info = bytes.fromhex("".join(vector["ciphertext"])), bytes.fromhex(vector["info"])
    assert HPKE.decrypt(ciphertext, secret.hpke_key, info).hex() == vector["plaintext"]
