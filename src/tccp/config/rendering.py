"""The schema as text: a file to start from, and the reference. Nobody writes either by hand."""

import textwrap
from collections.abc import Iterator

from tccp.config.files import FILES, ConfigFile
from tccp.config.schema import Key, Presence, TableDescription, describe

WIDTH = 118
WITHOUT = {
    Presence.ALWAYS: "",
    Presence.OPTIONAL: " This table is optional.",
    Presence.REQUIRED: " This table is required.",
    Presence.MANY: " There may be several such tables, or none.",
}


def example_file(file: ConfigFile) -> str:
    """A file with every key: commented out with its default, or as an example of what has none.

    What is required is not commented out: `name = "rack1-07"` waits for the reader.
    """
    intro = (
        f"{file.path} is the configuration of {file.about}. A line that begins with '#' and a key shows the value that "
        'the key has when it is left out, unless it says "no default". An unknown key is an error, and nothing here '
        f"turns a check off. `tccp config check` tells what is wrong with this file, tccp-{file.name}.toml(5) is the "
        "same as a manual page."
    )
    blocks = [_comment(intro)]
    for table in describe(file.kind):
        blocks += _example_table(table)
    return "\n\n".join(blocks) + "\n"


def _example_table(table: TableDescription) -> Iterator[str]:
    keys = [_example_key(key, hidden=table.presence in {Presence.OPTIONAL, Presence.MANY}) for key in table.keys]
    if not table.name:
        yield from keys
        return
    hidden = "#" if table.presence in {Presence.OPTIONAL, Presence.MANY} else ""
    yield "\n".join([_comment(table.about), hidden + table.header, *keys])


def _example_key(key: Key, *, hidden: bool) -> str:
    return f"{_comment(about(key))}\n{'' if key.required and not hidden else '#'}{key.name} = {key.example}"


def about(key: Key) -> str:
    """What it means, what it may be, and whether it must be."""
    allowed = "" if key.allowed == "a text" else f" {key.allowed[0].upper()}{key.allowed[1:]}."
    must = " Required." if key.required else " No default." if key.default is None else ""
    return f"{key.about}{allowed}{must}"


def _comment(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def reference() -> str:
    """All files, tables and keys, in Markdown."""
    return "\n".join(_reference())


def _reference() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield "<!-- Made by `make documents` from src/tccp/config; a test compares. -->"
    yield ""
    yield "One TOML file for each daemon. An unknown key is an error, and nothing turns a check off. `tccp config"
    yield "check` tells all that is wrong with the files of a machine, `tccp config example node` prints one to start"
    yield "from. The same is in the manual pages of section 5."
    for file in FILES:
        yield ""
        yield f"## {file.name}.toml"
        yield ""
        yield f"`{file.path}` is the configuration of {file.about}. It is read by {_and(file.programs)}."
        for table in describe(file.kind):
            yield from _reference_table(table)
    yield ""


def _reference_table(table: TableDescription) -> Iterator[str]:
    if table.name:
        yield ""
        yield f"### `{table.header}`"
        yield ""
        yield f"{table.about}{WITHOUT[table.presence]}"
    if not table.keys:
        return
    yield ""
    yield "| key | value | default | |"
    yield "|---|---|---|---|"
    for key in table.keys:
        default = f"`{key.default}`" if key.default is not None else "*required*" if key.required else "none"
        yield f"| `{key.name}` | {_cell(key.allowed)} | {default} | {_cell(key.about)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _and(words: tuple[str, ...]) -> str:
    *first, last = (f"`{word}`" for word in words)
    return f"{', '.join(first)} and {last}" if first else last
