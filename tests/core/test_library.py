"""What the C core says about the libraries that it runs with."""

from tccp.core.library import library_versions


def test_the_versions_are_those_of_supported_libraries() -> None:
    info = library_versions()

    assert info.openssl.startswith("3.")
    assert tuple(map(int, info.sodium.split("."))) >= (1, 0, 20)
