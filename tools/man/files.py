"""Manual pages of configuration files, made from their schema."""

from collections.abc import Iterator

from tccp.config.files import FILES, ConfigFile
from tccp.config.rendering import WITHOUT, example_file
from tccp.config.schema import Key, describe
from tools.man.commands import SOURCE
from tools.man.roff import Page, bold, escape


def file_pages(date: str) -> Iterator[Page]:
    """A page of section 5 for each file."""
    for file in FILES:
        yield _page(file, date)


def _page(file: ConfigFile, date: str) -> Page:
    page = Page(f"tccp-{file.name}.toml", 5, summary=f"configuration of {file.about}", date=date, source=SOURCE)
    page.section("SYNOPSIS")
    page.line(bold(str(file.path)))
    page.section("DESCRIPTION")
    page.prose(
        "A file in TOML. An unknown key is an error, and nothing in it turns a check off. `tccp config check` tells "
        f"all that is wrong with it, `tccp config example {file.name}` prints one to start from."
    )
    for table in describe(file.kind):
        page.section(table.header or "KEYS BEFORE THE FIRST TABLE")
        if table.about:
            page.prose(f"{table.about}{WITHOUT[table.presence]}")
        page.items((_term(key), key.about) for key in table.keys)
    needed = _without_comments(file)
    if needed:
        page.section("EXAMPLES")
        page.prose("The least that it must say:")
        page.block(needed)
    page.section("SEE ALSO")
    pages = [("tccp-config", 1), *((program, 8) for program in file.programs)]
    page.line(", ".join(f"{bold(name)}({section})" for name, section in pages))
    return page


def _term(key: Key) -> str:
    """The key, what it may be and what it is when nobody says."""
    without = "required" if key.required else "no default" if key.default is None else f"default: {key.default}"
    return f"{bold(key.name)} ({escape(key.allowed)}; {escape(without)})"


def _without_comments(file: ConfigFile) -> list[str]:
    """What of the example is in force, but tables without keys."""
    lines = [line for line in example_file(file).splitlines() if line and not line.startswith("#")]
    after = [*lines[1:], "["]
    return [line for line, next_line in zip(lines, after, strict=True) if not line[0] == next_line[0] == "["]
