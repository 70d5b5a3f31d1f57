"""Make the vectors of sealed images: python -m tests.vectors.image.make

Ours from end to end. Keys, ids and encapsulations are random, so each run makes other bytes: the files are made once
and kept. A vector is a base file and edits; what must come out stands beside it.
"""

import gzip
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from tccp.core.image import image_header_write
from tccp.image.keys import (
    RecipientSecretKey,
    read_recipient_secret,
    read_tenant_secret,
    write_recipient_keys,
    write_tenant_keys,
)
from tccp.image.rewrap import rewrap_image
from tests.image.images import CHUNK, HEADER, PAGE, chunk_at, image_key, seal_bytes, sealed, tag_at

HERE = Path(__file__).parent
SIZE = 3 * CHUNK + 5  # data, zeros, data, and five bytes


def plaintext() -> bytes:
    """Chunk 0 and 2 count up, chunk 1 is all zeros, chunk 3 says end."""
    first = b"".join(number.to_bytes(4, "little") for number in range(CHUNK // 4))
    return first + bytes(CHUNK) + first[::-1] + b"end.\n"


def _header_of(path: Path, secret: RecipientSecretKey, edits: list[dict[str, Any]]) -> bytes:
    """The base's header with some fields changed by somebody who holds the key: the MACs hold again."""
    altered = path.with_name("altered")
    altered.write_bytes(apply(path.read_bytes(), edits, {}))
    key = image_key(path, secret)
    with sealed(altered) as image:
        return image_header_write(image.info, [entry.encode() for entry in image.recipients], key)


def apply(content: bytes, edits: list[dict[str, Any]], others: dict[str, bytes]) -> bytes:
    """Carry out the edits of a vector, one after the other."""
    file = bytearray(content)
    for edit in edits:
        match edit:
            case {"length": length}:
                file = file[:length] + bytes(max(0, length - len(file)))
            case {"at": at, "xor": mask}:
                file[at] ^= mask
            case {"at": at, "bytes": written}:
                file[at : at + len(written) // 2] = bytes.fromhex(written)
            case {"at": at, "zeros": count}:
                file[at : at + count] = bytes(count)
            case {"at": at, "count": count, "from": name, "from_at": source}:
                file[at : at + count] = others[name][source : source + count]
            case {"swap": [one, other], "count": count}:
                file[one : one + count], file[other : other + count] = (
                    file[other : other + count],
                    file[one : one + count],
                )
            case _:
                raise AssertionError(f"no such edit: {edit}")
    return bytes(file)


def main() -> None:
    """Write the files."""
    files = dict(zip(("recipient.key", "recipient.pub"), write_recipient_keys(), strict=True))
    files |= dict(zip(("stranger.key", "stranger.pub"), write_recipient_keys(), strict=True))
    files |= dict(zip(("tenant.key", "tenant.pub"), write_tenant_keys(), strict=True))
    files |= dict(zip(("other_tenant.key", "other_tenant.pub"), write_tenant_keys(), strict=True))
    secret, tenant = read_recipient_secret(files["recipient.key"]), read_tenant_secret(files["tenant.key"])
    with tempfile.TemporaryDirectory() as name:
        bases = _bases(Path(name), secret, read_recipient_secret(files["stranger.key"]), tenant)
        header = _header_of(Path(name) / "base", secret, [{"at": 24, "bytes": (SIZE - 1).to_bytes(8, "little").hex()}])
    for base, content in bases.items():
        files[f"{base}.sealed.gz"] = gzip.compress(content, 9, mtime=0)
    files["vectors.json"] = json.dumps(_vectors(bases, header), indent=1).encode() + b"\n"
    for file, content in files.items():
        (HERE / file).write_bytes(content)
        if file.endswith(".key"):
            (HERE / file).chmod(0o600)


def _bases(
    folder: Path, secret: RecipientSecretKey, stranger: RecipientSecretKey, tenant: SigningKey
) -> dict[str, bytes]:
    other_tenant = SigningKey(os.urandom(32))
    seal_bytes(folder / "base", plaintext(), secret.public, tenant=tenant)
    seal_bytes(folder / "other", plaintext(), secret.public, tenant=tenant)
    seal_bytes(folder / "xchacha20", plaintext(), secret.public, tenant=tenant, suite=2)
    seal_bytes(folder / "unsigned", b"", secret.public)
    seal_bytes(folder / "empty", b"", secret.public, tenant=tenant)
    seal_bytes(folder / "zeros", bytes(SIZE), secret.public, tenant=tenant)
    seal_bytes(folder / "other_tenant", b"", secret.public, tenant=other_tenant)
    (folder / "rewrapped").write_bytes((folder / "base").read_bytes())
    rewrap_image(folder / "rewrapped", secret, add=[stranger.public])
    names = ("base", "other", "xchacha20", "unsigned", "empty", "zeros", "other_tenant", "rewrapped")
    return {name: (folder / name).read_bytes() for name in names}


def _vectors(bases: dict[str, bytes], shorter_header: bytes) -> list[dict[str, Any]]:
    end = len(bases["base"])

    def vector(
        name: str, reason: str | None, *edits: dict[str, Any], base: str = "base", **more: Any
    ) -> dict[str, Any]:
        """*reason* with key and tenant; without a key the same, unless ``keyless`` says otherwise."""
        return {"name": name, "base": base, "edits": list(edits), "reason": reason, "keyless": reason, **more}

    def root_of(base: str) -> str:
        return hashlib.sha256(b"tccp image root v1\0" + bases[base][:256]).hexdigest()

    return [
        vector("accepted", None),
        vector("accepted: XChaCha20-Poly1305", None, base="xchacha20"),
        vector("accepted: rewrapped to a second recipient", None, base="rewrapped"),
        vector("accepted: no bytes at all", None, base="empty"),
        vector("accepted: nothing but zeros", None, base="zeros"),
        vector("truncated by a byte", "truncated", {"length": end - 1}),
        vector("truncated by a chunk", "truncated", {"length": end - CHUNK}),
        vector("truncated inside the header", "truncated", {"length": 4000}),
        vector("truncated to nothing", "malformed", {"length": 0}, keyless="malformed"),
        vector("extended by a byte", "extended", {"length": end + 1}),
        vector("extended by a chunk", "extended", {"length": end + CHUNK}),
        vector("truncated, and the size made to fit", "header_altered", {"length": end - CHUNK},
               {"at": 24, "bytes": (3 * CHUNK).to_bytes(8, "little").hex()}, keyless="bad_signature"),
        vector("size changed by somebody who holds the key", "bad_signature",
               {"at": 0, "bytes": shorter_header.hex()}),
        vector("no sealed image", "malformed", {"at": 0, "xor": 1}),
        vector("another version", "unsupported", {"at": 8, "xor": 2}),
        vector("another suite, unknown", "unsupported", {"at": 12, "bytes": "03000000"}),
        vector("another suite, known", "suite_altered", {"at": 12, "bytes": "02000000"}, keyless="bad_signature"),
        vector("suite raised to AEGIS-256", "suite_altered", {"at": 12, "bytes": "01000000"}, base="xchacha20",
               keyless="bad_signature"),
        vector("chunk size", "malformed", {"at": 16, "bytes": "00100000"}),
        vector("reserved bytes", "malformed", {"at": 200, "xor": 128}),
        # The image id is part of what wraps the key, the file nonce and the commitment of what the key is checked with.
        vector("image id", "recipient_altered", {"at": 32, "xor": 1}, keyless="bad_signature"),
        vector("file nonce", "wrong_key", {"at": 48, "xor": 1}, keyless="bad_signature"),
        vector("commitment", "wrong_key", {"at": 64, "xor": 1}, keyless="bad_signature"),
        vector("root of the tags", "header_altered", {"at": 96, "xor": 1}, keyless="bad_signature"),
        vector("tenant", "header_altered", {"at": 256, "xor": 1}, keyless="bad_signature"),
        vector("signature", "header_altered", {"at": 288, "xor": 1}, keyless="bad_signature"),
        vector("signature taken off", "header_altered", {"at": 256, "zeros": 96}, keyless="unsigned"),
        vector("number of recipients", "malformed", {"at": 352, "bytes": "00000000"}),
        vector("header MAC", "header_altered", {"at": 4064, "xor": 1}, keyless=None),
        vector("recipients MAC", "header_altered", {"at": 4032, "xor": 1}, keyless=None),
        vector("own wrapped key", "recipient_altered", {"at": 4096 + 48, "xor": 1}, keyless=None),
        vector("own key id", "not_a_recipient", {"at": 4096 + 16, "xor": 1}, keyless=None),
        vector("another recipient's wrapped key", "recipients_altered", {"at": 4096 + 1216 + 48, "xor": 1},
               base="rewrapped", keyless=None),
        vector("a recipient put in by a stranger", "recipients_altered",
               {"at": 4096 + 1216, "count": 1216, "from": "other", "from_at": 4096}, base="rewrapped", keyless=None),
        vector("wrapped key of another image", "recipient_altered",
               {"at": 4096, "count": 1216, "from": "other", "from_at": 4096}, keyless=None),
        vector("a key that is no recipient", "not_a_recipient", key="stranger.key", keyless=None),
        vector("another tenant", "wrong_tenant", base="other_tenant", keyless=None),
        vector("not signed", "unsigned", base="unsigned"),
        vector("accepted: the root that was asked for", None, root=root_of("base")),
        vector("another image in its place", "wrong_root", base="other", root=root_of("base")),
        vector("rewrapped, and so of the same root", None, base="rewrapped", root=root_of("base")),
        vector("header of another image", "tags_altered",
               {"at": 0, "count": HEADER, "from": "other", "from_at": 0}),
        vector("a tag", "tags_altered", {"at": tag_at(2), "xor": 1}),
        vector("a tag that no chunk has", "tags_altered", {"at": tag_at(4), "xor": 1}),
        vector("tag table zeroed", "tags_zeroed", {"at": HEADER, "zeros": PAGE}),
        vector("two chunks swapped", "chunk_moved", {"swap": [chunk_at(0), chunk_at(2)], "count": CHUNK}, keyless=None),
        vector("two chunks swapped with their tags", "tags_altered",
               {"swap": [chunk_at(0), chunk_at(2)], "count": CHUNK}, {"swap": [tag_at(0), tag_at(2)], "count": 32}),
        vector("a chunk of another image", "chunk_altered",
               {"at": chunk_at(0), "count": CHUNK, "from": "other", "from_at": chunk_at(0)}, keyless=None),
        vector("a chunk of another image with its tag", "tags_altered",
               {"at": chunk_at(0), "count": CHUNK, "from": "other", "from_at": chunk_at(0)},
               {"at": tag_at(0), "count": 32, "from": "other", "from_at": tag_at(0)}),
        vector("a bit of a chunk", "chunk_altered", {"at": chunk_at(2) + 12345, "xor": 4}, keyless=None),
        vector("a chunk zeroed", "chunk_altered", {"at": chunk_at(2), "zeros": CHUNK}, keyless=None),
        vector("a chunk zeroed, with the tag of zeros", "tags_altered", {"at": chunk_at(2), "zeros": CHUNK},
               {"swap": [tag_at(1), tag_at(2)], "count": 32}),
        vector("data in a hole", "chunk_altered", {"at": chunk_at(1) + 7, "xor": 1}, keyless=None),
        vector("the padding of the last chunk", "chunk_altered", {"at": chunk_at(3) + CHUNK - 1, "xor": 1},
               keyless=None),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
