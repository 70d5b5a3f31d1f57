"""What a tenant may sign, and each thing that makes no sense, refused for what it is."""

import hashlib
from typing import Any

import msgspec
import pytest

from tccp.errors import LaunchError
from tccp.protocol.ticket import (
    KEYS_INFO,
    RELEASE_INFO,
    VALIDITY_S_MAX,
    Ticket,
    TicketImage,
    check_validity,
    keys_info,
    release_info,
    sign_ticket,
    verify_ticket,
)
from tests.protocol.test_ticket import GOOD
from tests.vectors.launch.make import TENANT

HONEST = verify_ticket(GOOD.ticket, GOOD.signature).ticket
DIRECT = msgspec.structs.replace(HONEST.shape, firmware="direct", cmdline="")
UEFI = msgspec.structs.replace(HONEST.shape, firmware="uefi", cmdline="")


def images(*roles: str) -> tuple[TicketImage, ...]:
    return tuple(
        TicketImage(role=role, image_id=bytes([place]) * 16, root=b"r" * 32)  # type: ignore[arg-type]
        for place, role in enumerate(roles)
    )


def verified(**changes: Any) -> Ticket:
    signed = sign_ticket(msgspec.structs.replace(HONEST, **changes), TENANT)
    return verify_ticket(signed.ticket, signed.signature).ticket


def refused(**changes: Any) -> str:
    with pytest.raises(LaunchError) as refusal:
        verified(**changes)
    assert refusal.value.reason == "ticket_malformed"
    return refusal.value.detail


@pytest.mark.parametrize(
    ("shape", "roles"),
    [
        (DIRECT, ("kernel",)),
        (DIRECT, ("kernel", "initrd", "data", "disk", "disk")),
        (UEFI, ("kernel",)),
        (UEFI, ("disk", "disk", "data")),
    ],
)
def test_what_boots_is_accepted(shape: Any, roles: tuple[str, ...]) -> None:
    assert verified(shape=shape, images=images(*roles)).images == images(*roles)


@pytest.mark.parametrize(
    ("shape", "roles", "detail"),
    [
        (DIRECT, ("disk",), "a direct boot without a kernel"),
        (UEFI, ("data",), "nothing to boot from"),
        (UEFI, ("disk", "initrd"), "an initrd without a kernel"),
        (DIRECT, ("kernel", "kernel"), "two kernels, two initrds, or two files of data"),
        (DIRECT, ("kernel", "initrd", "initrd"), "two kernels, two initrds, or two files of data"),
        (DIRECT, ("kernel", "data", "data"), "two kernels, two initrds, or two files of data"),
        (msgspec.structs.replace(UEFI, cmdline="ro"), ("disk",), "a command line without a kernel"),
    ],
)
def test_what_cannot_be_meant_is_refused(shape: Any, roles: tuple[str, ...], detail: str) -> None:
    assert refused(shape=shape, images=images(*roles)) == detail


def test_an_image_is_named_once() -> None:
    kernel, disk = images("kernel", "disk")
    again = msgspec.structs.replace(disk, image_id=kernel.image_id)

    assert refused(shape=DIRECT, images=(kernel, again)) == "an image is named twice"


def test_a_ticket_is_valid_for_a_time_that_is_not_empty_and_not_too_long() -> None:
    begins_s = HONEST.not_before_s
    verified(not_after_s=begins_s + 1)
    verified(not_after_s=begins_s + VALIDITY_S_MAX)

    for ends_s in (begins_s, begins_s - 1, begins_s + VALIDITY_S_MAX + 1):
        assert refused(not_after_s=ends_s) == f"valid from {begins_s} until {ends_s}"


def test_it_holds_from_its_first_second_to_its_last() -> None:
    ticket = verify_ticket(GOOD.ticket, GOOD.signature)
    begins_ms, ends_ms = 1000 * HONEST.not_before_s, 1000 * HONEST.not_after_s
    for now_ms in (begins_ms, ends_ms - 1):
        check_validity(ticket, now_ms)

    with pytest.raises(LaunchError, match="ticket_not_yet_valid: valid from"):
        check_validity(ticket, begins_ms - 1)
    for now_ms in (ends_ms, ends_ms + 1):
        with pytest.raises(LaunchError, match="ticket_expired: valid until"):
            check_validity(ticket, now_ms)


def test_what_keys_are_bound_to_is_laid_out_as_the_document_says() -> None:
    kernel, disk = images("kernel", "disk")
    named = hashlib.sha256(kernel.image_id + kernel.root + disk.image_id + disk.root).digest()

    assert keys_info(b"t" * 32, b"v" * 16, (kernel, disk)) == KEYS_INFO + b"t" * 32 + b"v" * 16 + named
    assert release_info(b"t" * 32, b"v" * 16, 0x0102, b"l" * 16, b"n" * 32) == (
        RELEASE_INFO + b"t" * 32 + b"v" * 16 + bytes.fromhex("0000000000000102") + b"l" * 16 + b"n" * 32
    )
