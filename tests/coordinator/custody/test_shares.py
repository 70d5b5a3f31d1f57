"""Shares for officers: N of them restore the keys, N - 1 do not, and one that was altered is named."""

import datetime as dt
from dataclasses import replace

import msgspec
import pytest
from nacl.signing import SigningKey

from tccp.coordinator.custody import shares as s
from tccp.coordinator.custody.key_set import KeySet, fresh_key_set
from tccp.coordinator.custody.shares import (
    Share,
    hand_over,
    make_shares,
    open_share,
    parse_share,
    restore_keys,
    write_share,
)
from tccp.errors import ConfigError
from tccp.image.keys import RecipientSecretKey
from tccp.image.recipients import HPKE
from tccp.protocol.encoding import encode

MADE_MS = 1_800_000_000_000
NAMES = ("ann", "bob", "eve")


def officer(number: int) -> RecipientSecretKey:
    return RecipientSecretKey.from_seed(bytes([number]) * 32)


OFFICERS = [officer(number) for number in range(len(NAMES))]


@pytest.fixture(scope="module")
def keys() -> KeySet:
    return fresh_key_set(now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


@pytest.fixture(scope="module")
def shares(keys: KeySet) -> list[Share]:
    """Two of three."""
    named = [(name, secret.public) for name, secret in zip(NAMES, OFFICERS, strict=True)]
    return make_shares(keys, named, 2, made_ms=MADE_MS)


def refusal(shares: list[Share], secrets: list[RecipientSecretKey]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        restore_keys(shares, secrets)
    return caught.value


@pytest.mark.parametrize("chosen", [(0, 1), (0, 2), (2, 1), (0, 1, 2)])
def test_enough_shares_restore_the_keys(keys: KeySet, shares: list[Share], chosen: tuple[int, ...]) -> None:
    assert restore_keys([shares[number] for number in chosen], [OFFICERS[number] for number in chosen]) == keys


def test_a_share_is_text_that_says_what_it_is(shares: list[Share], keys: KeySet) -> None:
    text = write_share(shares[1]).decode("ascii")

    assert text.startswith(f"Share 2 of 3, for bob; any 2 of them restore the coordinator {keys.coordinator_id.hex()}")
    assert max(len(line) for line in text.splitlines()[1:]) == 64
    assert parse_share(text.encode()) == shares[1]
    assert parse_share(b"printed and scanned:\r\n" + text.replace("\n", "\r\n").encode()) == shares[1]


def test_one_share_less_restores_nothing(shares: list[Share]) -> None:
    refused = refusal(shares[:1], OFFICERS)

    assert (refused.reason, refused.detail) == ("too_few_shares", "1 different shares, and 2 are needed")
    assert refusal([shares[0], shares[0]], OFFICERS).reason == "too_few_shares"


def test_one_share_less_restores_nothing_whatever_it_claims(shares: list[Share], keys: KeySet) -> None:
    """The number in the statement is for the message; the mathematics (test_shamir.py) does not read it."""
    fewer = replace(shares[0], statement=msgspec.structs.replace(shares[0].statement, threshold=1))

    assert refusal([fewer], OFFICERS).reason == "keys_damaged"


def test_a_share_opens_for_its_officer_alone(shares: list[Share]) -> None:
    assert refusal(shares[:2], OFFICERS[1:]).detail.startswith("no secret key for share 1 of 3, for ann")
    with pytest.raises(ConfigError, match="not_a_recipient"):
        open_share(shares[0], OFFICERS[1])
    with pytest.raises(ConfigError, match="share_altered"):
        open_share(replace(shares[0], key_id=OFFICERS[1].public.key_id), OFFICERS[1])


def test_no_byte_of_a_share_can_be_changed(shares: list[Share]) -> None:
    whole = write_share(shares[0])
    lines = whole.index(b"-----BEGIN")
    for place in range(lines, len(whole) - len("==\n-----END TCCP KEY SHARE-----\n") - 2, 5):
        altered = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        with pytest.raises(ConfigError, match=r"share_malformed|share_altered|not_a_recipient"):
            open_share(parse_share(altered), OFFICERS[0])


@pytest.mark.parametrize("number", [0, 1])
def test_an_altered_share_is_named(shares: list[Share], number: int) -> None:
    chosen = shares[:2]
    wrapped = bytearray(chosen[number].wrapped)
    wrapped[-1] ^= 1
    chosen[number] = replace(chosen[number], wrapped=bytes(wrapped))

    refused = refusal(chosen, OFFICERS)

    assert refused.reason == "share_altered"
    assert refused.detail.startswith(f"share {number + 1} of 3, for {NAMES[number]}: ")


def test_an_officer_who_wraps_another_value_is_named(shares: list[Share]) -> None:
    """She can encrypt what she likes to her own key; the set's commitments say what her share was."""
    info = s._info(shares[1].statement_bytes)
    lie = replace(shares[1], wrapped=HPKE.encrypt(bytes(32), OFFICERS[1].public.hpke_key(), info))

    refused = refusal([shares[0], lie], OFFICERS)

    assert refused.reason == "share_altered"
    assert refused.detail.startswith("share 2 of 3, for bob: another value")


def test_without_commitments_nobody_would_know_whose_share_is_wrong(
    shares: list[Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the keys do not come back, and no share is named."""
    monkeypatch.setattr(s, "_commitment", lambda _set, number, _value: shares[0].statement.commitments[number - 1])
    info = s._info(shares[1].statement_bytes)
    lie = replace(shares[1], wrapped=HPKE.encrypt(bytes(32), OFFICERS[1].public.hpke_key(), info))

    refused = refusal([shares[0], lie], OFFICERS)

    assert refused.reason == "keys_damaged"
    assert "bob" not in refused.detail


def test_where_one_share_does_not_open_no_value_of_the_others_stays(
    shares: list[Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []

    def open_and_note(share: Share, secret: RecipientSecretKey) -> bytes:
        opened.append(open_share(share, secret))
        return opened[-1]

    monkeypatch.setattr(s, "open_share", open_and_note)

    assert refusal(shares, OFFICERS[:2]).reason == "not_a_recipient"
    assert opened == [bytes(32)] * 2


def test_a_share_that_somebody_else_signed_is_refused(shares: list[Share], keys: KeySet) -> None:
    stranger = SigningKey.generate()
    statement = msgspec.structs.replace(shares[0].statement, officer="mallory")
    signed = encode(statement)
    by_stranger = replace(shares[0], statement_bytes=signed, signature=stranger.sign(signed).signature)

    with pytest.raises(ConfigError, match="share_altered"):
        parse_share(write_share(by_stranger))
    # The control: with the coordinator's own key it would pass.
    by_coordinator = replace(by_stranger, signature=SigningKey(keys.identity_seed).sign(signed).signature)
    assert parse_share(write_share(by_coordinator)).statement.officer == "mallory"


def test_shares_of_two_sets_do_not_mix(shares: list[Share], keys: KeySet) -> None:
    named = [(name, secret.public) for name, secret in zip(NAMES, OFFICERS, strict=True)]
    later = make_shares(keys, named, 2, made_ms=MADE_MS)

    refused = refusal([shares[0], later[1]], OFFICERS)

    assert refused.reason == "shares_do_not_match"
    assert "share 2 of 3, for bob" in refused.detail


def test_a_share_can_be_handed_over_to_the_machine_that_restores(shares: list[Share], keys: KeySet) -> None:
    machine = officer(99)
    handed = [hand_over(shares[number], OFFICERS[number], machine.public) for number in (0, 2)]

    assert restore_keys([parse_share(write_share(share)) for share in handed], [machine]) == keys
    assert refusal(handed, OFFICERS).reason == "not_a_recipient"


def test_what_is_wrapped_fits_no_other_share(shares: list[Share]) -> None:
    """The statement is part of what is encrypted: a share does not take another's place."""
    moved = replace(shares[0], wrapped=hand_over(shares[1], OFFICERS[1], OFFICERS[0].public).wrapped)

    with pytest.raises(ConfigError, match="share_altered"):
        open_share(moved, OFFICERS[0])


@pytest.mark.parametrize(
    ("named", "threshold", "reason"),
    [
        ([("ann", 0)], 1, "bad_threshold"),
        ([("ann", 0), ("bob", 1)], 1, "bad_threshold"),
        ([("ann", 0), ("bob", 1)], 3, "bad_threshold"),
        ([("ann", 0), ("ann", 1)], 2, "officer_twice"),
        ([("ann", 0), ("bob", 0)], 2, "officer_twice"),
        ([("ann", 0), ("../bob", 1)], 2, "bad_officer"),
    ],
)
def test_shares_that_nobody_should_make_are_refused(
    keys: KeySet, named: list[tuple[str, int]], threshold: int, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_shares(keys, [(name, OFFICERS[key].public) for name, key in named], threshold, made_ms=MADE_MS)

    assert caught.value.reason == reason
