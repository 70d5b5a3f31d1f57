"""Fuzz targets for what a TPM says: our own, or a VM's, which a guest may have broken into; and its maker's words."""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable

import trio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.signing import SigningKey
from trio.testing import MockClock

from tccp.core.tpm_public import tpm_public_parse
from tccp.errors import HostError, TpmError
from tccp.model import PcrBank, PcrSelection, PcrValues
from tccp.node.vm.certificates import VtpmIssuer, VtpmKeys
from tccp.node.vm.manufacture import certified
from tccp.tpm import Ak, Ek, SealedBlob, Tpm
from tccp.tpm.channel import Channel
from tccp.tpm.constants import TPM_GENERATED, Capability, NvAttribute, Tag
from tccp.tpm.der import DerError, certificate_key_bits, key_bits, split_certificates, trim_certificate
from tccp.tpm.marshal import tpm2b, u8, u16, u32
from tccp.tpm.policy import COUNTER_BYTES, COUNTER_INDEX, Approval, Approved
from tccp.tpm.structures import put_selection
from tests.support.certificates import Authority
from tests.support.public_areas import ak_area, ek_area, name_of
from tests.tpm.fake_tpm import SESSIONS, response

KEY = ec.derive_private_key(4711, ec.SECP256R1())
EK_PUBLIC, AK_PUBLIC = ek_area(KEY), ak_area(KEY)
AK, EK = Ak(0x80000001, AK_PUBLIC, name_of(AK_PUBLIC)), Ek(0x80000000, EK_PUBLIC, None, ())
SELECTION = PcrSelection(PcrBank.SHA256, (0, 4))
PCRS = PcrValues(SELECTION, {0: bytes(32), 4: b"\x04" * 32})
BLOB = SealedBlob(name_of(EK_PUBLIC), b"public", b"private")
APPROVAL = Approval(Approved(PCRS, 1), KEY.public_key(), bytes(32), KEY.sign(b"", ec.ECDSA(hashes.SHA256())))
ISSUER = VtpmIssuer("alpha", SigningKey(bytes(32)), b"statement")
EK_CERTIFICATE_NV = 0x01C0000A
CHAIN_MAX = 16


class Played:
    """A TPM whose answers are those in the input, one for each command; then it is gone."""

    def __init__(self, answers: bytes) -> None:
        self._left, self._answer = answers, b""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        size = int.from_bytes(self._left[2:6], "big")
        self._answer, self._left = self._left[:size], self._left[size:]

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        answer, self._answer = self._answer, b""
        return answer

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _read_ek(tpm: Tpm) -> None:
    ek = await tpm.read_ek()
    if ek.certificate is not None:
        assert certificate_key_bits(ek.certificate) == key_bits(tpm_public_parse(ek.public).spki)


async def _certify(tpm: Tpm) -> None:
    ek, ak = await tpm.read_ek(kind="ecc"), await tpm.create_ak("ecc")
    keys = VtpmKeys(tpm_public_parse(ek.public).spki, tpm_public_parse(ak.public).spki)
    with contextlib.suppress(HostError):
        assert certified(keys, ISSUER.claim(bytes(16), ()), ISSUER).keys == keys


async def _quote(tpm: Tpm) -> None:
    quote, pcrs = await tpm.quote_with_pcrs(AK, bytes(32), SELECTION)
    assert pcrs.selection == SELECTION
    assert hashlib.sha256(pcrs.concatenated).digest() in quote.attest


async def _seal(tpm: Tpm) -> None:
    await tpm.seal(bytes(32), bytes(32))
    raise AssertionError("believed, though the salt is not known there")


async def _unseal(tpm: Tpm) -> None:
    await tpm.unseal(BLOB, APPROVAL)
    raise AssertionError("believed, though the salt is not known there")


SCENARIOS: tuple[Callable[[Tpm], Awaitable[object]], ...] = (
    _read_ek,
    _quote,
    _seal,
    _unseal,
    Tpm.create_ak,
    Tpm.read_generation,
    Tpm.pcr_banks,
    Tpm.properties,
    Tpm.read_clock,
    lambda tpm: tpm.activate_credential(AK, EK, bytes(34), bytes(68)),
    _certify,
)


def feed_answers(data: bytes) -> bool:
    """The first byte says what is asked for. The client gets something, or fails in the way that is foreseen."""
    if not data:
        return False

    async def ask() -> bool:
        tpm = Tpm(Channel(Played(data[1:]), timeout_s=90))
        try:
            await SCENARIOS[data[0] % len(SCENARIOS)](tpm)
        except TpmError as problem:
            return problem.reason == "tpm_answer_forged"  # the last thing that can be wrong
        finally:
            with contextlib.suppress(TpmError):
                await tpm.aclose()
        return True

    return trio.run(ask, clock=MockClock(autojump_threshold=0))


def feed_certificate(data: bytes) -> bool:
    """Where a certificate ends and which key is in it is what a strict parser says, where that has an opinion."""
    for found in split_certificates(data, CHAIN_MAX):
        assert found in data
    try:
        certificate = trim_certificate(data)
        bits = certificate_key_bits(certificate)
    except DerError:
        return False
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return True
    if not isinstance(key, ec.EllipticCurvePublicKey) or bits[0] == 4:  # else the point was compressed
        assert key_bits(spki) == bits
    return True


# ---- what a TPM says that is one


def _said(parameters: bytes = b"", *, handle: int | None = None) -> bytes:
    return response((b"" if handle is None else u32(handle)) + parameters)


def _said_in_session(parameters: bytes = b"", *, handle: int | None = None, nonce: bytes = b"") -> bytes:
    acknowledgement = tpm2b(nonce) + u8(1) + tpm2b(nonce)
    body = (b"" if handle is None else u32(handle)) + u32(len(parameters)) + parameters + acknowledgement
    return response(body, tag=SESSIONS)


def made(public: bytes, handle: int) -> bytes:
    """A key was made."""
    parameters = tpm2b(public) + 2 * tpm2b(b"") + bytes(6) + tpm2b(b"") + tpm2b(name_of(public))
    return _said_in_session(parameters, handle=handle)


def handles(*found: int) -> bytes:
    """These there are."""
    return _said(u8(0) + u32(Capability.HANDLES) + u32(len(found)) + b"".join(map(u32, found)))


def _index(index: int, content: bytes) -> bytes:
    attributes = NvAttribute.WRITTEN | NvAttribute.AUTH_READ
    public = u32(index) + u16(PcrBank.SHA256) + u32(attributes) + tpm2b(b"") + u16(len(content))
    blocks = [content[at : at + 512] for at in range(0, len(content), 512)]
    return _said(tpm2b(public) + tpm2b(b"")) + b"".join(_said_in_session(tpm2b(block)) for block in blocks)


def _ek_certificate() -> bytes:
    return Authority(key=ec.derive_private_key(815, ec.SECP256R1())).issue(KEY)


def answers() -> list[bytes]:
    """Of a TPM that does all that it is asked for, but for what only the holder of a salt can say."""
    values = b"".join(tpm2b(value) for value in PCRS.values.values())
    attest = u32(TPM_GENERATED) + u16(Tag.ATTEST_QUOTE) + tpm2b(b"") + tpm2b(bytes(32)) + bytes(17 + 8)
    attest += put_selection(SELECTION) + tpm2b(hashlib.sha256(PCRS.concatenated).digest())
    session = _said(tpm2b(bytes(32)), handle=0x03000000)
    storage = made(EK_PUBLIC, 0x80000000)
    forged = _said_in_session(tpm2b(bytes(32)), nonce=bytes(32))
    verified = _said(tpm2b(b""), handle=0x80000001) + _said(u16(Tag.VERIFIED) + u32(0) + tpm2b(b"")) + _said()
    fulfilled = _said_in_session() + _said() + _said()
    properties = u32(0x105) + u32(0x49424D00)  # IBM
    scripts = (
        handles(EK_CERTIFICATE_NV) + _index(EK_CERTIFICATE_NV, _ek_certificate()) + handles() + storage,
        _said(u32(1) + put_selection(SELECTION) + u32(2) + values) + _said_in_session(tpm2b(attest) + bytes(8)),
        storage + session + forged,
        verified + storage + _said_in_session(tpm2b(b""), handle=0x80000001) + session + fulfilled + forged,
        made(AK_PUBLIC, 0x80000001),
        handles(COUNTER_INDEX) + _index(COUNTER_INDEX, bytes(COUNTER_BYTES)),
        _said(u8(0) + u32(Capability.PCRS) + put_selection(SELECTION)),
        _said(u8(0) + u32(Capability.TPM_PROPERTIES) + u32(1) + properties),
        _said(bytes(25)),
        _said(tpm2b(b""), handle=0x03000000) + _said_in_session() + response(
            u32(34) + tpm2b(bytes(32)) + 2 * (tpm2b(b"") + u8(1) + tpm2b(b"")), tag=SESSIONS
        ),
        handles() + made(EK_PUBLIC, 0x80000000) + made(AK_PUBLIC, 0x80000001),
    )  # fmt: skip
    return [u8(number) + script for number, script in enumerate(scripts)]


def certificates() -> list[bytes]:
    """As they lie in NV: padded, and one behind the other."""
    certificate = _ek_certificate()
    return [certificate + b"\xff" * 9, 2 * certificate]
