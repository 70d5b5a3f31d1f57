"""The scripts that ``tccp completion`` prints, in the shells that they are for."""

import shutil
import subprocess

from .running import TCCP, tccp

COMPLETE = r"""
set -eu
eval "$("$1" completion bash)"
COMP_WORDS=("$2" ""); COMP_CWORD=1; COMP_LINE="$2 "; COMP_POINT=${#COMP_LINE}
function_name=$(complete -p tccp | sed -n 's/.*-F \([^ ]*\).*/\1/p')
"$function_name" "$2" "" "$2" || true
printf '%s\n' "${COMPREPLY[@]}"
"""


def test_bash_completes_the_commands() -> None:
    bash = shutil.which("bash")
    assert bash is not None

    done = subprocess.run(
        [bash, "--norc", "-c", COMPLETE, "bash", TCCP, "tccp"], capture_output=True, check=True, text=True
    )

    assert {"doctor", "completion"} <= set(done.stdout.split())
    assert done.stderr == ""


def test_the_zsh_script_names_the_command_that_it_completes() -> None:
    # zsh is not among the packages that tests need; the bash script is made from the same parser and is run.
    assert tccp("completion", "zsh").out.startswith("#compdef tccp\n")


def test_json_carries_the_same_script() -> None:
    document = tccp("completion", "bash", "--json").document

    assert document["shell"] == "bash"
    assert document["script"].rstrip("\n") == tccp("completion", "bash").out.rstrip("\n")
