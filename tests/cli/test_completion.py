"""The scripts that ``tccp completion`` prints, in the shells that they are for."""

import shutil
import subprocess
from pathlib import Path

from .running import TCCP, tccp

# Asks the completion function what it would offer after the words $3.., the last of which is being typed.
COMPLETE = r"""
set -eu
eval "$("$1" completion bash)"
function_name=$(complete -p tccp | sed -n 's/.*-F \([^ ]*\).*/\1/p')
shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
"$function_name" "$1" "${@: -1}" "${@: -2:1}" || true
printf '%s\n' "${COMPREPLY[@]}"
"""


def offered(*words: str) -> set[str]:
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "--norc", "-c", COMPLETE, "bash", TCCP, "tccp", *words], capture_output=True, check=True, text=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_commands() -> None:
    assert {"evidence", "coordinator", "node", "doctor", "completion"} <= offered("")
    assert offered("coordinator", "re") == {"revoke"}
    assert {"quote", "eventlog", "ek"} <= offered("evidence", "")


def test_bash_completes_options() -> None:
    assert {"--ak", "--message", "--signature", "--nonce", "--pcrs", "--json"} <= offered("evidence", "quote", "--")


def test_bash_completes_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()

    assert offered("evidence", "eventlog", f"{tmp_path}/fi") == {f"{tmp_path}/file"}
    folders = offered("evidence", "ek", "--authorities", f"{tmp_path}/f")
    assert {name.rstrip("/") for name in folders} == {f"{tmp_path}/folder"}


def test_the_zsh_script_names_the_command_that_it_completes() -> None:
    # zsh is not among the packages that tests need; the bash script is made from the same parser and is run.
    assert tccp("completion", "zsh").out.startswith("#compdef tccp\n")


def test_json_carries_the_same_script() -> None:
    document = tccp("completion", "bash", "--json").document

    assert document["shell"] == "bash"
    assert document["script"].rstrip("\n") == tccp("completion", "bash").out.rstrip("\n")
