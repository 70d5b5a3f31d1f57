"""A command that holds a secret: its memory is for nobody, not even for other processes of the same user."""

import subprocess
import sys
from pathlib import Path

import pytest

from tccp.cli.key_files import secret_path, tenant_secret
from tccp.cli.main import HOLD_NO_SECRETS, build_parser

from .running import TCCP, tccp
from .test_main import leaves

# Root without any capability, as any user is: who has them may read everybody's memory, whatever that one gave up.
NOBODY_SPECIAL = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
# Starts its argument, feeds it more than a pipe holds, so that it has read its keys, and looks for one in its memory.
ATTACK = """
import subprocess, sys
secret, command = bytes.fromhex(sys.argv[1]), sys.argv[2:]
found = False
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
    child.stdin.write(bytes(1 << 20))
    child.stdin.flush()
    print(next(line.split()[4:6] for line in open(f"/proc/{child.pid}/limits") if "core file" in line))
    try:
        with open(f"/proc/{child.pid}/maps") as maps, open(f"/proc/{child.pid}/mem", "rb", 0) as memory:
            for line in maps:
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                if "rw-p" in line:
                    memory.seek(start)
                    found |= secret in memory.read(end - start)
        print("found" if found else "not found")
    except PermissionError:
        print("PermissionError")
    child.kill()
"""
UNHARDENED = [sys.executable, "-c", "import sys; from tccp.cli.main import main; main(sys.argv[1:])"]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    assert tccp("key", "generate", tmp_path / "me.key").code == 0
    assert tccp("key", "generate", "--type", "tenant", tmp_path / "acme.key").code == 0
    return tmp_path


def attack(keys: Path, command: list[str]) -> list[str]:
    """What somebody of the same user makes of a process that seals: its limit of core files, and of its memory."""
    seal = ["image", "seal", "-", str(keys / "out.sealed"), "--to", str(keys / "me.pub")]
    secret = bytes(tenant_secret(keys / "acme.key")).hex()
    attacker = [*NOBODY_SPECIAL, sys.executable, "-c", ATTACK, secret]
    done = subprocess.run(
        [*attacker, *command, *seal, "--sign", str(keys / "acme.key")], capture_output=True, check=True, text=True
    )
    return done.stdout.splitlines()


def test_the_key_of_a_running_command_is_not_to_be_had_from_its_memory(keys: Path) -> None:
    assert attack(keys, [TCCP]) == ["['0', '0']", "PermissionError"]
    # The control: the same command in a process that has given nothing up.
    assert attack(keys, UNHARDENED)[1] == "found"


@pytest.mark.parametrize("name", sorted(HOLD_NO_SECRETS))
def test_a_command_that_is_not_hardened_can_name_no_secret(name: str) -> None:
    commands = [command for command in leaves(build_parser(name)) if command.prog.split()[1] == name]

    assert commands
    assert not [action for command in commands for action in command._actions if action.type is secret_path]
