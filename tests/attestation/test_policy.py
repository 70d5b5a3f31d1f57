"""Policies admit what they list, and nothing else; what is no policy is refused with the key that is wrong."""

import hashlib
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.attestation.policy import PcrPolicy, TrustedPlatform, parse_policy
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import ConfigError, PolicyError
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection, PcrValues

GOOD, EVIL, OTHER = b"\x11" * 32, b"\xab" * 32, b"\x22" * 32
BODY = f"""
name = "tvmm"
version = 3
description = "two firmwares"
[pcrs]
0 = ["{GOOD.hex()}", "{OTHER.hex()}"]
7 = "{GOOD.hex().upper()}"
"""


def quote_of(values: dict[int, bytes], bank: PcrBank = PcrBank.SHA256) -> VerifiedQuote:
    """A quote as `verify_quote` would have made it; nothing but its values matters to a policy."""
    quote = object.__new__(VerifiedQuote)
    object.__setattr__(quote, "pcrs", PcrValues(PcrSelection.of(bank, values), values))
    return quote


def policy(body: str = BODY) -> PcrPolicy:
    return parse_policy(body.encode())


@pytest.mark.parametrize("firmware", [GOOD, OTHER])
def test_every_listed_value_is_trusted(firmware: bytes) -> None:
    quote = quote_of({0: firmware, 7: GOOD})
    platform = policy().judge(quote)

    assert (platform.quote, platform.policy_name, platform.policy_version) == (quote, "tvmm", 3)


@pytest.mark.parametrize("values", [{0: EVIL, 7: GOOD}, {0: GOOD, 7: EVIL}, {0: GOOD, 7: OTHER}, {0: EVIL, 7: EVIL}])
def test_one_value_that_is_not_listed_is_enough_to_refuse(values: dict[int, bytes]) -> None:
    with pytest.raises(PolicyError, match="pcr_not_in_policy"):
        policy().judge(quote_of(values))


@pytest.mark.parametrize("values", [{0: GOOD}, {7: GOOD}, {0: GOOD, 4: GOOD, 7: GOOD}, {1: GOOD, 7: GOOD}])
def test_a_quote_of_other_pcrs_is_refused(values: dict[int, bytes]) -> None:
    with pytest.raises(PolicyError, match="wrong_pcr_selection"):
        policy().judge(quote_of(values))


def test_a_quote_of_another_bank_is_refused() -> None:
    with pytest.raises(PolicyError, match="wrong_pcr_selection"):
        policy().judge(quote_of({0: bytes(48), 7: bytes(48)}, PcrBank.SHA384))


def test_who_is_refused_is_told_what_was_found_and_what_would_be_allowed() -> None:
    with pytest.raises(PolicyError) as refused:
        policy().judge(quote_of({0: EVIL, 7: GOOD}))

    found = f"PCR 0 is {EVIL.hex()}, policy tvmm version 3 allows {GOOD.hex()}, {OTHER.hex()}"
    assert refused.value.detail == found
    assert "newer version of the policy" in refused.value.hint


def test_nobody_but_a_policy_makes_a_trusted_platform() -> None:
    with pytest.raises(TypeError):
        TrustedPlatform(quote_of({0: GOOD, 7: GOOD}), "tvmm", 3, object())


@given(
    st.dictionaries(
        st.integers(0, 23).filter(lambda pcr: pcr not in RESETTABLE_PCRS),
        st.binary(min_size=32, max_size=32),
        min_size=1,
    ),
    st.data(),
)
def test_a_policy_trusts_exactly_the_values_that_it_was_written_with(
    values: dict[int, bytes], data: st.DataObject
) -> None:
    lines = "\n".join(f'{index} = ["{value.hex()}"]' for index, value in values.items())
    written = policy(f'name = "x"\nversion = 1\n[pcrs]\n{lines}')
    written.judge(quote_of(values))

    index = data.draw(st.sampled_from(sorted(values)))
    bit = data.draw(st.integers(0, 255))
    changed = (int.from_bytes(values[index], "big") ^ 1 << bit).to_bytes(32, "big")
    with pytest.raises(PolicyError, match="pcr_not_in_policy"):
        written.judge(quote_of(values | {index: changed}))


PCRS = f'[pcrs]\n0 = "{GOOD.hex()}"'
WRONG = {
    "nothing": ("", "pcrs"),
    "no TOML": ("name", "TOML"),
    "a version without end": (f'name = "x"\nversion = 0x{4_400 * "f"}\n{PCRS}', "version"),
    "a version of digits without end": (f'name = "x"\nversion = {4_400 * "9"}\n{PCRS}', "digits"),
    "no name": (f"version = 1\n{PCRS}", "name"),
    "a name in capitals": (f'name = "TVMM"\nversion = 1\n{PCRS}', "name"),
    "a name that is a path": (f'name = "../x"\nversion = 1\n{PCRS}', "name"),
    "a long name": (f'name = "{64 * "x"}"\nversion = 1\n{PCRS}', "name"),
    "no version": (f'name = "x"\n{PCRS}', "version"),
    "version zero": (f'name = "x"\nversion = 0\n{PCRS}', "version"),
    "a version that is true": (f'name = "x"\nversion = true\n{PCRS}', "version"),
    "a huge version": (f'name = "x"\nversion = {1 << 31}\n{PCRS}', "version"),
    "an unknown key": (f'name = "x"\nversion = 1\ncolour = 1\n{PCRS}', "colour"),
    "no PCRs": ('name = "x"\nversion = 1', "pcrs"),
    "an empty table of PCRs": ('name = "x"\nversion = 1\n[pcrs]', "pcrs"),
    "the SHA-1 bank": (f'name = "x"\nversion = 1\nbank = "sha1"\n[pcrs]\n0 = "{20 * "00"}"', "sha1"),
    "an unknown bank": (f'name = "x"\nversion = 1\nbank = "md5"\n{PCRS}', "bank"),
    "a bank that is a number": (f'name = "x"\nversion = 1\nbank = 11\n{PCRS}', "bank"),
    "PCR 16": (f'name = "x"\nversion = 1\n[pcrs]\n16 = "{GOOD.hex()}"', "pcrs.16"),
    "PCR 23": (f'name = "x"\nversion = 1\n[pcrs]\n23 = "{GOOD.hex()}"', "pcrs.23"),
    "PCR 24": (f'name = "x"\nversion = 1\n[pcrs]\n24 = "{GOOD.hex()}"', "pcrs.24"),
    "PCR 00": (f'name = "x"\nversion = 1\n[pcrs]\n00 = "{GOOD.hex()}"', "pcrs.00"),
    "a PCR that is a word": (f'name = "x"\nversion = 1\n[pcrs]\nkernel = "{GOOD.hex()}"', "pcrs.kernel"),
    "no values": ('name = "x"\nversion = 1\n[pcrs]\n0 = []', "pcrs.0"),
    "a short value": ('name = "x"\nversion = 1\n[pcrs]\n0 = "00"', "pcrs.0"),
    "a value of another bank": (f'name = "x"\nversion = 1\nbank = "sha384"\n{PCRS}', "pcrs.0"),
    "a value that is a number": ('name = "x"\nversion = 1\n[pcrs]\n0 = [0]', "pcrs.0"),
    "a value with a line end": (f'name = "x"\nversion = 1\n[pcrs]\n0 = "{GOOD.hex()}\\n"', "pcrs.0"),
}


@pytest.mark.parametrize(("body", "told"), WRONG.values(), ids=WRONG)
def test_what_is_no_policy_is_refused_with_what_is_wrong(body: str, told: str) -> None:
    with pytest.raises(ConfigError, match="bad_policy") as caught:
        policy(body)
    assert told in caught.value.detail


@given(st.binary(max_size=300) | st.text(string.printable, max_size=300).map(str.encode))
def test_garbage_is_no_policy(body: bytes) -> None:
    with pytest.raises(ConfigError, match="bad_policy"):
        parse_policy(body)


@pytest.mark.parametrize("name", ["x", "0", "a.b_c-d9", 63 * "x"])
def test_a_name_may_be_short_or_long(name: str) -> None:
    assert policy(f'name = "{name}"\nversion = {(1 << 31) - 1}\n{PCRS}').name == name


def test_every_pcr_that_proves_something_may_be_listed() -> None:
    for index in sorted(set(range(24)) - RESETTABLE_PCRS):
        assert policy(f'name = "x"\nversion = 1\n[pcrs]\n{index} = "{GOOD.hex()}"').selection.indexes == (index,)


@pytest.mark.parametrize("bank", [PcrBank.SHA256, PcrBank.SHA384, PcrBank.SHA512])
def test_each_bank_that_proves_something_may_be_named(bank: PcrBank) -> None:
    value = "5c" * bank.digest_bytes
    found = policy(f'name = "x"\nversion = 1\nbank = "{bank.hash_name}"\n[pcrs]\n7 = "{value}"')

    assert (found.selection, found.allowed) == (PcrSelection.of(bank, [7]), {7: frozenset({bytes.fromhex(value)})})


def test_the_largest_policy_is_read() -> None:
    body = BODY.encode().ljust(256 * 1024, b"#")

    assert parse_policy(body).sha256 == hashlib.sha256(body).digest()


def test_an_endless_policy_is_not_read() -> None:
    with pytest.raises(ConfigError, match="bad_policy"):
        parse_policy(BODY.encode() + b"#" * (256 * 1024))


@given(st.integers(0, len(BODY)), st.integers(0, len(BODY)))
def test_a_damaged_policy_is_refused_or_trusts_no_more(begin: int, end: int) -> None:
    damaged = BODY[: min(begin, end)] + BODY[max(begin, end) :]
    try:
        found = policy(damaged)
    except ConfigError:
        return
    # A cut from inside one value to inside another leaves their halves as one.
    values = {value.hex() for listed in found.allowed.values() for value in listed}
    assert all(re.fullmatch("1*2*1*", value) for value in values)
