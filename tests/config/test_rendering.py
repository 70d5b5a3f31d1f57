"""What is made from the schema: examples that load, with every key and its default, and a reference of all of it."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tccp.config import load_config
from tccp.config.files import FILES, ConfigFile, file_called
from tccp.config.rendering import example_file, reference
from tccp.config.schema import Key, Presence, TableDescription, describe
from tools.documents import documents

TABLES = [(file, table) for file in FILES for table in describe(file.kind)]
KEYS = [(file, table, key) for file, table in TABLES for key in table.keys]
names = {"ids": lambda part: getattr(part, "name", None)}


def load(folder: Path, text: str, file: ConfigFile) -> Any:
    (folder / "some.toml").write_text(text)
    return load_config(folder / "some.toml", file.kind)


def uncommented(text: str) -> str:
    """With every key and table in force that the file only shows."""
    return re.sub(r"^#(?=\w+ = |\[)", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_a_document_made_from_the_schema_is_up_to_date(path: Path) -> None:
    assert path.read_text() == documents()[path], "make documents"


@pytest.mark.parametrize("file", FILES, **names)
def test_an_example_loads_as_it_is_and_with_every_key_in_force(file: ConfigFile, tmp_path: Path) -> None:
    as_it_is = load(tmp_path, example_file(file), file)
    in_force = load(tmp_path, uncommented(example_file(file)), file)

    assert as_it_is != in_force


@pytest.mark.parametrize("file", FILES, **names)
def test_an_example_changes_nothing_but_what_must_be_said(file: ConfigFile, tmp_path: Path) -> None:
    bare = re.sub(r"^#.*\n", "", example_file(file), flags=re.MULTILINE)
    needed = "\n".join(line for line in bare.splitlines() if line and line != "[log]")

    assert load(tmp_path, example_file(file), file) == load(tmp_path, needed, file)
    active = [line.partition(" = ")[0] for line in bare.splitlines() if " = " in line]
    assert active == [
        key.name
        for table in describe(file.kind)
        for key in table.keys
        if key.required and table.presence in {Presence.ALWAYS, Presence.REQUIRED}
    ]


@pytest.mark.parametrize(("file", "table", "key"), KEYS, **names)
def test_each_key_is_explained_shown_with_its_default_and_told_when_it_has_none(
    file: ConfigFile, table: TableDescription, key: Key
) -> None:
    text = example_file(file)
    section = text if not table.name else text.partition(table.header)[2]

    assert re.fullmatch(r"[^a-z].*\.", key.about) or key.about.startswith(("root", "`")), key.about
    assert f"{key.name} = {key.example}\n" in section.partition("\n\n[")[0]
    assert f"| `{key.name}` | " in reference()
    if key.default is None:
        explained = " ".join(re.sub(r"^# ?", "", line) for line in section.partition(f"{key.name} = ")[0].splitlines())
        assert explained.endswith(
            ("Required. ", "No default. ", "Required. #", "No default. #", "Required.", "default.")
        )


@pytest.mark.parametrize(("file", "table"), TABLES, **names)
def test_each_table_is_explained(file: ConfigFile, table: TableDescription) -> None:
    assert not table.name or table.about.endswith(".")
    assert not table.name or f"### `{table.header}`" in reference()


def test_the_schema_has_every_field_of_every_class() -> None:
    for file in FILES:
        described = {table.name: {key.name for key in table.keys} for table in describe(file.kind)}
        fields = {field.name for field in msgspec.structs.fields(file.kind)}

        assert fields == described.pop("") | set(described)


def test_a_key_without_a_text_is_found() -> None:
    class Silent(msgspec.Struct):
        port: int = 1

    with pytest.raises(KeyError, match="port"):
        describe(Silent)


def test_there_is_a_file_for_each_daemon() -> None:
    assert file_called("node").path == Path("/etc/tccp/node.toml")
    assert [file.name for file in FILES] == ["coordinator", "node", "witness"]
