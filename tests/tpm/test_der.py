"""Where a certificate ends, and which key is in it."""

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tccp.tpm import open_tpm
from tccp.tpm.der import DerError, certificate_key_bits, key_bits, split_certificates, trim_certificate
from tests.support.soft_tpm import SoftTpm

SMALL = b"\x30\x03\x02\x01\x05"


async def test_the_key_is_the_one_that_another_parser_finds(soft_tpm: SoftTpm) -> None:
    async with open_tpm(soft_tpm.tcti) as tpm:
        certificates = [ek.certificate for ek in [await tpm.read_ek(kind="ecc"), await tpm.read_ek(kind="rsa")]]

    for certificate in (*certificates, *soft_tpm.authority.certificates):
        assert certificate
        key = x509.load_der_x509_certificate(certificate).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert certificate_key_bits(certificate) == key_bits(spki)
        assert spki.endswith(key_bits(spki))


async def test_a_certificate_cut_anywhere_is_an_error(soft_tpm: SoftTpm) -> None:
    (root, _) = soft_tpm.authority.certificates
    for end in range(len(root)):
        with pytest.raises(DerError):
            trim_certificate(root[:end])
        with pytest.raises(DerError):
            certificate_key_bits(root[:end])


@pytest.mark.parametrize("padding", [b"", b"\0", b"\xff" * 9, b"\0\xff", b"\x30", b"garbage"])
def test_what_follows_a_certificate_is_not_part_of_it(padding: bytes) -> None:
    assert trim_certificate(SMALL + padding) == SMALL


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x31\x00",
        b"\x30\x80\x00\x00",
        b"\x30\x84\x00\x00\x00\x00",
        b"\x30\xff",
        b"\x30\x82\x01",
        b"\x30\x83\xff\xff\xff",
    ],
    ids=lambda data: data.hex() or "empty",
)
def test_what_is_no_element_is_an_error(data: bytes) -> None:
    with pytest.raises(DerError):
        trim_certificate(data)


def test_the_chain_ends_where_it_stops_making_sense() -> None:
    assert split_certificates(SMALL + b"\0\0" + SMALL + b"\xff" + b"\x30\x05\x02", 9) == (SMALL, SMALL)
    assert split_certificates(b"\0" + SMALL + b"junk" + SMALL, 9) == (SMALL,)
    assert split_certificates(b"\0" * 100, 9) == ()


def test_the_chain_is_no_longer_than_allowed() -> None:
    assert split_certificates(SMALL * 100, 16) == (SMALL,) * 16


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda body: b"\x30\x82" + len(body).to_bytes(2) + body))
def test_any_bytes_are_a_certificate_or_an_error(data: bytes) -> None:
    for read in (trim_certificate, certificate_key_bits, key_bits):
        try:
            found = read(data)
        except DerError:
            continue
        assert found in data
    assert all(part in data for part in split_certificates(data, 16))


async def test_a_changed_certificate_gives_a_key_or_an_error(soft_tpm: SoftTpm) -> None:
    (root, _) = soft_tpm.authority.certificates
    for position in range(len(root)):
        altered = bytearray(root)
        altered[position] ^= 0xFF
        with contextlib.suppress(DerError):
            certificate_key_bits(bytes(altered))
