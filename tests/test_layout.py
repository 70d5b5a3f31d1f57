"""What import-linter cannot see."""

from pathlib import Path

from tests.conftest import LONGEST

SOURCE = Path(__file__).parent.parent / "src" / "tccp"


def test_only_the_core_package_touches_the_c_core() -> None:
    users = [path for path in SOURCE.rglob("*.py") if "tccp._core" in path.read_text()]

    assert {path.parent for path in users} == {SOURCE / "core"}


def test_the_files_of_tests_that_are_begun_with_exist() -> None:
    assert not [name for name in LONGEST if not (Path(__file__).parent / name).exists()]
