"""Checkpoints: of which log, signed by whom, seen by whom."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from tccp.errors import ConfigError, LogError
from tccp.merkle import EMPTY_ROOT
from tccp.transparency.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from tccp.transparency.note import Note, NoteSignature, parse_note, sign_note
from tests.transparency.support import ORIGIN, signed_checkpoint, signer, witness

ROOT = bytes(range(32))
ENCODED = base64.b64encode(ROOT).decode()
LOG = signer()


def cosigned(*at_s: tuple[str, int]) -> bytes:
    note = parse_note(signed_checkpoint(5, ROOT))
    lines = [witness(name).sign(note.text, time) for name, time in at_s]
    return Note(note.text, (*note.signatures, *lines)).encode()


def test_a_checkpoint_is_three_lines() -> None:
    checkpoint = Checkpoint(ORIGIN, 20_852_163, ROOT)

    assert checkpoint.text() == f"{ORIGIN}\n20852163\n{ENCODED}\n"
    assert parse_checkpoint(checkpoint.text()) == checkpoint


@given(st.integers(0, (1 << 63) - 1), st.binary(min_size=32, max_size=32), st.lists(st.sampled_from(["a", "b c"])))
def test_a_checkpoint_can_be_read_again(size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root, tuple(extensions))

    assert parse_checkpoint(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{ORIGIN}\n5\n",
        f"{ORIGIN}\n5\n{ENCODED}",
        f"\n5\n{ENCODED}\n",
        f"{ORIGIN}\n\n{ENCODED}\n",
        f"{ORIGIN}\n5\n{ENCODED}\n\n",
        f"{ORIGIN}\n5\n{ENCODED}\nx\n\ny\n",
        f"{ORIGIN}\n05\n{ENCODED}\n",
        f"{ORIGIN}\n+5\n{ENCODED}\n",
        f"{ORIGIN}\n-5\n{ENCODED}\n",
        f"{ORIGIN}\n5 \n{ENCODED}\n",
        f"{ORIGIN}\n5_0\n{ENCODED}\n",
        f"{ORIGIN}\n\N{ARABIC-INDIC DIGIT FIVE}\n{ENCODED}\n",
        f"{ORIGIN}\n0x5\n{ENCODED}\n",
        f"{ORIGIN}\n9223372036854775808\n{ENCODED}\n",
        f"{ORIGIN}\n{'9' * 5000}\n{ENCODED}\n",
        f"{ORIGIN}\n5\n{ENCODED[:-1]}\n",
        f"{ORIGIN}\n5\n{ENCODED}=\n",
        f"{ORIGIN}\n5\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"{ORIGIN}\n5\n{base64.b64encode(ROOT + b'x').decode()}\n",
        f"{ORIGIN}\n5\n{ROOT.hex()}\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(LogError) as refusal:
        parse_checkpoint(text)

    assert refusal.value.reason == "checkpoint_malformed"


def test_a_signed_text_that_is_no_checkpoint_is_refused() -> None:
    note = sign_note("just\nwords\n", LOG).encode()

    with pytest.raises(LogError, match="checkpoint_malformed"):
        verify_checkpoint(note, origin=ORIGIN, log_key=LOG.key)


def test_a_checkpoint_of_another_log_under_the_same_key_is_refused() -> None:
    note = sign_note(Checkpoint("example.org/another", 5, ROOT).text(), LOG).encode()

    with pytest.raises(LogError, match="origin"):
        verify_checkpoint(note, origin=ORIGIN, log_key=LOG.key)


def test_witnesses_do_not_sign_for_the_log() -> None:
    text = Checkpoint(ORIGIN, 5, ROOT).text()
    seen = witness()
    note = Note(text, (seen.sign(text, 9),)).encode()

    with pytest.raises(LogError, match="unsigned"):
        verify_checkpoint(note, origin=ORIGIN, log_key=LOG.key, witnesses=[seen.key])


def test_an_empty_log_has_a_checkpoint() -> None:
    assert verify_checkpoint(signed_checkpoint(0, EMPTY_ROOT), origin=ORIGIN, log_key=LOG.key).checkpoint.size == 0


# ---- cosignatures


def test_a_cosignature_is_what_the_specification_says() -> None:
    seen = witness()
    public = seen.key.public_key
    text = Checkpoint(ORIGIN, 5, ROOT).text()
    line = seen.sign(text, 1_679_315_147)
    message = f"cosignature/v1\ntime 1679315147\n{text}".encode()

    assert line.signature[:8] == (1_679_315_147).to_bytes(8, "big")
    assert VerifyKey(public).verify(message, line.signature[8:]) == message
    assert line.key_id == hashlib.sha256(b"witness.example/w1\n\4" + public).digest()[:4]


def test_a_checkpoint_tells_which_witnesses_saw_it_when() -> None:
    one, two = witness("one.example"), witness("two.example")
    verified = verify_checkpoint(
        cosigned(("one.example", 7), ("two.example", 8), ("stranger.example", 9)),
        origin=ORIGIN,
        log_key=LOG.key,
        witnesses=[one.key, two.key],
        witnesses_required=2,
    )

    assert verified.witnessed_s == {one.key: 7, two.key: 8}


def test_too_few_witnesses_are_refused() -> None:
    keys = [witness("one.example").key, witness("two.example").key]
    for note in (
        signed_checkpoint(5, ROOT),
        cosigned(("one.example", 7)),
        cosigned(("x.example", 1), ("y.example", 2)),
    ):
        with pytest.raises(LogError, match="witnesses"):
            verify_checkpoint(note, origin=ORIGIN, log_key=LOG.key, witnesses=keys, witnesses_required=2)


def test_no_bit_of_a_cosignature_can_be_changed() -> None:
    seen = witness()
    text = Checkpoint(ORIGIN, 5, ROOT).text()
    line = seen.sign(text, 77)
    for position in range(len(line.signature)):
        altered = bytearray(line.signature)
        altered[position] ^= 1
        note = Note(text, (LOG.sign(text), NoteSignature(line.name, line.key_id, bytes(altered)))).encode()
        with pytest.raises(LogError, match="signature"):
            verify_checkpoint(note, origin=ORIGIN, log_key=LOG.key, witnesses=[seen.key])


def test_a_time_that_cannot_be_is_refused() -> None:
    seen = witness()
    text = Checkpoint(ORIGIN, 5, ROOT).text()
    note = Note(text, (LOG.sign(text), seen.sign(text, 1 << 63))).encode()

    with pytest.raises(LogError, match="signature"):
        verify_checkpoint(note, origin=ORIGIN, log_key=LOG.key, witnesses=[seen.key])


def test_the_signature_of_a_note_is_no_cosignature_and_the_other_way_round() -> None:
    """One key under one name, for both types: neither signature passes for the other."""
    plain, seen = signer("both.example"), witness("both.example")
    text = Checkpoint(ORIGIN, 5, ROOT).text()
    as_cosignature = NoteSignature(seen.key.name, seen.key.key_id, bytes(8) + plain.sign(text).signature)
    as_signature = NoteSignature(plain.key.name, plain.key.key_id, seen.sign(text, 1).signature[8:])

    for line, keys in ((as_cosignature, [seen.key]), (as_signature, [])):
        note = Note(text, (LOG.sign(text) if keys else line, line)[: 1 + len(keys)]).encode()
        with pytest.raises(LogError, match="signature"):
            verify_checkpoint(note, origin=ORIGIN, log_key=LOG.key if keys else plain.key, witnesses=keys)


def test_one_key_is_not_two_witnesses() -> None:
    one = witness("one.example").key
    twin = type(one)("two.example", one.public_key, one.type)

    with pytest.raises(ConfigError, match="ambiguous_keys"):
        verify_checkpoint(cosigned(), origin=ORIGIN, log_key=LOG.key, witnesses=[one, twin], witnesses_required=2)


def test_a_key_that_signs_notes_is_no_witness() -> None:
    with pytest.raises(ConfigError, match="note_key"):
        verify_checkpoint(cosigned(), origin=ORIGIN, log_key=LOG.key, witnesses=[signer("w.example").key])
