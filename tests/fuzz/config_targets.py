"""Fuzz targets for what operators write: configuration files, key files, records, and what they name in a word."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from tccp.cli.coordinator.record import _record
from tccp.cli.evidence.pcr_file import parse_pcr_file
from tccp.cli.keys import public_key_bytes
from tccp.config.files import FILES, file_called
from tccp.config.loading import load_config
from tccp.config.mistakes import find_mistakes
from tccp.config.places import lines_of
from tccp.errors import ConfigError, EvidenceError
from tccp.image import keys as k
from tccp.model import PcrBank
from tccp.tenant.trust import split_address
from tccp.toml import parse_toml
from tccp.tpm.tcti import parse_tcti
from tccp.transparency.note import parse_note_key
from tccp.transport.http_client import http_url
from tests.fuzz import tenant_targets

FOLDER = Path(tempfile.gettempdir())


def feed_config(data: bytes) -> bool:
    """As each kind of file: it is one, or all that is wrong is told, on lines that there are."""
    kinds = [file.kind for file in FILES if _is_config(data, file.kind)]
    return bool(kinds)


def _is_config(data: bytes, kind: type[msgspec.Struct]) -> bool:
    mistakes = find_mistakes(data, kind)
    lines = data.count(b"\n") + 1
    assert all(0 <= mistake.line <= lines and str(mistake) for mistake in mistakes)
    try:
        msgspec.convert(parse_toml(data), kind, strict=True)
    except ValueError:
        assert mistakes
        return False
    assert not mistakes
    assert all(1 <= line <= lines for line in lines_of(data.decode().replace("\r\n", "\n")).values())
    return True


def configs() -> list[bytes]:
    """The examples, with what is required, and one with each table of many."""
    node = b'name = "alpha"\n[coordinator]\naddress = "[::1]:7443"\ntrust_file = "/t"\n[vms]\nusers = 9\n'
    coordinator = b'[tpm]\npcrs = [0, 7]\nbank = "sha384"\n[[witness]]\nurl = "http://x/"\nkey = "a+b+c"\n'
    return [node, coordinator, b'name = "w"\n[[logs]]\nkey = "k"\norigin = """o\n"""\n']


def feed_load_config(data: bytes) -> bool:
    """From a file: it is one, or one sentence says why not."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            load_config(Path(file.name), file_called("node").kind)
        except ConfigError:
            return False
    return True


# ---- keys


def _spki_or_public_area(content: bytes) -> None:
    """A file of tpm2-tools or OpenSSL, which may also be bare bytes: then they are what they are."""
    found = public_key_bytes(content)
    assert found in content or b"-----BEGIN PUBLIC KEY-----" in content


READERS: tuple[Callable[[bytes], object], ...] = (
    k.read_recipient_secret,
    k.read_recipient_public,
    k.read_tenant_secret,
    k.read_tenant_public,
    k.read_operator_secret,
    k.read_operator_public,
)


def feed_key_file(data: bytes) -> bool:
    """A key of one kind at most."""
    with contextlib.suppress(EvidenceError):
        _spki_or_public_area(data)
    found = 0
    for read in READERS:
        try:
            read(data)
        except ConfigError:
            continue
        found += 1
    assert found <= 1
    return bool(found)


def key_files() -> list[bytes]:
    """One of each kind."""
    return [*k.write_recipient_keys(), *k.write_tenant_keys(), *k.write_operator_keys()]


# ---- PCR values, and the record of a perimeter


def feed_pcr_file(data: bytes) -> bool:
    """Values of known banks, each of its length when it is asked for, or a refusal."""
    try:
        found = parse_pcr_file(data)
        for bank in found.banks or (PcrBank.SHA256,):
            values = found.whole_bank(bank)
            assert all(len(value) == bank.digest_bytes for value in values.values.values())
    except EvidenceError:
        return False
    return True


def pcr_files() -> list[bytes]:
    """As tpm2_pcrread prints them, as JSON, as bare values, and serialized."""
    value = "ab" * 32
    selection = (1).to_bytes(4, "little") + b"\x0b\x00\x03\x11\x00\x00\x00\x00"
    selections = selection + bytes(8 * 15)
    digests = (2).to_bytes(4, "little") + 2 * (b"\x20\x00" + bytes(64)) + 6 * bytes(66)
    return [
        f"sha256:\n  0 : 0x{value}\n  23: 0x{value}\nsha1:\n  0 : 0x{'cd' * 20}\n".encode(),
        f'{{"pcrs": {{"sha256": {{"0": "{value}", "10": "0x{value}"}}}}}}'.encode(),
        bytes(range(128, 152)) * 32,
        selections + (1).to_bytes(4, "little") + digests,
    ]


def feed_record(data: bytes) -> bool:
    """Nodes of a perimeter, or a refusal."""
    try:
        _record(FOLDER, data)
    except ConfigError:
        return False
    return True


def records() -> list[bytes]:
    """An empty one, and one of a node."""
    node = f'"name": "alpha", "ek_id": "{"ab" * 32}", "ek_public": "abcd", "policy": "tvmm", "attributes": {{}}'
    return [b'{"nodes": []}', f'{{"nodes": [{{{node}}}]}}'.encode()]


# ---- what stands in one word


def feed_words(data: bytes) -> bool:
    """As the key of a log, a URL, an address and a TPM: one of them, or a refusal."""
    text = data.decode("utf-8", "surrogateescape")
    readers: tuple[Callable[[str], object], ...] = (parse_note_key, http_url, split_address, parse_tcti)
    found = []
    for read in readers:
        try:
            found.append(read(text))
        except ConfigError:
            continue
    for value in found:
        assert str(value)
    return bool(found)


def some_words() -> list[bytes]:
    """One of each kind."""
    key = str(tenant_targets.WITNESS).encode()
    return [key, b"https://[::1]:7445/log?x#y", b"[::1]:7444", b"swtpm:host=127.0.0.1,port=2321", b"device:/dev/tpmrm0"]
