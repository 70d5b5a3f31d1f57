"""Just enough DER to find where a certificate ends and which key is in it (X.690; RFC 5280, 4.1).

NV indices are larger than the certificates in them, and makers' certificates are malformed in ways that strict parsers
refuse. Whether a certificate is worth anything is decided by the coordinator (`tccp.attestation`); here the only
question is whether it belongs to this TPM.
"""

from dataclasses import dataclass

_SEQUENCE = 0x30
_BIT_STRING = 0x03
_VERSION = 0xA0
# After the version: serialNumber, signature, issuer, validity, subject; then subjectPublicKeyInfo.
_FIELDS_BEFORE_KEY = 5
_LENGTH_BYTES_MAX = 3
_PADDING = b"\x00\xff"


class DerError(ValueError):
    """The bytes are no certificate."""


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    start: int
    end: int


def _element(data: bytes, position: int, limit: int) -> _Element:
    """The element at *position*, which must end by *limit*."""
    if position + 2 > limit:
        raise DerError("an element ends too early")
    tag, length, start = data[position], data[position + 1], position + 2
    if length >= 0x80:
        length_bytes = length - 0x80
        if not 1 <= length_bytes <= _LENGTH_BYTES_MAX or start + length_bytes > limit:
            raise DerError("a length that no certificate has")
        length = int.from_bytes(data[start : start + length_bytes], "big")
        start += length_bytes
    if start + length > limit:
        raise DerError("an element is longer than what holds it")
    return _Element(tag, start, start + length)


def _expect(data: bytes, position: int, limit: int, tag: int) -> _Element:
    element = _element(data, position, limit)
    if element.tag != tag:
        raise DerError(f"tag 0x{element.tag:02x} where 0x{tag:02x} belongs")
    return element


def trim_certificate(data: bytes) -> bytes:
    """The one certificate at the start of *data*, without the padding behind it.

    Raises:
        DerError: There is none.
    """
    return data[: _expect(data, 0, len(data), _SEQUENCE).end]


def split_certificates(data: bytes, count_max: int) -> tuple[bytes, ...]:
    """The certificates that stand one behind the other in *data*, with padding between them or not.

    What follows the last good one is left out: a chain is only a help in finding issuers.
    """
    found: list[bytes] = []
    rest = data.lstrip(_PADDING)
    while rest and len(found) < count_max:
        try:
            found.append(trim_certificate(rest))
        except DerError:
            break
        rest = rest[len(found[-1]) :].lstrip(_PADDING)
    return tuple(found)


def certificate_key_bits(certificate: bytes) -> bytes:
    """The subjectPublicKey of *certificate*: an RSAPublicKey in DER, or an elliptic curve point.

    The algorithm identifier beside it is not looked at: some makers write RSAES-OAEP where others write rsaEncryption.

    Raises:
        DerError: *certificate* has not the shape of one.
    """
    whole = _expect(certificate, 0, len(certificate), _SEQUENCE)
    body = _expect(certificate, whole.start, whole.end, _SEQUENCE)
    field = _element(certificate, body.start, body.end)
    position = field.end if field.tag == _VERSION else body.start
    for _ in range(_FIELDS_BEFORE_KEY):
        position = _element(certificate, position, body.end).end
    key_info = _expect(certificate, position, body.end, _SEQUENCE)
    return key_bits(certificate[position : key_info.end])


def key_bits(spki: bytes) -> bytes:
    """The subjectPublicKey of a SubjectPublicKeyInfo.

    Raises:
        DerError: *spki* is none.
    """
    key_info = _expect(spki, 0, len(spki), _SEQUENCE)
    algorithm = _expect(spki, key_info.start, key_info.end, _SEQUENCE)
    bits = _expect(spki, algorithm.end, key_info.end, _BIT_STRING)
    if bits.start == bits.end or spki[bits.start] != 0:
        raise DerError("a public key that is no whole number of bytes")
    return spki[bits.start + 1 : bits.end]
