"""What an authority is asked and answers: read back as written, and nothing else."""

import pytest

from tccp.coordinator.custody.approval import (
    Request,
    approve,
    parse_approval,
    parse_request,
    write_approval,
    write_request,
)
from tccp.coordinator.custody.authority import (
    authority_id,
    make_authority,
    public_pem,
    read_authority_public,
    read_authority_secret,
    secret_pem,
)
from tccp.errors import ConfigError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.tpm.policy import Approved

AUTHORITY = make_authority()
PCRS = PcrValues(PcrSelection(PcrBank.SHA384, (0, 4)), {0: bytes(48), 4: b"\1" * 48})
REQUEST = Request(b"\2" * 32, authority_id(AUTHORITY.public_key()), Approved(PCRS, 7))


def test_files_are_read_back_as_they_were_written() -> None:
    signed = approve(REQUEST, AUTHORITY)

    assert parse_request(write_request(REQUEST)) == REQUEST
    assert parse_approval(write_approval(signed)) == signed
    assert signed.verified(AUTHORITY.public_key(), REQUEST.coordinator_id).approved == REQUEST.approved


def test_a_request_is_no_approval_and_an_approval_no_request() -> None:
    with pytest.raises(ConfigError, match="approval_invalid"):
        parse_approval(write_request(REQUEST))
    with pytest.raises(ConfigError, match="request_invalid"):
        parse_request(write_approval(approve(REQUEST, AUTHORITY)))


GOOD = write_request(REQUEST)
CHANGES = {
    "PCR 16": (b'4 = "', b'16 = "'),
    "PCR 24": (b'4 = "', b'24 = "'),
    "a short value": (b'4 = "01', b'4 = "'),
    "no bank of ours": (b"sha384", b"sha1"),
    "another bank": (b"sha384", b"sha256"),
    "a negative generation": (b"generation = 7", b"generation = -7"),
    "a large generation": (b"generation = 7", b"generation = 9223372036854775808"),
    "an unknown key": (b"generation", b"skip_check = 1\ngeneration"),
    "another kind": (b"keys-request", b"keys-reqeust"),
    "upper case": (b'coordinator = "02', b'coordinator = "0A'),
    "a signature in a request": (b"\n\n[pcrs]", b'\nsignature = "00"\n\n[pcrs]'),
    "no PCR": (b"[pcrs]", b"[pcrs]\n[other]"),
    "not text": (b"kind", b"\xff"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_request_with_something_wrong_is_refused(change: tuple[bytes, bytes]) -> None:
    assert GOOD.count(change[0]) >= 1

    with pytest.raises(ConfigError, match="request_invalid"):
        parse_request(GOOD.replace(*change))


def test_an_approval_holds_for_its_authority_and_its_coordinator_alone() -> None:
    signed = approve(REQUEST, AUTHORITY)

    with pytest.raises(ConfigError, match="approval_of_another_authority"):
        signed.verified(make_authority().public_key(), REQUEST.coordinator_id)
    with pytest.raises(ConfigError, match="approval_for_another_coordinator"):
        signed.verified(AUTHORITY.public_key(), bytes(32))


def test_an_authority_does_not_sign_what_asks_another() -> None:
    with pytest.raises(ConfigError, match="approval_of_another_authority"):
        approve(REQUEST, make_authority())


def test_keys_of_an_authority_are_read_back_and_other_files_refused() -> None:
    secret, public = secret_pem(AUTHORITY), public_pem(AUTHORITY.public_key())

    assert secret_pem(read_authority_secret(secret)) == secret
    assert public_pem(read_authority_public(public)) == public
    for read, wrong in ((read_authority_secret, public), (read_authority_public, secret), (read_authority_public, b"")):
        with pytest.raises(ConfigError, match="key_malformed"):
            read(wrong)
