"""The built module shows one symbol, and carries the hardening that the compiler and linker can give."""

import platform
import subprocess

import pytest

from tccp import _core

MODULE = _core.__file__


def readelf(*options: str) -> str:
    command = ["readelf", "--wide", *options, MODULE]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_nothing_is_exported_but_the_entry_of_the_module() -> None:
    symbols = [line.split() for line in readelf("--dyn-syms").splitlines()]
    exported = [fields[7] for fields in symbols if len(fields) == 8 and fields[4] != "LOCAL" and fields[6].isdigit()]

    assert exported == ["PyInit__core"]


def test_the_tables_of_the_linker_are_read_only_and_filled_at_start() -> None:
    assert "GNU_RELRO" in readelf("--program-headers")
    assert "BIND_NOW" in readelf("--dynamic")


def test_the_stack_is_guarded_and_not_executable() -> None:
    assert "__stack_chk_fail" in readelf("--dyn-syms")
    stack = next(line for line in readelf("--program-headers").splitlines() if "GNU_STACK" in line)
    assert stack.split()[-2] == "RW"


def test_no_segment_is_writable_and_executable() -> None:
    loads = [line for line in readelf("--program-headers").splitlines() if line.split()[:1] == ["LOAD"]]

    assert loads
    assert not [line for line in loads if "RWE" in line]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a feature of that processor")
def test_functions_begin_with_a_landing_pad_for_indirect_branches() -> None:
    # The mark of the whole module is missing: Debian's start-up files, which are linked in, do not carry it.
    command = ["objdump", "--disassemble=PyInit__core", "--no-show-raw-insn", MODULE]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first = code.split("<PyInit__core>:")[1].split("\n")[1]

    assert first.endswith("endbr64")
