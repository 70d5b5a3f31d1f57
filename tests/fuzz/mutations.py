"""Changes to an input by its structure: another type, length, number or order, somewhere in msgpack's tree or a text.

Byte by byte a fuzzer seldom gets past the lengths in a message, or the quotation marks in a text; this reaches what is
behind them.
"""

import random
import re
from collections.abc import Callable
from typing import Any

import msgpack

ODD = [
    None, True, -1, 0, 1, 23, 24, 255, 1 << 31, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63), 1.5, float("nan"),
    b"", b"\0" * 32, b"x" * 1025, "", "\0", "a" * 64, "\N{SNOWMAN}", [], [[]], {}, {"a": 1}, {1: 2},
    msgpack.ExtType(5, b"x"),
]  # fmt: skip


Mutate = Callable[[bytes, random.Random], bytes]

# What values of TOML and JSON may be, some of which no code of ours has thought of.
ODD_WORDS = [
    b"0x" + b"f" * 4_400, b"9" * 4_400, b"9" * 19, b"-9223372036854775809", b"1e999", b"-inf", b"nan", b"1.0", b"-0",
    b"true", b"null", b"1979-05-27T07:32:00Z", b"07:32:00", b'""', b'"\\u0000"', b'"\\ud800"', b"''", b'"""', b"'''",
    b"[]", b"[[]]", b"{}", b"[1]", b'{"a": 1}', b"{a = 1}", b"[" * 900 + b"]" * 900, b"a.b.c", b"[x]", b"[[x]]", b"=",
    b"\n", b"\r\n", b"\t", b"\xef\xbb\xbf", b"\xff", b"\xd9\xa3", b"\0", b"--", b"'", b'"', b"\\", b"*", b"#",
]  # fmt: skip
WORD = re.compile(rb"\"[^\"]*\"|'[^']*'|[\w.+-]+|\s+|.", re.DOTALL)


def mutate_text(data: bytes, choice: random.Random) -> bytes:
    """*data* with one word changed or a few: gone, there twice, in another place, or another word."""
    words = WORD.findall(data) or [b""]
    for _ in range(choice.randint(1, 3)):
        where, what = choice.randrange(len(words)), choice.random()
        if what < 0.5:
            words[where] = choice.choice(ODD_WORDS)
        elif what < 0.7:
            words[where] = choice.choice(words)
        elif what < 0.8:
            words.insert(where, choice.choice(words))
        elif len(words) > 1:
            del words[where]
    return b"".join(words)


def mutate_msgpack(data: bytes, choice: random.Random) -> bytes:
    """*data* with one change or a few; what is not msgpack becomes something that is."""
    try:
        tree = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError):
        tree = choice.choice(ODD)
    for _ in range(choice.randint(1, 3)):
        tree = _change(tree, choice)
    try:
        return bytes(msgpack.packb(tree))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return data


def _change(tree: Any, choice: random.Random) -> Any:
    if isinstance(tree, list) and tree and choice.random() < 0.85:
        return _change_list(tree, choice)
    if isinstance(tree, bytes | str) and choice.random() < 0.5:
        return _change_text(tree, choice)
    if isinstance(tree, int) and choice.random() < 0.5:
        return tree + choice.choice([-1, 1, 1 << 32, -(1 << 16)])
    return choice.choice(ODD)


def _change_list(tree: list[Any], choice: random.Random) -> list[Any]:
    where = choice.randrange(len(tree))
    what = choice.random()
    if what < 0.1:
        return tree[:where] + tree[where + 1 :]
    if what < 0.2:
        return [*tree[:where], tree[where], *tree[where:]]
    if what < 0.25:
        return choice.sample(tree, len(tree))
    return [*tree[:where], _change(tree[where], choice), *tree[where + 1 :]]


def _change_text(text: Any, choice: random.Random) -> Any:
    what = choice.random()
    if what < 0.3:
        return text[: choice.randint(0, len(text))]
    if what < 0.5:
        return text * choice.choice([2, 40])
    if what < 0.6:
        return text.encode() if isinstance(text, str) else text.decode("latin-1")
    if not text or isinstance(text, str):
        return text[::-1]
    where = choice.randrange(len(text))
    return text[:where] + bytes([text[where] ^ 1 << choice.randrange(8)]) + text[where + 1 :]
