"""Key files: each kind is written, read, and never taken for another."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from nacl.signing import SigningKey, VerifyKey

from tccp.errors import ConfigError
from tccp.image.keys import (
    RecipientPublicKey,
    RecipientSecretKey,
    read_operator_public,
    read_operator_secret,
    read_recipient_public,
    read_recipient_secret,
    read_tenant_public,
    read_tenant_secret,
    write_operator_keys,
    write_recipient_keys,
    write_tenant_keys,
)

Reader = Callable[[bytes], RecipientSecretKey | RecipientPublicKey | SigningKey | VerifyKey]
PAIRS: dict[str, tuple[Callable[[], tuple[bytes, bytes]], Reader, Reader]] = {
    "RECIPIENT": (write_recipient_keys, read_recipient_secret, read_recipient_public),
    "TENANT": (write_tenant_keys, read_tenant_secret, read_tenant_public),
    "OPERATOR": (write_operator_keys, read_operator_secret, read_operator_public),
}
READERS = {f"{kind} {half}": pair[at] for kind, pair in PAIRS.items() for at, half in ((1, "SECRET"), (2, "PUBLIC"))}
NAMES = list(READERS)


@pytest.fixture
def files() -> dict[str, bytes]:
    """A file of each kind; the two halves of a kind belong together."""
    pairs = {kind: write() for kind, (write, _, _) in PAIRS.items()}
    return {name: pairs[name.split()[0]][name.endswith("PUBLIC")] for name in NAMES}


def test_the_halves_of_a_recipient_belong_together(files: dict[str, bytes]) -> None:
    secret, public = (
        read_recipient_secret(files["RECIPIENT SECRET"]),
        read_recipient_public(files["RECIPIENT PUBLIC"]),
    )

    assert secret.public == public
    assert public.key_id == hashlib.sha256(b"tccp recipient id v1\0" + public.raw).digest()
    assert public.hpke_key() is not None


@pytest.mark.parametrize("kind", ["TENANT", "OPERATOR"])
def test_what_one_half_signs_the_other_verifies(kind: str, files: dict[str, bytes]) -> None:
    secret, public = (
        READERS[f"{kind} SECRET"](files[f"{kind} SECRET"]),
        READERS[f"{kind} PUBLIC"](files[f"{kind} PUBLIC"]),
    )

    assert isinstance(secret, SigningKey)
    assert isinstance(public, VerifyKey)
    assert public.verify(secret.sign(b"a root")) == b"a root"


@pytest.mark.parametrize("made", NAMES)
@pytest.mark.parametrize("wanted", NAMES)
def test_no_kind_is_taken_for_another(made: str, wanted: str, files: dict[str, bytes]) -> None:
    if made == wanted:
        assert READERS[wanted](files[made]) is not None
        return
    with pytest.raises(ConfigError) as refused:
        READERS[wanted](files[made])
    assert refused.value.reason == "key_of_another_kind"
    article = "an" if wanted.startswith("OPERATOR") else "a"
    assert refused.value.detail == f"a TCCP {made.lower()} key instead of {article} {wanted.lower()} key"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_one_block_of_short_lines(name: str, files: dict[str, bytes]) -> None:
    lines = files[name].decode("ascii").split("\n")

    assert lines[0] == f"-----BEGIN TCCP {name} KEY-----"
    assert lines[-2:] == [f"-----END TCCP {name} KEY-----", ""]
    body = lines[1:-2]
    assert all(len(line) == 64 for line in body[:-1])
    assert 0 < len(body[-1]) <= 64
    base64.b64decode("".join(body), validate=True)


def test_blanks_around_and_inside_do_not_matter(files: dict[str, bytes]) -> None:
    spread = files["TENANT PUBLIC"].replace(b"\n", b"\r\n \n")

    assert read_tenant_public(b"\n\n" + spread + b"\n") == read_tenant_public(files["TENANT PUBLIC"])


def tenant_file(body: bytes, label: bytes = b"TENANT SECRET KEY", end: bytes | None = None) -> bytes:
    return b"-----BEGIN TCCP %s-----\n%s\n-----END TCCP %s-----\n" % (label, body, label if end is None else end)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "no TCCP tenant secret key"),
        (b"hello", "no TCCP tenant secret key"),
        (tenant_file(b""), "has 32 bytes, not 0"),
        (tenant_file(base64.b64encode(bytes(32)), end=b"TENANT PUBLIC KEY"), "no TCCP tenant secret key"),
        (tenant_file(base64.b64encode(bytes(32))) * 2, "no TCCP tenant secret key"),
        (tenant_file(b"AAA"), "no base64"),
        (tenant_file(b"=" + base64.b64encode(bytes(32))), "no base64"),
        (tenant_file(base64.b64encode(bytes(31))), "has 32 bytes, not 31"),
        (tenant_file(base64.b64encode(bytes(33))), "has 32 bytes, not 33"),
    ],
    ids=["empty", "text", "no key", "two labels", "two blocks", "no base64", "base64 and more", "short", "long"],
)
def test_anything_else_is_no_key(content: bytes, detail: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_tenant_secret(content)
    assert refused.value.reason == "key_malformed"
    assert detail in refused.value.detail


def test_a_recipient_has_bytes_that_ml_kem_allows() -> None:
    with pytest.raises(ValueError, match="1216 bytes, not 1215"):
        RecipientPublicKey(bytes(1215))
    with pytest.raises(ConfigError) as refused:
        RecipientPublicKey(b"\xff" * 1216).hpke_key()
    assert refused.value.reason == "key_malformed"


def test_a_key_is_not_shown(files: dict[str, bytes]) -> None:
    secret = read_recipient_secret(files["RECIPIENT SECRET"])

    assert "hpke" not in repr(secret)
    assert secret.public.raw.hex() not in repr(secret)
    assert repr(secret.public.raw) not in repr(secret.public)
