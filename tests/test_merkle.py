"""RFC 6962 trees: every leaf's path leads to the root, and no other leaf, place or size has it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.merkle import merkle_tree, root_from_path

# RFC 9162, 2.1.5: the tree of seven leaves, by hand.
D = [bytes([number]) for number in range(7)]


def by_hand() -> bytes:
    a, b, c, d, e, f, j = (hashlib.sha256(b"\0" + leaf).digest() for leaf in D)

    def pair(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    g, h, i = pair(a, b), pair(c, d), pair(e, f)
    return pair(pair(g, h), pair(i, j))


def test_the_root_is_the_one_of_the_rfc() -> None:
    assert merkle_tree(D)[0] == by_hand()


@pytest.mark.parametrize("count", [*range(1, 34), 1000])
def test_every_path_leads_to_the_root(count: int) -> None:
    leaves = [number.to_bytes(4, "big") for number in range(count)]
    root, paths = merkle_tree(leaves)

    for index, leaf in enumerate(leaves):
        assert root_from_path(leaf, index, count, paths[index]) == root


@given(st.integers(2, 40), st.data())
def test_a_path_proves_no_other_leaf_and_no_other_place(count: int, data: st.DataObject) -> None:
    leaves = [number.to_bytes(4, "big") for number in range(count)]
    root, paths = merkle_tree(leaves)
    index = data.draw(st.integers(0, count - 1))
    other = data.draw(st.integers(-1, count + 1).filter(lambda place: place != index))

    assert root_from_path(b"another", index, count, paths[index]) != root
    assert root_from_path(leaves[index], other, count, paths[index]) != root
    assert root_from_path(leaves[index], index, count, [*paths[index], root]) != root
    assert root_from_path(leaves[index], index, count, paths[index][:-1]) != root


def test_an_inner_node_is_no_leaf() -> None:
    root, _ = merkle_tree(D[:2])
    left, right = (hashlib.sha256(b"\0" + leaf).digest() for leaf in D[:2])

    assert root_from_path(left + right, 0, 1, []) != root
