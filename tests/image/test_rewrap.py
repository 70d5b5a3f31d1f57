"""Changing to whom an image is sealed: the header is written anew, and nothing else."""

import fcntl
from pathlib import Path

import pytest

from tccp.errors import ConfigError, HostError, SealedImageError
from tccp.image.keys import RecipientPublicKey, RecipientSecretKey
from tccp.image.rewrap import rewrap_image
from tests.image.images import HEADER, make_owner, open_bytes, seal_bytes, sealed

DATA = b"the disk of a tenant" * 5000
ME, OTHER, THIRD = (RecipientSecretKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.sealed"
    seal_bytes(path, DATA, ME.public, OTHER.public, tenant=make_owner().tenant)
    return path


def pending(image: Path) -> Path:
    return image.with_name(f".{image.name}.new-header")


def recipients(image: Path) -> list[bytes]:
    with sealed(image) as opened:
        return [entry.key_id for entry in opened.recipients]


def ids(*keys: RecipientSecretKey) -> list[bytes]:
    return [key.public.key_id for key in keys]


def test_who_is_added_opens_it_and_the_data_stay(image: Path) -> None:
    before = image.read_bytes()
    with sealed(image) as opened:
        root = opened.info.root

    info, entries = rewrap_image(image, ME, add=[THIRD.public])

    assert info.root == root
    assert info.recipient_count == 3
    assert [entry.key_id for entry in entries] == recipients(image) == ids(ME, OTHER, THIRD)
    assert image.read_bytes()[HEADER:] == before[HEADER:]
    assert all(open_bytes(image, secret, root=root) == DATA for secret in (ME, OTHER, THIRD))
    assert not pending(image).exists()


def test_who_is_removed_opens_it_no_more(image: Path) -> None:
    rewrap_image(image, ME, remove=[OTHER.public.key_id])

    assert recipients(image) == ids(ME)
    with pytest.raises(SealedImageError) as refused:
        open_bytes(image, OTHER)
    assert refused.value.reason == "not_a_recipient"


def test_who_is_rotated_makes_room_for_another(image: Path) -> None:
    rewrap_image(image, ME, rotate=[(OTHER.public.key_id, THIRD.public)])

    assert recipients(image) == ids(ME, THIRD)
    assert open_bytes(image, THIRD) == DATA


@pytest.mark.parametrize("digits", [16, 64])
@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_a_recipient_is_named_by_the_digits_that_the_id_begins_with(image: Path, digits: int, change: object) -> None:
    assert callable(change)
    rewrap_image(image, ME, remove=[change(OTHER.public.key_id.hex()[:digits])])

    assert recipients(image) == ids(ME)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"remove": [""]}, "no_such_recipient"),
        ({"remove": ["zz"]}, "no_such_recipient"),
        ({"remove": ids(THIRD)}, "no_such_recipient"),
        ({"rotate": [(THIRD.public.key_id, OTHER.public)]}, "no_such_recipient"),
        ({"remove": ids(ME, OTHER)}, "no_recipients"),
        ({"add": [OTHER.public]}, "recipient_twice"),
        ({"add": [THIRD.public, THIRD.public]}, "recipient_twice"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(image: Path, change: dict[str, object], reason: str) -> None:
    before = image.read_bytes()

    with pytest.raises(ConfigError) as refused:
        rewrap_image(image, ME, **change)  # type: ignore[arg-type]

    assert refused.value.reason == reason
    assert image.read_bytes() == before
    assert not pending(image).exists()


def test_fifty_recipients_fit_and_no_more(image: Path) -> None:
    many = [RecipientSecretKey.from_seed(number.to_bytes(32, "big")).public for number in range(1, 50)]

    with pytest.raises(ConfigError) as refused:
        rewrap_image(image, ME, add=many)
    assert refused.value.reason == "too_many_recipients"
    rewrap_image(image, ME, add=many[:48])
    assert len(recipients(image)) == 50


def test_only_a_recipient_changes_them(image: Path) -> None:
    before = image.read_bytes()

    with pytest.raises(SealedImageError) as refused:
        rewrap_image(image, THIRD, add=[THIRD.public])

    assert refused.value.reason == "not_a_recipient"
    assert image.read_bytes() == before


def test_only_one_at_a_time_changes_them(image: Path) -> None:
    with image.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(HostError) as refused:
            rewrap_image(image, ME, add=[THIRD.public])
        assert refused.value.reason == "image_in_use"
    rewrap_image(image, ME, add=[THIRD.public])


def header_for(image: Path, *added: RecipientPublicKey) -> bytes:
    """What a rewrap would make the image's header, which stays as it is."""
    before = image.read_bytes()
    rewrap_image(image, ME, add=added)
    after = image.read_bytes()[:HEADER]
    image.write_bytes(before)
    return after


def test_what_a_crash_cut_off_is_finished_by_the_next(image: Path) -> None:
    header = header_for(image, THIRD.public)
    pending(image).write_bytes(header)
    with image.open("r+b") as torn:
        torn.write(header[:5000])

    rewrap_image(image, THIRD, remove=ids(OTHER))

    assert recipients(image) == ids(ME, THIRD)
    assert not pending(image).exists()


@pytest.mark.parametrize("what", ["of another image", "too short", "too long"])
def test_what_is_no_header_of_the_image_is_not_brought_in(image: Path, what: str, tmp_path: Path) -> None:
    header = header_for(image, THIRD.public)
    seal_bytes(tmp_path / "other", DATA, ME.public)
    others = (tmp_path / "other").read_bytes()[:HEADER]
    pending(image).write_bytes({"of another image": others, "too short": header[:-1], "too long": header + b"\0"}[what])

    rewrap_image(image, ME, remove=ids(OTHER))

    assert recipients(image) == ids(ME)
    assert not pending(image).exists()
    assert open_bytes(image, ME) == DATA


def test_a_rewrap_leaves_no_descriptor(image: Path) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    rewrap_image(image, ME, add=[THIRD.public])
    with pytest.raises(ConfigError):
        rewrap_image(image, ME, remove=["zz"])
    assert sorted(Path("/proc/self/fd").iterdir()) == before
