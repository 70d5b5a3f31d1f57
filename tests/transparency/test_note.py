"""Notes: who signed them, and the many ways in which they are none."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tccp.errors import ConfigError, LogError
from tccp.transparency.note import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    NoteKey,
    NoteSignature,
    SignatureType,
    is_key_name,
    open_note,
    parse_note,
    parse_note_key,
    sign_note,
)
from tests.transparency.support import ORIGIN, signer, witness

TEXT = "example.org/log\n1\nsomething\n"
MINE, OTHER, STRANGER = signer(), signer("other.example"), signer("stranger.example")
NOTE = sign_note(TEXT, MINE, OTHER).encode()


def test_a_note_tells_who_signed_it() -> None:
    opened = open_note(NOTE, [MINE.key, STRANGER.key])

    assert opened.note.text == TEXT
    assert opened.signers == {MINE.key: None}


def test_the_example_of_the_specification_can_be_read() -> None:
    example = (
        "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned \u00e8 subito sera.\n\n"
        "\u2014 quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ih"
        "AQwaqP3ZekRwNtIc=\n"
    )
    note = parse_note(example.encode())

    assert note.text.endswith("subito sera.\n")
    assert note.signatures[0].name == "quasimodo.example/salvatore"
    assert len(note.signatures[0].signature) == 64
    assert note.encode() == example.encode()


def test_no_bit_of_a_note_can_be_changed() -> None:
    note = sign_note(TEXT, MINE).encode()
    for position in range(len(note)):
        altered = bytearray(note)
        altered[position] ^= 1
        with pytest.raises(LogError):
            open_note(bytes(altered), [MINE.key])


def test_no_cut_note_is_one() -> None:
    note = sign_note(TEXT, MINE).encode()
    for length in range(len(note)):
        with pytest.raises(LogError):
            open_note(note[:length], [MINE.key])


LINE = str(MINE.sign(TEXT))
ENCODED = LINE.split(" ")[2].rstrip("\n")


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n",
        b"\n\n",
        TEXT.encode(),
        (TEXT + LINE).encode(),  # no empty line
        (TEXT + "\n").encode(),  # no signature
        (TEXT + "\n" + LINE[:-1]).encode(),  # no newline at the end
        (TEXT + "\n" + LINE + "\n").encode(),
        (TEXT + "\n" + LINE + " \n").encode(),
        (TEXT + "\n" + LINE.replace("\n", "\r\n")).encode(),
        (TEXT + "\n" + LINE).replace("\n", "\r\n").encode(),
        (TEXT + "\n" + LINE).replace("\n", "\r").encode(),
        (TEXT + "\n" + LINE).replace("\n", "\N{LINE SEPARATOR}").encode(),
        (TEXT + "\n" + LINE).replace("\n", "\N{NEXT LINE}").encode(),
        (TEXT + "\n" + LINE).encode("utf-16"),
        (TEXT + "\n" + LINE).encode() + b"\xff\n",
        b"\xef\xbb\xbf" + (TEXT + "\n" + LINE).encode("utf-16-le"),
        ("\0" + TEXT + "\n" + LINE).encode(),
        ("a\tb\n" + TEXT + "\n" + LINE).encode(),
        (TEXT + "\n" + LINE.replace("\u2014", "-")).encode(),
        (TEXT + "\n" + LINE.replace("\u2014 ", "\u2014\u00a0")).encode(),
        (TEXT + "\n" + LINE.replace(ORIGIN, "")).encode(),
        (TEXT + "\n" + LINE.replace(ORIGIN, "a+b")).encode(),
        (TEXT + "\n" + LINE.replace(ORIGIN, "a\u3000b")).encode(),
        (TEXT + "\n" + LINE.replace(ORIGIN, "a" * 256)).encode(),
        (TEXT + "\n" + LINE.replace(ENCODED, "")).encode(),
        (TEXT + "\n" + LINE.replace(ENCODED, "AAAAAA==")).encode(),  # an id alone
        (TEXT + "\n" + LINE.replace(ENCODED, ENCODED.rstrip("="))).encode(),
        (TEXT + "\n" + LINE.replace(ENCODED, ENCODED + "=")).encode(),
        (TEXT + "\n" + LINE.replace(ENCODED, ENCODED + " AAAA")).encode(),
        (TEXT + "\n" + LINE.replace(ENCODED, ENCODED[:8] + "*" + ENCODED[8:])).encode(),
        (TEXT + "\n" + LINE.replace(ENCODED, "AAAAAAB=")).encode(),  # bits that no encoder sets
        (TEXT + "\n" + LINE.replace(ENCODED, ENCODED.replace("+", "-").replace("/", "_") + "-_")).encode(),
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(LogError) as refusal:
        open_note(note, [MINE.key])

    assert refusal.value.reason == "note_malformed"


def test_a_byte_order_mark_changes_the_text_and_so_the_signature() -> None:
    with pytest.raises(LogError, match="signature"):
        open_note(b"\xef\xbb\xbf" + NOTE, [MINE.key])


def test_a_line_of_the_text_that_looks_like_a_signature_is_text() -> None:
    """Signatures begin after the last empty line, whatever stands before."""
    text = f"{TEXT}\n{LINE}"
    assert open_note(sign_note(text, OTHER).encode(), [MINE.key, OTHER.key]).signers == {OTHER.key: None}
    with pytest.raises(LogError, match="unsigned"):
        open_note(sign_note(text, OTHER).encode(), [MINE.key])


def test_a_note_may_be_long_and_no_longer() -> None:
    room = NOTE_BYTES_MAX - len(sign_note("\n", MINE).encode())
    assert open_note(sign_note("x" * room + "\n", MINE).encode(), [MINE.key])
    with pytest.raises(LogError, match="note_malformed"):
        open_note(sign_note("x" * room + "x\n", MINE).encode(), [MINE.key])


def test_a_note_has_at_most_so_many_signatures() -> None:
    strangers = [signer(f"stranger{number}.example") for number in range(SIGNATURES_MAX)]

    assert open_note(sign_note(TEXT, MINE, *strangers[1:]).encode(), [MINE.key])
    with pytest.raises(LogError, match="note_malformed"):
        open_note(sign_note(TEXT, MINE, *strangers).encode(), [MINE.key])


def test_a_note_that_only_strangers_signed_is_refused() -> None:
    with pytest.raises(LogError, match="unsigned"):
        open_note(NOTE, [STRANGER.key])
    with pytest.raises(LogError, match="unsigned"):
        open_note(NOTE, [])


def test_signatures_of_strangers_are_passed_over_even_twice_and_wrong() -> None:
    wrong = NoteSignature("stranger.example", STRANGER.key.key_id, bytes(64))
    note = NOTE + f"{wrong}{wrong}".encode()

    assert open_note(note, [MINE.key]).signers == {MINE.key: None}


def test_one_key_signs_once() -> None:
    """Which of two cosignatures would count: the older or the newer?"""
    note = sign_note(TEXT, MINE).encode()
    cosigners = witness()
    for line in (str(MINE.sign(TEXT)), f"{cosigners.sign(TEXT, 1)}{cosigners.sign(TEXT, 2)}"):
        with pytest.raises(LogError) as refusal:
            open_note(note + line.encode(), [MINE.key, cosigners.key])
        assert refusal.value.reason == "signed_twice"


def test_a_known_key_whose_signature_is_wrong_spoils_the_note() -> None:
    """A good signature of one key does not excuse a bad one of another."""
    for forged in (
        NoteSignature(OTHER.key.name, OTHER.key.key_id, bytes(64)),
        NoteSignature(OTHER.key.name, OTHER.key.key_id, b"x"),
        NoteSignature(OTHER.key.name, OTHER.key.key_id, OTHER.sign("another text\n").signature),
    ):
        with pytest.raises(LogError) as refusal:
            open_note(sign_note(TEXT, MINE).encode() + str(forged).encode(), [MINE.key, OTHER.key])
        assert refusal.value.reason == "signature"


def test_a_key_whose_id_collides_signs_nothing() -> None:
    """32 bits are found within minutes; the attacker gives her signature the name and the id of the true key."""
    forged = NoteSignature(MINE.key.name, MINE.key.key_id, STRANGER.sign(TEXT).signature)
    note = TEXT.encode() + b"\n" + str(forged).encode()

    with pytest.raises(LogError, match="signature"):
        open_note(note, [MINE.key])


class CollidingKey(NoteKey):
    """A key for which somebody has searched until the id was that of another one."""

    @property
    def key_id(self) -> bytes:
        return MINE.key.key_id


def test_two_trusted_keys_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match="ambiguous_keys"):
        open_note(NOTE, [MINE.key, MINE.key])
    with pytest.raises(ConfigError, match="ambiguous_keys"):
        open_note(NOTE, [CollidingKey(ORIGIN, STRANGER.key.public_key), MINE.key])


def test_the_same_key_has_another_id_for_another_name_and_another_type() -> None:
    public = MINE.key.public_key
    ids = {
        NoteKey(ORIGIN, public).key_id,
        NoteKey("other", public).key_id,
        NoteKey(ORIGIN, public, SignatureType.COSIGNATURE).key_id,
    }
    assert len(ids) == 3


@pytest.mark.parametrize("name", ["", " ", "a b", "a+b", "a\nb", "a\u2003b", "a\x7f\u00a0", "\ud800", "x" * 256])
def test_nobody_is_called_that(name: str) -> None:
    assert not is_key_name(name)
    with pytest.raises(ConfigError, match="note_key"):
        NoteKey(name, bytes(32))


def test_a_written_key_can_be_read_again() -> None:
    for key in (MINE.key, witness().key):
        assert parse_note_key(str(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        "a+00000000+",
        "a+00000000+AQ==",
        str(MINE.key)[:-1],
        str(MINE.key) + "=",
        str(MINE.key).replace("example", "exomple"),  # the id is that of another name
        str(MINE.key).upper(),
        f"{ORIGIN}+{MINE.key.key_id.hex()}+{base64.b64encode(bytes([2]) + MINE.key.public_key).decode()}",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="note_key"):
        parse_note_key(text)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_note_or_refused(data: bytes) -> None:
    try:
        assert parse_note(data).encode() == data
    except LogError as refusal:
        assert refusal.reason == "note_malformed"  # noqa: PT017


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=200))
def test_any_text_can_be_signed_and_opened(text: str) -> None:
    note = sign_note(f"{text}\n", MINE).encode()

    assert open_note(note, [MINE.key]).note.text == f"{text}\n"
