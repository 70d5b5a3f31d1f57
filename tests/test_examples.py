"""The example files are legal, and show every key there is with its default."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from tccp.attestation.boot_policy import SECTION_PCRS, parse_boot_policy
from tccp.attestation.policy import parse_policy
from tccp.config import CoordinatorConfig, NodeConfig, WitnessConfig, load_config
from tccp.tenant.policy import KEYS, parse_tenant_policy

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
CONFIGS: list[tuple[str, type[msgspec.Struct]]] = [
    ("coordinator.toml", CoordinatorConfig),
    ("node.toml", NodeConfig),
    ("witness.toml", WitnessConfig),
]


def keys_of(table: dict[str, Any], before: str = "") -> set[str]:
    """``{"tpm.ak", ...}``: all that have a value."""
    found: set[str] = set()
    for key, value in table.items():
        below = value[0] if isinstance(value, list) and value else value  # of an array of tables the first
        found |= keys_of(below, f"{before}{key}.") if isinstance(below, dict) else {before + key}
    return found


def keys_there_are(kind: Any, before: str = "") -> set[str]:
    found: set[str] = set()
    for field in msgspec.structs.fields(kind):
        kinds = [field.type, *(part for each in get_args(field.type) for part in (each, *get_args(each)))]
        table = next((each for each in kinds if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)
        found |= keys_there_are(table, f"{before}{field.name}.") if table else {before + field.name}
    return found


@pytest.mark.parametrize(("name", "kind"), CONFIGS)
def test_an_example_of_a_configuration_is_legal_and_shows_each_key_once(name: str, kind: type[msgspec.Struct]) -> None:
    load_config(EXAMPLES / name, kind)

    text = (EXAMPLES / name).read_text()
    assert keys_of(tomllib.loads(text)) == keys_there_are(kind)
    assert len(re.findall(r"^\w+ = ", text, re.MULTILINE)) == len(keys_there_are(kind))


@pytest.mark.parametrize(("name", "kind"), CONFIGS)
def test_what_an_example_shows_is_the_default_unless_it_says_that_there_is_none(
    name: str, kind: type[msgspec.Struct], tmp_path: Path
) -> None:
    text = (EXAMPLES / name).read_text()
    bare = re.sub(r"^(?!.*# no default)\w+ = .*\n", "", text, flags=re.MULTILINE)
    (tmp_path / name).write_text(bare)

    assert load_config(tmp_path / name, kind) == load_config(EXAMPLES / name, kind)


@pytest.mark.parametrize(("name", "kind"), CONFIGS)
def test_what_has_no_default_has_none(name: str, kind: type[msgspec.Struct], tmp_path: Path) -> None:
    lines = (EXAMPLES / name).read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if "# no default" not in line or line.startswith("#"):
            continue
        (tmp_path / name).write_text("".join([*lines[:number], *lines[number + 1 :]]))
        try:
            without = load_config(tmp_path / name, kind)
        except Exception as problem:  # noqa: BLE001 - which one is not the question
            assert "config_invalid" in str(problem)  # noqa: PT017
        else:
            assert without != load_config(EXAMPLES / name, kind)


def test_the_example_of_a_policy_is_legal() -> None:
    policy = parse_policy((EXAMPLES / "policy.toml").read_bytes())

    assert policy.selection.indexes == (0, 2, 4, 7)


def test_the_example_of_a_measured_boot_policy_is_legal_and_has_every_section() -> None:
    policy = parse_boot_policy((EXAMPLES / "measured-boot.toml").read_bytes())

    assert set(policy.sections) == set(SECTION_PCRS)
    assert policy.selection.indexes == (0, 2, 4, 5, 7, 8, 9, 10, 12)


def test_the_example_of_a_tenants_policy_is_legal_and_shows_every_key() -> None:
    text = (EXAMPLES / "tenant-policy.toml").read_text()
    policy = parse_tenant_policy(text.encode(), folder=EXAMPLES)

    assert (len(policy.witnesses), policy.witnesses_required) == (2, 1)
    assert policy.ek_authorities == EXAMPLES / "ek-authorities"
    found = re.findall(r"^(?:# )?([a-z_]+) = |^\[+(\w+)\]", text, re.MULTILINE)
    shown = {word for pair in found for word in pair if word}
    assert shown - {"key"} == KEYS
