"""Make the vectors of the coordinator's log: python -m tests.vectors.log.make

Ours from end to end, and deterministic: the files are the same whenever they are made, and a test compares them.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tccp.coordinator.log_entries import EventEntry, entry_of
from tccp.merkle import leaf_hash
from tccp.model import NodeName
from tccp.store import EventRecord
from tccp.transparency.checkpoint import Checkpoint
from tccp.transparency.entry import LogEntry, commit
from tccp.transparency.note import Note, NoteSigner, SignatureType, sign_note
from tccp.transparency.packed import pack_map
from tccp.transparency.proof import TileHashes, prove_consistency, prove_inclusion
from tccp.transparency.receipt import Receipt, encode_receipt
from tccp.transparency.tile import ENTRIES, WIDTH_MAX, Tile, encode_entries
from tests.transparency.support import MemoryTiles, signer, witness

HERE = Path(__file__).parent
ORIGIN = "00112233445566778899aabbccddeeff.tccp.internal/log"
SALT_KEY = bytes(range(32))
SIZE = 300
AT_S = 1_700_000_000
LOG, WITNESS, OTHER = signer(ORIGIN), witness(), signer("other.example/log")


def event(seq: int) -> EventRecord:
    """Some of each kind, again and again."""
    node = NodeName(f"node-{seq % 7}")
    lease_id = seq.to_bytes(16, "big")
    bodies: list[tuple[str, NodeName | None, dict[str, Any]]] = [
        ("policy", None, {"policy": "tvmm", "version": seq, "sha256": seq.to_bytes(32, "big")}),
        ("enrol", node, {"ek_id": seq.to_bytes(32, "big"), "policy": "tvmm", "pinned": 0}),
        ("admit", node, {"lease_id": lease_id, "policy": "tvmm", "policy_version": seq, "software": "0.1.0"}),
        ("refuse", node, {"reason": "pcr_not_in_policy", "detail": f"PCR 4 is {seq:064x}"}),
        ("end", node, {"lease_id": lease_id, "reason": "lapsed"}),
        ("revoke", node, {"reason": "sold"}),
        ("reinstate", node, {}),
    ]
    kind, who, body = bodies[seq % len(bodies)]
    return EventRecord(seq, 1_000 * AT_S + seq, kind, who, msgspec.msgpack.encode(body) if body else b"")


def entries() -> list[EventEntry]:
    """The log's entries."""
    return [entry_of(event(seq), SALT_KEY) for seq in range(1, SIZE + 1)]


def head(tiles: MemoryTiles, size: int, origin: str = ORIGIN) -> Checkpoint:
    """The head of the log when it had *size* entries."""
    return Checkpoint(origin, size, TileHashes(tiles.read, size).range_hash(0, size))


def signed(checkpoint: Checkpoint, *signers: NoteSigner) -> bytes:
    """As the log publishes it, unless others sign."""
    text = checkpoint.text()
    lines = [each.sign(text, AT_S if each.key.type is SignatureType.COSIGNATURE else 0) for each in signers or (LOG,)]
    return Note(text, tuple(lines)).encode()


# ---- receipts


def receipt(made: list[EventEntry], index: int, note: bytes | None = None) -> Receipt:
    """An honest one."""
    tiles = MemoryTiles([each.entry for each in made])
    size, one = len(made), made[index]
    path = tuple(prove_inclusion(TileHashes(tiles.read, size), index))
    return Receipt(one.entry, index, one.details, one.salt, path, note or signed(head(tiles, size)))


def receipts(made: list[EventEntry]) -> dict[str, tuple[bytes, int, str | None]]:
    """Name -> receipt, how many witnesses it must have, and the reason of its refusal or None."""
    tiles = MemoryTiles([each.entry for each in made], [200])
    now, salt = head(tiles, SIZE), bytes(32)
    honest = receipt(made, 123)
    witnessed = signed(now, LOG, WITNESS)
    change: Callable[..., bytes] = lambda **fields: encode_receipt(dataclasses.replace(honest, **fields))  # noqa: E731
    no_entry = EventEntry(b"no entry", b"", b"")
    odd = LogEntry("admit", 1, pack_map({}), commit(b"no map", salt)).encode()
    odd_details = EventEntry(odd, b"no map", salt)
    good = encode_receipt(honest)
    return {
        "any": (good, 0, None),
        "first": (encode_receipt(receipt(made, 0)), 0, None),
        "last": (encode_receipt(receipt(made, SIZE - 1)), 0, None),
        "without details": (change(details=b"", salt=b""), 0, None),
        "witnessed": (change(checkpoint=witnessed), 1, None),
        "not witnessed": (good, 1, "witnesses"),
        "cut off": (good[:-1], 0, "receipt_malformed"),
        "a byte too many": (good + b"\0", 0, "receipt_malformed"),
        "another domain": (good.replace(b"tccp/v1/receipt", b"tccp/v2/receipt"), 0, "receipt_malformed"),
        "an array written long": (b"\xdc\0\7" + good[1:], 0, "receipt_malformed"),
        "details without salt": (change(salt=b""), 0, "receipt_malformed"),
        "a hash too short": (change(path=(honest.path[0][:31], *honest.path[1:])), 0, "receipt_malformed"),
        "a hash too many": (change(path=(*honest.path, bytes(32))), 0, "inclusion"),
        "a hash too few": (change(path=honest.path[:-1]), 0, "inclusion"),
        "hashes exchanged": (change(path=(honest.path[1], honest.path[0], *honest.path[2:])), 0, "inclusion"),
        "another entry": (change(entry=made[124].entry), 0, "inclusion"),
        "another place": (change(index=124), 0, "inclusion"),
        "a place beyond the tree": (change(index=SIZE), 0, "not_in_tree"),
        "details of another": (change(details=made[124].details), 0, "commitment"),
        "salt of another": (change(salt=made[124].salt), 0, "commitment"),
        "an entry that is none": (encode_receipt(receipt([*made, no_entry], SIZE)), 0, "entry_malformed"),
        "details that are none": (encode_receipt(receipt([*made, odd_details], SIZE)), 0, "details_malformed"),
        "a note cut off": (change(checkpoint=honest.checkpoint[:-1]), 0, "note_malformed"),
        "another root": (
            change(checkpoint=honest.checkpoint.replace(b"\n300\n", b"\n301\n")), 0, "signature",
        ),
        "signed by another": (change(checkpoint=signed(now, OTHER)), 0, "unsigned"),
        "signed twice": (change(checkpoint=signed(now, LOG, LOG)), 0, "signed_twice"),
        "of another log": (change(checkpoint=signed(head(tiles, SIZE, OTHER.key.name))), 0, "origin"),
        "a checkpoint that is none": (
            change(checkpoint=sign_note(f"{ORIGIN}\nthree hundred\nAA==\n", LOG).encode()), 0, "checkpoint_malformed",
        ),
        "an older checkpoint": (change(checkpoint=signed(head(tiles, 200))), 0, "inclusion"),
    }  # fmt: skip


# ---- histories


def histories(made: list[EventEntry]) -> list[dict[str, Any]]:
    """What was seen first and then, with the proof, and the reason of the refusal or None."""
    honest = MemoryTiles([each.entry for each in made], range(SIZE + 1))
    deleted = [each.entry for each in (*made[:17], *made[18:])]
    reordered = [each.entry for each in (*made[:17], made[18], made[17], *made[19:])]
    others = {
        "deletes": MemoryTiles(deleted, range(SIZE)),
        "reorders": MemoryTiles(reordered, range(SIZE + 1)),
    }
    cases = [("goes on", honest, 200, SIZE, None), ("stays", honest, SIZE, SIZE, None)]
    cases += [("begins", honest, 0, SIZE, None), ("rolls back", honest, SIZE, 200, "rollback")]
    cases += [("deletes", others["deletes"], 200, SIZE - 1, "inconsistent")]
    cases += [("reorders", others["reorders"], 200, SIZE, "inconsistent")]
    cases += [("forks", others["reorders"], SIZE, SIZE, "fork")]
    found = []
    for name, tiles, old, new, reason in cases:
        proof = prove_consistency(TileHashes(tiles.read, new), min(old, new))
        found.append(
            {
                "name": name,
                "seen": signed(head(honest, old)).decode(),
                "shown": signed(head(tiles, new)).decode(),
                "proof": [digest.hex() for digest in proof],
                "reason": reason,
            }
        )
    return found


# ---- files


def files() -> dict[str, bytes]:
    """Every file and its content."""
    made = entries()
    written = [each.entry for each in made]
    tiles = MemoryTiles(written)
    log = {tile.path: content for tile, content in tiles.items()}
    for start in range(0, SIZE, WIDTH_MAX):
        bundle = written[start : start + WIDTH_MAX]
        log[Tile(ENTRIES, start // WIDTH_MAX, len(bundle)).path] = encode_entries(bundle)
    log["checkpoint"] = signed(head(tiles, SIZE), LOG, WITNESS)
    keys = {"origin": ORIGIN, "log": str(LOG.key), "witness": str(WITNESS.key), "salt_key": SALT_KEY.hex()}
    told = [_told(event(seq), one) for seq, one in enumerate(made[:8], 1)]
    shown = [
        {"name": name, "receipt": data.hex(), "witnesses": needed, "reason": reason}
        for name, (data, needed, reason) in receipts(made).items()
    ]
    plain = {"keys.json": keys, "entries.json": told, "receipts.json": shown, "histories.json": histories(made)}
    return {name: (json.dumps(content, indent=1) + "\n").encode() for name, content in plain.items()} | {
        f"log/{path}": content for path, content in log.items()
    }


def _told(told: EventRecord, made: EventEntry) -> dict[str, Any]:
    return {
        "seq": told.seq,
        "at_ms": told.at_ms,
        "kind": told.kind,
        "node": str(told.node or ""),
        "body": told.body.hex(),
        "details": made.details.hex(),
        "salt": made.salt.hex(),
        "entry": made.entry.hex(),
        "leaf": leaf_hash(made.entry).hex(),
    }


def main() -> None:
    """Write the files."""
    for name, content in files().items():
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    main()
