"""Files of PCR values: every format, and everything that is none."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tccp.cli.evidence.pcr_file import DIGESTS_AT, LIST_BYTES, parse_pcr_file
from tccp.errors import EvidenceError
from tccp.model import PcrBank, PcrSelection

SHA256 = PcrBank.SHA256
ZERO, ONE = bytes(32), b"\x01" * 32
TEXT = f"""  sha1:
  sha256:
    0 : 0x{ZERO.hex().upper()}
    11: 0x{ONE.hex()}
  sm3_256:
    0 : 0x{ZERO.hex()}
"""


def serialized(selections: list[tuple[int, list[int]]], digests: list[bytes]) -> bytes:
    """As tpm2_quote -o writes it on a little-endian machine."""
    content = len(selections).to_bytes(4, "little")
    for algorithm, indexes in selections:
        mask = sum(1 << index for index in indexes)
        content += algorithm.to_bytes(2, "little") + b"\x03" + mask.to_bytes(4, "little") + b"\0"
    content = content.ljust(DIGESTS_AT, b"\0")
    lists = [digests[at : at + 8] for at in range(0, len(digests), 8)]
    content += len(lists).to_bytes(4, "little")
    for some in lists:
        body = b"".join(len(digest).to_bytes(2, "little") + digest.ljust(64, b"\0") for digest in some)
        content += (len(some).to_bytes(4, "little") + body).ljust(LIST_BYTES, b"\0")
    return content


GOOD = {
    "text": TEXT.encode(),
    "text with a heading": b"pcrs:\n" + TEXT.encode(),
    "text of windows": TEXT.replace("\n", "\r\n").encode(),
    "json": json.dumps({"sha256": {"0": ZERO.hex(), "11": "0x" + ONE.hex()}}).encode(),
    "json within a document": json.dumps(
        {"verdict": "x", "pcrs": {"sha256": {"0": ZERO.hex(), "11": ONE.hex()}}}
    ).encode(),
    "serialized": serialized([(SHA256, [0, 11])], [ZERO, ONE]),
    "serialized beside an unknown bank": serialized([(0x12, [3]), (SHA256, [0, 11])], [b"\x07" * 32, ZERO, ONE]),
    "values": ZERO + ONE,
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_each_format_says_the_same(content: bytes) -> None:
    pcrs = parse_pcr_file(content).select(PcrSelection(SHA256, (0, 11)))

    assert dict(pcrs.values) == {0: ZERO, 11: ONE}


BAD = {
    "empty": b"",
    "no json": b'{"sha256": ',
    "json of something else": b'{"verdict": "accepted"}',
    "json of a list": b'{"pcrs": [1, 2]}',
    "deep json": b'{"a":' * 50_000,
    "a huge index": b'{"sha256": {"24": "00"}}',
    "a negative index": b'{"sha256": {"-1": "00"}}',
    "no hexadecimal": b'{"sha256": {"0": "zz"}}',
    "a line that is neither": b"sha256:\n  0 : 0x00\nand so on:  what\n",
    "the same PCR twice": b"sha256:\n 0 : 0x00\n 0 : 0x01\n",
    "values of no bank": b"  0 : 0x00\n",
    "only unknown banks": b"sm3_256:\n  0 : 0x00\n",
    "too many banks": b"\xff" * 4 + serialized([(SHA256, [0])], [ZERO])[4:],
    "the same bank twice": serialized([(SHA256, [0]), (SHA256, [1])], [ZERO, ONE]),
    "fewer values than listed": serialized([(SHA256, [0, 1])], [ZERO]),
    "more values than listed": serialized([(SHA256, [0])], [ZERO, ONE]),
    "a PCR that no TPM has": serialized([(SHA256, [24])], [ZERO]),
    "a value of 65535 bytes": serialized([(SHA256, [0])], [ZERO]).replace(b"\x20\x00" + ZERO, b"\xff\xff" + ZERO),
    "a list of 9 values": serialized([(SHA256, [0])], [ZERO]).replace(b"\x01\0\0\0\x20\0", b"\x09\0\0\0\x20\0"),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_what_is_no_pcr_file_is_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_pcr_file(content)


def test_a_file_without_a_quoted_pcr_names_it() -> None:
    with pytest.raises(EvidenceError, match="no sha256 value of PCR 4, 7"):
        parse_pcr_file(TEXT.encode()).select(PcrSelection(SHA256, (0, 4, 7)))


def test_a_value_of_another_length_than_its_bank_is_refused() -> None:
    with pytest.raises(EvidenceError, match="another length"):
        parse_pcr_file(b"sha256:\n 0 : 0x00\n").select(PcrSelection(SHA256, (0,)))


def test_bare_values_must_be_as_many_as_were_quoted() -> None:
    with pytest.raises(EvidenceError, match="3 values of sha256 have 96"):
        parse_pcr_file(ZERO + ONE).select(PcrSelection(SHA256, (0, 1, 2)))


def test_bare_values_of_several_banks_cannot_be_told_apart() -> None:
    with pytest.raises(EvidenceError, match="several banks"):
        parse_pcr_file(ZERO + ONE).select_all([PcrSelection(SHA256, (0,)), PcrSelection(PcrBank.SHA384, (0,))])


def test_a_bank_that_the_file_lacks_is_named() -> None:
    with pytest.raises(EvidenceError, match="sha384"):
        parse_pcr_file(TEXT.encode()).whole_bank(PcrBank.SHA384)


def test_all_values_of_a_bank_are_given() -> None:
    assert parse_pcr_file(TEXT.encode()).whole_bank(SHA256).selection == PcrSelection(SHA256, (0, 11))
    assert len(parse_pcr_file(bytes(24 * 32)).whole_bank(SHA256).values) == 24


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@settings(deadline=None)
@given(
    st.binary(max_size=2000)
    | st.text(st.sampled_from('sha256:1 0x\n{}"pcr,'), max_size=200).map(str.encode)
    | st.binary(max_size=64).map(lambda noise: noise + GOOD["serialized"][len(noise) :])
    | JSON.map(lambda value: json.dumps({"sha256": value}).encode())
)
def test_no_content_causes_anything_but_a_refusal(content: bytes) -> None:
    try:
        file = parse_pcr_file(content)
        file.select(PcrSelection(SHA256, (0,)))
    except EvidenceError:
        pass
