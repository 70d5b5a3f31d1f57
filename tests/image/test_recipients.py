"""The entries that wrap an image's key."""

from dataclasses import replace
from pathlib import Path

import pytest

from tccp.core.image import ImageKey
from tccp.errors import ConfigError, SealedImageError
from tccp.image.keys import RecipientSecretKey
from tccp.image.recipients import (
    Recipient,
    check_recipients,
    recipients_of,
    unwrap_image_key,
    wrap_image_key,
)
from tests.image.images import alter, seal_bytes, sealed

ME, OTHER = (RecipientSecretKey.from_seed(bytes([number]) * 32) for number in (1, 2))
IMAGE_ID = bytes(range(16))


def entry_for(secret: RecipientSecretKey, image_id: bytes = IMAGE_ID) -> Recipient:
    return wrap_image_key(ImageKey.take(bytearray(b"\x07" * 32)), image_id, secret.public)


def test_an_entry_opens_for_its_recipient_among_others() -> None:
    entries = [entry_for(OTHER), entry_for(ME)]

    assert bytes(unwrap_image_key(entries, IMAGE_ID, ME).buffer) == b"\x07" * 32


def test_an_entry_opens_for_nobody_else_and_in_no_other_image() -> None:
    with pytest.raises(SealedImageError) as stranger:
        unwrap_image_key([entry_for(OTHER)], IMAGE_ID, ME)
    with pytest.raises(SealedImageError) as nobody:
        unwrap_image_key([], IMAGE_ID, ME)
    with pytest.raises(SealedImageError) as elsewhere:
        unwrap_image_key([entry_for(ME, bytes(16))], IMAGE_ID, ME)
    disguised = replace(entry_for(OTHER), key_id=ME.public.key_id)
    with pytest.raises(SealedImageError) as altered:
        unwrap_image_key([disguised], IMAGE_ID, ME)

    assert stranger.value.reason == nobody.value.reason == "not_a_recipient"
    assert elsewhere.value.reason == altered.value.reason == "recipient_altered"


def test_an_entry_is_its_kind_the_id_and_the_box() -> None:
    entry = entry_for(ME)

    assert entry.encode() == b"\x01" + bytes(15) + ME.public.key_id + entry.wrapped
    assert len(entry.encode()) == 1216
    assert entry.wrapped.hex() not in repr(entry)


def test_nobody_too_many_and_one_twice_are_refused() -> None:
    ids = [bytes([number]) * 32 for number in range(51)]
    check_recipients(ids[:1])
    check_recipients(ids[:50])

    for refused, reason in (([], "no_recipients"), (ids, "too_many_recipients"), (ids[:1] * 2, "recipient_twice")):
        with pytest.raises(ConfigError) as error:
            check_recipients(refused)
        assert error.value.reason == reason


@pytest.mark.parametrize("place", [0, 1, 4, 15])
def test_an_entry_of_another_kind_is_refused(tmp_path: Path, place: int) -> None:
    path = tmp_path / "image"
    seal_bytes(path, b"data", ME.public, OTHER.public)
    with sealed(path) as image:
        assert [entry.key_id for entry in recipients_of(image.header, image.info)] == [
            ME.public.key_id,
            OTHER.public.key_id,
        ]
        assert b"".join(entry.encode() for entry in image.recipients) == image.header[4096 : 4096 + 2 * 1216]

    def change(content: bytearray) -> None:
        content[4096 + 1216 + place] ^= 2

    alter(path, change)
    with pytest.raises(SealedImageError) as refused, sealed(path):
        pass
    assert refused.value.reason == "recipients_altered"
    assert "recipient 1 " in refused.value.detail
