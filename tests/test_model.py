"""The nouns cannot be wrong once they are made, and secrets do not show."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.model import NodeName, Nonce, PcrBank, PcrSelection, PcrValues, SecretBytes


@given(st.sets(st.integers(0, 23), min_size=1))
def test_a_selection_knows_its_mask(indexes: set[int]) -> None:
    selection = PcrSelection.of(PcrBank.SHA256, indexes)

    assert {index for index in range(24) if selection.mask >> index & 1} == indexes
    assert list(selection.indexes) == sorted(indexes)


@pytest.mark.parametrize("indexes", [(), (1, 0), (0, 0), (-1,), (24,), (0, 24)])
def test_a_selection_that_no_tpm_could_quote_cannot_be_made(indexes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="PCR indices"):
        PcrSelection(PcrBank.SHA256, indexes)


@pytest.mark.parametrize("values", [{}, {0: bytes(32)}, {0: bytes(32), 1: bytes(32), 2: bytes(32)}, {0: b"", 1: b""}])
def test_values_that_are_not_those_of_the_selection_cannot_be_made(values: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="PCR value"):
        PcrValues(PcrSelection(PcrBank.SHA256, (0, 1)), values)


def test_values_follow_each_other_in_the_order_of_their_indices() -> None:
    one, two = b"\1" * 32, b"\2" * 32

    assert PcrValues(PcrSelection(PcrBank.SHA256, (3, 9)), {9: two, 3: one}).concatenated == one + two


@pytest.mark.parametrize(("name", "size"), [("sha1", 20), ("sha256", 32), ("SHA384", 48), ("sha512", 64)])
def test_banks_are_found_by_their_names(name: str, size: int) -> None:
    assert PcrBank.from_name(name).digest_bytes == size


def test_an_unknown_bank_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="one of sha1, sha256"):
        PcrBank.from_name("md5")


@given(st.binary(max_size=64).filter(lambda value: len(value) != 32))
def test_a_nonce_has_32_bytes(value: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Nonce(value)
    assert Nonce(b"n" * 32).value == b"n" * 32


@given(st.text(max_size=70) | st.text("a.-", max_size=6))
def test_a_node_name_is_a_host_name(text: str) -> None:
    labels = text.split(".")
    if len(text) <= 63 and all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", label) for label in labels):
        assert str(NodeName(text)) == text
    else:
        with pytest.raises(ValueError, match="not a node name"):
            NodeName(text)


@pytest.mark.parametrize("text", ["alpha\n", "", "-a", "a-", "a/b", "a b", "ä", "A", "a" * 64])
def test_names_that_would_hurt_somewhere_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a node name"):
        NodeName(text)


def test_secrets_are_neither_shown_nor_compared() -> None:
    secret = SecretBytes(b"hunter2 hunter2")

    assert "hunter2" not in f"{secret} {secret!r}"
    with pytest.raises(TypeError):
        secret == secret  # noqa: B015, PLR0124
    with pytest.raises(TypeError):
        hash(secret)
