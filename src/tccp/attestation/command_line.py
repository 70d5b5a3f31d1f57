"""Kernel command lines: what those who read them make of the text, and rules about it.

The kernel splits at blanks outside of double quotes, drops the quotes around a word or around its value and no others,
takes ``-`` and ``_`` in names for the same, and hands what follows ``--`` to init. Of most parameters the last one
counts, so a required one may not be contradicted.

Others read the same text, each in its own way: systemd drops single quotes too, and quotes inside of words; scripts of
an initrd, and the kernel before it has unpacked itself, split at every blank. So what is required must be there for
the kernel and for systemd, and what is forbidden for nobody.

Source: Linux, lib/cmdline.c (next_arg), kernel/params.c (parse_args, parameq), arch/x86/lib/cmdline.c; systemd,
src/basic/proc-cmdline.c and extract-word.c.
"""

import functools
import re
from dataclasses import dataclass

# COMMAND_LINE_SIZE of x86 and arm64 without the NUL: of a longer line the kernel reads the beginning only.
TEXT_CHARACTERS_MAX = 2047
_PATTERNS_KEPT = 8192
_QUOTED = re.compile(r""""([^"]*)"?|'([^']*)'?""")


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
    return tuple(_normal(_without_kernel_quotes(word)) for word in _split(text, '"'))


def problems(text: str, rules: CommandLineRules) -> tuple[str, ...]:
    """What is wrong with *text*, in sentences; nothing when it conforms."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return (f"it has {len(text)} characters, {TEXT_CHARACTERS_MAX} are allowed",)
    if not text.isascii() or not text.isprintable():
        return ("it holds characters that the kernel may read differently",)
    of_kernel, of_systemd = words(text), _words_of_systemd(text)
    for_kernel = of_kernel[: of_kernel.index("__")] if "__" in of_kernel else of_kernel
    for_anybody = tuple(dict.fromkeys((*of_kernel, *of_systemd, *_words_at_every_blank(text))))
    found = [
        f"{word} is missing"
        for word in rules.required
        if _normal(word) not in for_kernel or _normal(word) not in of_systemd
    ]
    found += [
        f"{word} contradicts {wanted}"
        for wanted in rules.required
        for word in for_anybody
        if _name(word) == _name(_normal(wanted)) and word != _normal(wanted)
    ]
    found += [
        f"{word} is forbidden ({pattern})"
        for pattern in rules.forbidden
        for word in for_anybody
        if matches(_normal(pattern), word)
    ]
    return tuple(found)


def matches(pattern: str, text: str) -> bool:
    """Whether *text* is what *pattern* says: ``*`` stands for any run of characters, and nothing else is special.

    Each part is taken where it comes first, which leaves the most to the parts behind it. A policy may have hundreds of
    patterns, each of which meets every text of a log: looking for parts is several times as fast as an expression.
    """
    first, *others = _parts(pattern)
    if not others:
        return text == first
    *middle, last = others
    if not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return at <= end


@functools.lru_cache(maxsize=_PATTERNS_KEPT)
def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("*"))


def load_options(text: str) -> tuple[bytes, ...]:
    """What the kernel's EFI stub may measure of a command line, in UTF-16.

    Firmware, systemd and QEMU hand it over with an end; GRUB 2.12 without one, and with ``BOOT_IMAGE=`` before the path
    of the kernel with which its own text of the line begins.
    """
    return tuple(form.encode("utf-16-le") for form in (f"{text}\0", text, f"BOOT_IMAGE={text}"))


def _split(text: str, quotes: str) -> tuple[str, ...]:
    """*text* cut at the blanks that stand outside of *quotes*; the quotes stay where they are."""
    found: list[str] = []
    word, quote = "", ""
    for character in text:
        if character.isspace() and not quote:
            found.append(word)
            word = ""
            continue
        word += character
        if character == quote:
            quote = ""
        elif not quote and character in quotes:
            quote = character
    return tuple(word for word in (*found, word) if word)


def _without_kernel_quotes(word: str) -> str:
    """Quotes go when a word begins with them, or its value does; ``lockdown="int"egrity`` is no lockdown."""
    is_quoted = word.startswith('"')
    body = word.removeprefix('"')
    value_at = body.find("=", 1) + 1
    if value_at and body.startswith('"', value_at):
        return body[:value_at] + body[value_at + 1 :].removesuffix('"')
    return body.removesuffix('"') if is_quoted else body


def _words_of_systemd(text: str) -> tuple[str, ...]:
    return tuple(
        _normal(_QUOTED.sub(lambda quoted: quoted[1] or quoted[2] or "", word)) for word in _split(text, "\"'")
    )


def _words_at_every_blank(text: str) -> tuple[str, ...]:
    return tuple(_normal(word.replace('"', "").replace("'", "")) for word in text.split())


def _name(word: str) -> str:
    return word.partition("=")[0]


def _normal(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("-", "_") + equals + value
