"""Documents cannot rot: what they name exists, what they say to type works, where they point there is something."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
MAKEFILES = MAKEFILE + "".join(
    (ROOT / part).read_text() for part in re.findall(r"^-include (\S+)", MAKEFILE, re.MULTILINE)
)


def tracked() -> list[Path]:
    """Every file under version control; also when somebody else owns the checkout."""
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


DOCUMENTS = [path for path in tracked() if path.suffix == ".md" and "vectors" not in path.parts]


def runnable() -> list[str]:
    """The commands of the README's blocks marked ``sh run``, a line each."""
    blocks = re.findall(r"^```sh run\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize("command", runnable())
def test_a_command_of_the_readme_works(command: str) -> None:
    done = subprocess.run(["bash", "-euc", command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_readme_has_commands_to_run() -> None:
    assert runnable()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_knows_every_target_that_a_document_names(document: Path) -> None:
    """The long ones are not run here: `make test` is this run, and `make demo` has its own test."""
    named = set(re.findall(r"(?:`|^ *)make ([a-z-]+)", document.read_text(), re.MULTILINE))

    assert not {target for target in named if not re.search(rf"^{target}:", MAKEFILES, re.MULTILINE)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", document.read_text())
    inside = [link for link in links if link and not link.startswith(("https://", "mailto:"))]

    assert not [link for link in inside if not (document.parent / link).exists()]


# Written so that this file does not find itself.
REGISTRIES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|deb[.]debian[.]org|docker[.]io|ghcr[.]io|quay[.]io|crates[.]io|npmjs[.]|"
    r"proxy[.]golang[.]org|conda[.]anaconda[.]org"
)
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:work|farm|root|home)/[\w.]")


def test_no_file_names_a_registry_or_a_path_of_somebodys_machine() -> None:
    """Where packages come from is for each machine's own configuration to say."""
    found = []
    for path in tracked():
        if "vectors" in path.parts or "corpus" in path.parts:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [
            f"{path.relative_to(ROOT)}: {match.group()}"
            for pattern in (REGISTRIES, MACHINE_PATHS)
            for match in pattern.finditer(text)
        ]

    assert not found


def test_the_search_for_them_finds_them() -> None:
    for text in ("pypi" + ".org/simple", "index-url = https://" + "files.pythonhosted" + ".org"):
        assert REGISTRIES.search(text)
    for text in ("/work" + "/main/x", '"/home' + '/somebody/tccp"', "cd /root" + "/tccp"):
        assert MACHINE_PATHS.search(text)


def test_the_closing_line_of_pytest_is_the_last_of_ci() -> None:
    """`.ci/run` looks for it with this expression; it must know what pytest says in the end."""
    expression = re.search(r"grep -E '([^']+)'", (ROOT / ".ci" / "run").read_text())
    assert expression
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    for line in (
        "====== 5 passed in 0.10s ======",
        "=== 1 failed, 4 passed, 2 warnings in 61.22s (0:01:01) ===",
        "=== 2 errors in 1.00s ===",
    ):
        assert re.search(expression.group(1), line)
