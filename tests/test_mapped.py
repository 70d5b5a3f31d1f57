"""Mapped files: one copy for all, and nothing but a file of a sensible size."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tccp.attestation.ima import ImaPolicy
from tccp.attestation.ima_rules import ImaRules, ListedDigest, compile_rules
from tccp.errors import ConfigError, HostError
from tccp.mapped import map_file
from tccp.model import PcrBank

PROGRAM = """
import sys
from pathlib import Path
from tccp.attestation.ima import ImaPolicy
from tccp.mapped import map_file
from tccp.model import PcrBank
policy = ImaPolicy(map_file(Path(sys.argv[1]), bytes_max=1 << 20), bytes.fromhex(sys.argv[2]))
print(policy.lists(PcrBank.SHA256, bytes.fromhex(sys.argv[3]), b"/x"))
"""


def test_processes_judge_by_one_mapped_policy(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"content").digest()
    path = tmp_path / "policy"
    path.write_bytes(compile_rules(ImaRules([ListedDigest(digest)])))
    sha256 = hashlib.sha256(path.read_bytes()).digest()
    policy = ImaPolicy(map_file(path, bytes_max=1 << 20), sha256)

    arguments = [sys.executable, "-c", PROGRAM, str(path), sha256.hex(), digest.hex()]
    other = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout

    assert policy.lists(PcrBank.SHA256, digest, b"/x")
    assert other == "True\n"


def test_a_policy_that_is_replaced_stays_as_it_was_for_whoever_has_it_mapped(tmp_path: Path) -> None:
    path, newer = tmp_path / "policy", tmp_path / "newer"
    old = compile_rules(ImaRules([ListedDigest(bytes(32))]))
    path.write_bytes(old)
    newer.write_bytes(compile_rules(ImaRules()))
    policy = ImaPolicy(map_file(path, bytes_max=1 << 20), hashlib.sha256(old).digest())

    newer.rename(path)

    assert policy.lists(PcrBank.SHA256, bytes(32), b"/x")


def test_nothing_can_be_written_through_a_map(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")

    with pytest.raises(TypeError):
        map_file(tmp_path / "file", bytes_max=100)[0] = 1


@pytest.mark.parametrize(("size", "bytes_max"), [(0, 100), (101, 100)])
def test_a_file_of_another_size_is_not_mapped(size: int, bytes_max: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(size))

    with pytest.raises(ConfigError, match="file_size"):
        map_file(tmp_path / "file", bytes_max=bytes_max)


def test_what_cannot_be_read_is_the_hosts_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(HostError, match="file_unreadable"):
            map_file(path, bytes_max=100)
