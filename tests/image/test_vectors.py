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
def path(vector: dict[str, Any], tmp_path: Path) -> Path:
    others = {edit["from"]: base(edit["from"]) for edit in vector["edits"] if "from" in edit}
    path = tmp_path / "image"
    path.write_bytes(apply(base(vector["base"]), vector["edits"], others))
    return path


def test_the_reason_with_key_and_tenant_is_the_one_expected(vector: dict[str, Any], path: Path) -> None:
    secret = read_recipient_secret((VECTORS / vector.get("key", "recipient.key")).read_bytes())
    if vector["reason"] is None:
        assert open_bytes(path, secret, TENANT) == PLAINTEXTS.get(vector["base"], plaintext())
        verify_with_key(path, secret, TENANT)
        return
    for check in (open_bytes, verify_with_key):
        with pytest.raises(SealedImageError) as refused:
            check(path, secret, TENANT)
        assert refused.value.reason == vector["reason"]


def test_the_reason_without_a_key_is_the_one_expected(vector: dict[str, Any], path: Path) -> None:
    if vector["keyless"] is None:
        verify_without_key(path)
        return
    with pytest.raises(SealedImageError) as refused:
        verify_without_key(path)
    assert refused.value.reason == vector["keyless"]


def test_the_ways_to_alter_an_image_are_told_apart() -> None:
    assert len({vector["reason"] for vector in ALL}) > 14
