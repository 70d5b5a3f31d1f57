"""Changes to msgpack by its structure: another type, length, number or order, somewhere in the tree.

Byte by byte a fuzzer seldom gets past the lengths in a message; this reaches what is behind them.
"""

import random
from typing import Any

import msgpack

ODD = [
    None, True, -1, 0, 1, 23, 24, 255, 1 << 31, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63), 1.5, float("nan"),
    b"", b"\0" * 32, b"x" * 1025, "", "\0", "a" * 64, "\N{SNOWMAN}", [], [[]], {}, {"a": 1}, {1: 2},
    msgpack.ExtType(5, b"x"),
]  # fmt: skip


def mutate(data: bytes, choice: random.Random) -> bytes:
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
