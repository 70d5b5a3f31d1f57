"""The completion scripts of a package."""

import subprocess
from pathlib import Path

import pytest

from tools.completion import scripts

SCRIPTS = scripts()
OFFER = r"""
set -eu
. "$1"
COMP_WORDS=(tccp-node --); COMP_CWORD=1; COMP_LINE="tccp-node --"; COMP_POINT=${#COMP_LINE}
"$(complete -p tccp-node | sed -n 's/.*-F \([^ ]*\).*/\1/p')" tccp-node -- tccp-node || true
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.parts[0] == "bash-completion"], ids=str)
def test_bash_reads_each_script(path: Path, tmp_path: Path) -> None:
    (tmp_path / path.name).write_text(SCRIPTS[path])

    subprocess.run(["bash", "-n", tmp_path / path.name], check=True)


def test_the_options_of_a_daemon_are_offered(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(SCRIPTS[Path("bash-completion/completions/tccp-node")])
    done = subprocess.run(
        ["bash", "--norc", "-c", OFFER, "bash", tmp_path / "script"], capture_output=True, text=True, check=True
    )

    assert {"--config", "--version"} <= set(done.stdout.split())


def test_zsh_finds_each_script_by_its_first_line() -> None:
    found = {path.name: script for path, script in SCRIPTS.items() if path.parts[0] == "zsh"}

    assert found
    assert all(script.startswith(f"#compdef {name.removeprefix('_')}\n") for name, script in found.items())
