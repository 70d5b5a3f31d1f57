"""Lists of known files in the forms in which others keep them.

- what ``sha256sum`` (or ``sha512sum``) prints, and ``rpm -qp --qf '[%{FILEDIGESTS} %{FILENAMES}\\n]'``;
- runtime policies of Keylime, JSON;
- lists of IMA, of hosts that are known to be good.

A digest that is no SHA-2 is left out and counted: it could be made to collide.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tccp.attestation.ima import Measurements, Template
from tccp.attestation.ima_rules import BUFFER_PREFIX, ImaRules, ListedDigest
from tccp.errors import ConfigError

BOOT_AGGREGATE = b"boot_aggregate"
STRONG_BYTES = frozenset({32, 48, 64})
WEAK_BYTES = frozenset({16, 20, 28})
_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{32,128})[ \t]+\*?(.+)")
_NO_TEXT = re.compile("[\ud800-\udfff]")  # JSON can name them
_REGEX_SPECIAL = frozenset("[](){}|+?")
KEYS_MAX = 64


@dataclass(frozen=True, slots=True)
class Imported:
    """Rules, and how many digests were left out."""

    rules: ImaRules
    weak: int


def import_digest_list(content: bytes, *, any_path: bool = False) -> Imported:
    """The digests of a list, a line each: digest, blanks, path. A line without a digest (a folder of RPM's) is skipped.

    Args:
        any_path: Files are known wherever they lie, and not at their paths only.

    Raises:
        ConfigError: ``bad_list``: a line is none; the detail has its number.
    """
    found: list[ListedDigest] = []
    weak = 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip() or line[:1] in b" \t#":
            continue
        match = _LINE.fullmatch(line.rstrip(b"\r"))
        if match is None or len(match[2]) % 2:
            raise ConfigError("bad_list", f"line {number} is not a digest and path: {line[:80]!r}")
        digest = bytes.fromhex(match[2].decode("ascii"))
        if len(digest) not in STRONG_BYTES:
            weak += 1
            continue
        path = _unescaped(match[3]) if match[1] else match[3]
        found.append(ListedDigest(digest, None if any_path else path))
    return Imported(ImaRules(found), weak)


def _unescaped(path: bytes) -> bytes:
    """A name in which ``sha256sum`` wrote a line end or a backslash as two characters."""
    return re.sub(rb"\\(.)", lambda pair: {b"n": b"\n", b"r": b"\r"}.get(pair[1], pair[1]), path)


def import_keylime(content: bytes) -> Imported:
    """A runtime policy of Keylime: digests, excludes, keyrings, buffers and verification keys.

    Its excludes are regular expressions, matched from the beginning of a path; what no plain pattern says is refused.

    Raises:
        ConfigError: ``bad_list``; the detail names the key.
    """
    try:
        policy = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise ConfigError("bad_list", f"no runtime policy of Keylime: {problem}") from None
    if not isinstance(policy, dict) or not isinstance(policy.get("digests"), dict):
        raise ConfigError("bad_list", "no runtime policy of Keylime: it has no digests")
    counted = _Counted()
    digests = [ListedDigest(digest, path.encode()) for path, digest in counted.pairs(policy, "digests")]
    for key in ("keyrings", "ima-buf"):
        digests += [ListedDigest(digest, BUFFER_PREFIX + name.encode()) for name, digest in counted.pairs(policy, key)]
    ignored = policy.get("ima", {}).get("ignored_keyrings", []) if isinstance(policy.get("ima", {}), dict) else []
    keys = _keylime_keys(policy.get("verification-keys"))
    rules = ImaRules(
        digests=digests,
        excludes=[pattern_of(expression) for expression in _texts(policy.get("excludes"), "excludes")],
        signed=["*"] if keys else [],
        keys=keys,
        buffers=[".*" if name == "*" else name for name in _texts(ignored, "ima.ignored_keyrings")],
    )
    return Imported(rules, counted.weak)


def import_measurements(measurements: Measurements, *, any_path: bool = False) -> Imported:
    """The files and buffers that a good host measured; whoever uses it says that it is good.

    Left out are violations, whose contents nobody knows, the boot aggregate, which is another on each host, and what
    could not be hashed.
    """
    found: list[ListedDigest] = []
    weak = 0
    for entry in measurements.entries():
        if entry.is_violation or entry.path == BOOT_AGGREGATE or not any(entry.digest):
            continue
        if len(entry.digest) not in STRONG_BYTES:
            weak += 1
        elif entry.template is Template.IMA_BUF:
            found.append(ListedDigest(entry.digest, BUFFER_PREFIX + entry.path))
        else:
            found.append(ListedDigest(entry.digest, None if any_path else entry.path))
    return Imported(ImaRules(found), weak)


class _Counted:
    """Reads tables of names and digests, and counts the weak ones."""

    def __init__(self) -> None:
        self.weak = 0

    def pairs(self, policy: dict[str, Any], key: str) -> Iterator[tuple[str, bytes]]:
        table = policy.get(key) or {}
        if not isinstance(table, dict):
            raise ConfigError("bad_list", f"{key}: a table is needed")
        for name in _texts(list(table), key):
            values = table[name]
            for value in _texts(values, f"{key}: {name[:80]}"):
                try:
                    digest = bytes.fromhex(value)
                except ValueError:
                    raise ConfigError("bad_list", f"{key}: {name[:80]}: {value[:80]!r} is not a digest") from None
                if len(digest) in STRONG_BYTES:
                    yield name, digest
                elif len(digest) in WEAK_BYTES:
                    self.weak += 1
                else:
                    raise ConfigError("bad_list", f"{key}: {name[:80]}: {len(digest)} bytes are no digest")


def _texts(values: Any, where: str) -> list[str]:
    listed = [] if values is None else values
    if not isinstance(listed, list) or not all(isinstance(value, str) for value in listed):
        raise ConfigError("bad_list", f"{where}: a list of texts is needed")
    if any(_NO_TEXT.search(value) for value in listed):
        raise ConfigError("bad_list", f"{where}: half of a character, which UTF-8 cannot say")
    return listed


def _keylime_keys(text: Any) -> list[bytes]:
    """Public keys (DER) in a keyring of Keylime's, which is JSON in a text."""
    if not text:
        return []
    try:
        keyring = json.loads(text) if isinstance(text, str) else text
        return [base64.b64decode(key, validate=True) for key in keyring["pubkeys"][: KEYS_MAX + 1]]
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError) as problem:
        raise ConfigError("bad_list", f"verification-keys: {problem}") from None


def pattern_of(expression: str) -> str:
    """The pattern that matches what Keylime's regular expression matches at the beginning of a path.

    Raises:
        ConfigError: ``bad_list``: it says what no pattern can.
    """
    out: list[str] = []
    body = expression.removeprefix("^")
    ends = body.endswith("$") and not body.endswith("\\$")
    body = body[:-1] if ends else body
    at = 0
    while at < len(body):
        character = body[at]
        if body.startswith(".*", at):
            out.append("*")
            at += 2
            continue
        if character == "\\" and at + 1 < len(body) and not body[at + 1].isalnum():
            character = body[at + 1]
            at += 1
            literal = True
        else:
            literal = False
        if not literal and (character in _REGEX_SPECIAL or character in "*\\^$"):
            raise ConfigError("bad_list", f"excludes: {expression!r} is more than a pattern with '*' and '?' can say")
        if literal and character in "*?":
            raise ConfigError("bad_list", f"excludes: {expression!r} names a character that patterns keep")
        out.append("?" if character == "." and not literal else character)
        at += 1
    text = "".join(out) + ("" if ends else "*")
    return re.sub(r"\*+", "*", text)
