"""The vectors that we publish are what we make and what we accept; see tests/vectors/log."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tccp.errors import LogError
from tccp.transparency.checkpoint import verify_checkpoint
from tccp.transparency.note import parse_note_key
from tccp.transparency.proof import TileHashes
from tccp.transparency.receipt import verify_receipt
from tccp.transparency.tile_directory import TileDirectory
from tccp.transparency.witness import verify_advance
from tests.vectors.log.make import files

VECTORS = Path(__file__).parents[1] / "vectors" / "log"
KEYS: dict[str, str] = json.loads((VECTORS / "keys.json").read_text())
LOG, WITNESS = parse_note_key(KEYS["log"]), parse_note_key(KEYS["witness"])


def load(name: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())
    return loaded


def test_they_are_what_is_made_today() -> None:
    made = files()

    assert {name: (VECTORS / name).read_bytes() for name in made} == made
    there = {str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*") if path.is_file()}
    assert {name for name in there if not name.endswith((".py", ".md", ".pyc"))} == set(made)


@pytest.mark.parametrize("vector", load("entries.json"), ids=lambda vector: vector["kind"])
def test_an_entry_is_that_of_the_document(vector: dict[str, Any]) -> None:
    """Worked out from docs/LOG.md alone."""
    seq, body = vector["seq"].to_bytes(8, "big"), bytes.fromhex(vector["body"])
    salt = hmac.digest(bytes.fromhex(KEYS["salt_key"]), b"tccp/v1/log-salt\0" + seq, "sha256")
    details = dict(msgpack.unpackb(body)) if body else {}
    told = ("policy", "version", "sha256") if vector["kind"] == "policy" else ()
    public = {name: details[name] for name in sorted(told)}
    for name in ("ek_id", "detail"):
        if name in details:
            value = details.pop(name)
            data = value.encode() if isinstance(value, str) else value
            digest = hashlib.sha256(b"tccp/v1/log-field\0" + salt + name.encode() + b"\0" + data).digest()
            details[f"{name}_hash"] = digest
    if vector["node"]:
        details["node"] = vector["node"]
    packed = msgpack.packb(dict(sorted(details.items())))
    commitment = hashlib.sha256(b"tccp/v1/log-details\0" + salt + packed).digest()
    entry = msgpack.packb(["tccp/v1/log-entry", vector["kind"], vector["at_ms"], msgpack.packb(public), commitment])

    assert vector["salt"] == salt.hex()
    assert vector["details"] == packed.hex()
    assert vector["entry"] == entry.hex()
    assert vector["leaf"] == hashlib.sha256(b"\0" + entry).hexdigest()


def test_the_log_is_a_log() -> None:
    log = TileDirectory(VECTORS / "log")
    note = log.read_checkpoint()
    assert note is not None
    verified = verify_checkpoint(note, origin=KEYS["origin"], log_key=LOG, witnesses=[WITNESS], witnesses_required=1)
    head = verified.checkpoint

    assert TileHashes(log.read_tile, head.size).range_hash(0, head.size) == head.root


@pytest.mark.parametrize("vector", load("receipts.json"), ids=lambda vector: vector["name"])
def test_a_receipt_is_accepted_or_refused_for_its_reason(vector: dict[str, Any]) -> None:
    def verify() -> None:
        verify_receipt(
            bytes.fromhex(vector["receipt"]),
            origin=KEYS["origin"],
            log_key=LOG,
            witnesses=[WITNESS],
            witnesses_required=vector["witnesses"],
        )

    if vector["reason"] is None:
        verify()
        return
    with pytest.raises(LogError) as refused:
        verify()
    assert refused.value.reason == vector["reason"]


def test_the_ways_in_which_a_receipt_fails_are_told_apart() -> None:
    assert len({vector["reason"] for vector in load("receipts.json")}) > 12


@pytest.mark.parametrize("vector", load("histories.json"), ids=lambda vector: vector["name"])
def test_a_history_is_accepted_or_refused_for_its_reason(vector: dict[str, Any]) -> None:
    seen, shown = (
        verify_checkpoint(vector[name].encode(), origin=KEYS["origin"], log_key=LOG) for name in ("seen", "shown")
    )
    proof = [bytes.fromhex(digest) for digest in vector["proof"]]

    if vector["reason"] is None:
        assert verify_advance(seen.checkpoint, shown, proof) == shown.checkpoint
        return
    with pytest.raises(LogError) as refused:
        verify_advance(seen.checkpoint, shown, proof)
    assert refused.value.reason == vector["reason"]
