"""What came from outside, before it is drawn: it moves no cursor, hides nothing, and ends no line."""


def escape(text: str) -> str:
    """*text* on one line and without effect on a terminal: what is not printable is written as ``\\x1b``.

    Not printable are control characters, and the invisible ones that reorder or hide text (Unicode categories Cc,
    Cf, Cs, Co, Cn, Zl, Zp, and spaces other than U+0020).
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
