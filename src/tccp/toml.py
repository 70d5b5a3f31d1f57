"""TOML that a stranger may have written, as plain values; a file that is none is an error of one kind."""

import tomllib
from typing import Any

INTEGER_BITS = 64  # TOML 1.0: what has more cannot be told without loss, and is an error


def parse_toml(body: bytes) -> dict[str, Any]:
    """The table that *body* is.

    Raises:
        ValueError: It is not UTF-8, not TOML, nested too deeply, or has a number of more than 64 bits. Python would
            take such a number, and fail later where it is shown.
    """
    try:
        table = tomllib.loads(body.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_numbers(table)
    return table


def _check_numbers(table: dict[str, Any]) -> None:
    left: list[tuple[str, Any]] = list(table.items())
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += ((f"{name}.{key}", inner) for key, inner in value.items())
        elif isinstance(value, list):
            left += ((name, inner) for inner in value)
        elif isinstance(value, int) and value.bit_length() >= INTEGER_BITS and value != -1 << INTEGER_BITS - 1:
            raise ValueError(f"{name}: a number of more than {INTEGER_BITS} bits")
