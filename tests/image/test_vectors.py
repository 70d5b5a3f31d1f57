"""Each way to alter a sealed image has its own reason; see tests/vectors/image."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tccp.errors import SealedImageError
from tccp.image.keys import read_recipient_secret, read_tenant_public
from tests.image.images import open_bytes, verify_with_key, verify_without_key
from tests.vectors.image.make import apply, plaintext

VECTORS = Path(__file__).parents[1] / "vectors" / "image"
ALL: list[dict[str, Any]] = json.loads((VECTORS / "vectors.json").read_text())
TENANT = read_tenant_public((VECTORS / "tenant.pub").read_bytes())
PLAINTEXTS = {"empty": b"", "zeros": bytes(len(plaintext()))}


def base(name: str) -> bytes:
    return gzip.decompress((VECTORS / f"{name}.sealed.gz").read_bytes())


@pytest.fixture(params=ALL, ids=lambda vector: vector["name"])
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    vector: dict[str, Any] = request.param
    return vector


@pytest.fixture
def root(vector: dict[str, Any]) -> bytes | None:
    return bytes.fromhex(vector["root"]) if "root" in vector else None


@pytest.fixture
def path(vector: dict[str, Any], tmp_path: Path) -> Path:
    others = {edit["from"]: base(edit["from"]) for edit in vector["edits"] if "from" in edit}
    path = tmp_path / "image"
    path.write_bytes(apply(base(vector["base"]), vector["edits"], others))
    return path


def test_the_reason_with_key_and_tenant_is_the_one_expected(
    vector: dict[str, Any], path: Path, root: bytes | None
) -> None:
    secret = read_recipient_secret((VECTORS / vector.get("key", "recipient.key")).read_bytes())
    if vector["reason"] is None:
        assert open_bytes(path, secret, TENANT, root) == PLAINTEXTS.get(vector["base"], plaintext())
        verify_with_key(path, secret, TENANT, root)
        return
    for check in (open_bytes, verify_with_key):
        with pytest.raises(SealedImageError) as refused:
            check(path, secret, TENANT, root)
        assert refused.value.reason == vector["reason"]


def test_the_reason_without_a_key_is_the_one_expected(vector: dict[str, Any], path: Path, root: bytes | None) -> None:
    if vector["keyless"] is None:
        verify_without_key(path, root)
        return
    with pytest.raises(SealedImageError) as refused:
        verify_without_key(path, root)
    assert refused.value.reason == vector["keyless"]


# What must be told apart, each from all others and from a bit that flipped on the disk.
OWN_REASONS = {
    "truncated by a chunk": "truncated",
    "extended by a chunk": "extended",
    "two chunks swapped": "chunk_moved",
    "another image in its place": "wrong_root",
    "root of the tags": "header_altered",
    "another suite, known": "suite_altered",
    "a recipient put in by a stranger": "recipients_altered",
    "a key that is no recipient": "not_a_recipient",
    "commitment": "wrong_key",
    "another tenant": "wrong_tenant",
    "tag table zeroed": "tags_zeroed",
    "a bit of a chunk": "chunk_altered",
}


def test_the_ways_to_alter_an_image_are_told_apart() -> None:
    reasons = {vector["name"]: vector["reason"] for vector in ALL}
    assert {name: reasons[name] for name in OWN_REASONS} == OWN_REASONS
    assert len({*OWN_REASONS.values()}) == len(OWN_REASONS)
