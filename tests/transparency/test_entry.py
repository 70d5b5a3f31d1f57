"""An entry shows everybody what it shows, and hides the rest from all but those who are told."""

import hashlib

import msgpack
import pytest

from tccp.errors import LogError
from tccp.transparency.entry import LogEntry, commit, decode_entry, log_salt, make_entry, open_commitment
from tccp.transparency.packed import pack_map

SALT_KEY = bytes(range(32))
DETAILS = pack_map({"node": "n1", "body": b"\x80"})
SALT = log_salt(SALT_KEY, 7)


def entry() -> LogEntry:
    return make_entry("policy", 1_700_000_000_000, {"version": 3, "name": "tvmm"}, DETAILS, SALT)


def test_an_entry_is_the_same_bytes_whenever_it_is_made() -> None:
    again = make_entry("policy", 1_700_000_000_000, {"name": "tvmm", "version": 3}, DETAILS, log_salt(SALT_KEY, 7))

    assert again.encode() == entry().encode()
    assert decode_entry(entry().encode()) == entry()
    assert entry().public_values() == {"name": "tvmm", "version": 3}


def test_the_bytes_of_an_entry_are_those_of_the_document() -> None:
    commitment = hashlib.sha256(b"tccp/v1/log-details\0" + SALT + DETAILS).digest()
    public = msgpack.packb({"name": "tvmm", "version": 3})

    expected = msgpack.packb(["tccp/v1/log-entry", "policy", 1_700_000_000_000, public, commitment])
    assert entry().encode() == expected


def test_two_entries_about_the_same_thing_have_nothing_in_common() -> None:
    """Otherwise whoever holds one receipt finds all entries about that node."""
    first, second = (make_entry("admit", 1, {}, DETAILS, log_salt(SALT_KEY, seq)) for seq in (1, 2))

    assert first.commitment != second.commitment
    unsalted = {make_entry("admit", 1, {}, DETAILS, bytes(32)).commitment for _ in (1, 2)}
    assert len(unsalted) == 1  # the attack works where the salts are the same


def test_details_open_with_their_salt_and_nothing_else_does() -> None:
    assert open_commitment(entry(), DETAILS, SALT) == {"body": b"\x80", "node": "n1"}

    for details, salt in [
        (pack_map({"node": "n2", "body": b"\x80"}), SALT),
        (DETAILS, log_salt(SALT_KEY, 8)),
        (DETAILS, log_salt(bytes(32), 7)),
    ]:
        with pytest.raises(LogError, match="commitment"):
            open_commitment(entry(), details, salt)


def test_details_that_were_committed_to_and_are_no_map_are_refused() -> None:
    odd = LogEntry("admit", 1, pack_map({}), commit(b"\xc0", SALT))

    with pytest.raises(LogError, match="details_malformed"):
        open_commitment(odd, b"\xc0", SALT)
    with pytest.raises(LogError, match="details_malformed"):
        open_commitment(odd, b"\xc0", SALT[:-1])


@pytest.mark.parametrize(
    "plain",
    [
        ["tccp/v2/log-entry", "admit", 1, b"\x80", bytes(32)],
        ["tccp/v1/log-entry", "Admit", 1, b"\x80", bytes(32)],
        ["tccp/v1/log-entry", "admit", -1, b"\x80", bytes(32)],
        ["tccp/v1/log-entry", "admit", True, b"\x80", bytes(32)],
        ["tccp/v1/log-entry", "admit", 1 << 63, b"\x80", bytes(32)],
        ["tccp/v1/log-entry", "admit", 1, b"\x90", bytes(32)],
        ["tccp/v1/log-entry", "admit", 1, msgpack.packb({"b": 1, "a": 1}), bytes(32)],
        ["tccp/v1/log-entry", "admit", 1, msgpack.packb({"a": [1]}), bytes(32)],
        ["tccp/v1/log-entry", "admit", 1, msgpack.packb({"a": "x" * 5000}), bytes(32)],
        ["tccp/v1/log-entry", "admit", 1, b"\x80", bytes(31)],
        ["tccp/v1/log-entry", "admit", 1, b"\x80"],
        {"tccp/v1/log-entry": 1},
        None,
    ],
)
def test_what_is_no_entry_is_refused(plain: object) -> None:
    with pytest.raises(LogError, match="entry_malformed"):
        decode_entry(msgpack.packb(plain))


def test_an_entry_has_one_spelling() -> None:
    """Two leaves that say the same would be two entries for one event."""
    longer = entry().encode().replace(b"\xa6policy", b"\xd9\x06policy")

    assert msgpack.unpackb(longer) == msgpack.unpackb(entry().encode())
    with pytest.raises(LogError, match="entry_malformed"):
        decode_entry(longer)


def test_an_entry_that_could_not_be_read_again_is_never_made() -> None:
    for public, details in [({"name": "x" * 5000}, DETAILS), ({"Name": "x"}, DETAILS), ({}, bytes(72_001))]:
        with pytest.raises(ValueError):
            make_entry("admit", 1, public, details, SALT)
    with pytest.raises(ValueError):
        make_entry("admit", 1, {}, DETAILS, b"short")
