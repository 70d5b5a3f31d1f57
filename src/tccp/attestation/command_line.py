"""Kernel command lines: what the kernel makes of the text, and rules about it.

The kernel splits at blanks outside of double quotes, drops the quotes, takes ``-`` and ``_`` in names for the same, and
hands what follows ``--`` to init. Of most parameters the last one counts, so a required one may not be contradicted.

Source: Linux, lib/cmdline.c (next_arg), kernel/params.c (parse_args, parameq).
"""

import fnmatch
import re
from dataclasses import dataclass

TEXT_CHARACTERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class CommandLineRules:
    """What a command line must and may not say.

    Args:
        required: Words that must be there: ``"lockdown=integrity"``; no other may give the same name another value.
        forbidden: Patterns of words that may not be there: ``"init=*"``.
    """

    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


def words(text: str) -> tuple[str, ...]:
    """The words as the kernel sees them, names with ``_`` for every ``-``; what follows ``--`` is among them."""
    found: list[str] = []
    word: list[str] = []
    quoted = started = False
    for character in text:
        if character == '"':
            quoted, started = not quoted, True
        elif character.isspace() and not quoted:
            if started:
                found.append("".join(word))
            word, started = [], False
        else:
            word.append(character)
            started = True
    if started:
        found.append("".join(word))
    return tuple(_normal(one) for one in found)


def problems(text: str, rules: CommandLineRules) -> tuple[str, ...]:
    """What is wrong with *text*, in sentences; nothing when it conforms."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return (f"it has {len(text)} characters, {TEXT_CHARACTERS_MAX} are allowed",)
    if not text.isascii() or not text.isprintable():
        return ("it holds characters that the kernel may read differently",)
    all_words = words(text)
    for_kernel = all_words[: all_words.index("__")] if "__" in all_words else all_words
    found = [f"{word} is missing" for word in rules.required if _normal(word) not in for_kernel]
    found += [
        f"{word} contradicts {wanted}"
        for wanted in rules.required
        for word in all_words
        if _name(word) == _name(_normal(wanted)) and word != _normal(wanted)
    ]
    found += [
        f"{word} is forbidden ({pattern})"
        for pattern in rules.forbidden
        for word in all_words
        if matches(_normal(pattern), word)
    ]
    return tuple(found)


def matches(pattern: str, text: str) -> bool:
    """Whether *text* is what *pattern* says: ``*`` stands for any run of characters, and nothing else is special."""
    escaped = "*".join(re.sub(r"[\[\]?]", lambda special: f"[{special[0]}]", part) for part in pattern.split("*"))
    return fnmatch.fnmatchcase(text, escaped)


def load_options(text: str) -> tuple[bytes, ...]:
    """What the kernel's EFI stub may measure of a command line, in UTF-16.

    Firmware, systemd and QEMU hand it over with an end; GRUB 2.12 without one, and with ``BOOT_IMAGE=`` before the path
    of the kernel with which its own text of the line begins.
    """
    return tuple(form.encode("utf-16-le") for form in (f"{text}\0", text, f"BOOT_IMAGE={text}"))


def _name(word: str) -> str:
    return word.partition("=")[0]


def _normal(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("-", "_") + equals + value
