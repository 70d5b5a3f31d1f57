"""What import-linter cannot see."""

from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "tccp"


def test_only_the_core_package_touches_the_c_core() -> None:
    users = [path for path in SOURCE.rglob("*.py") if "tccp._core" in path.read_text()]

    assert {path.parent for path in users} == {SOURCE / "core"}
