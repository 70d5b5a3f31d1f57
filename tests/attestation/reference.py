"""The rules on quotes once more, slowly and one by one, by another library: what a control is measured against.

An attack is worth its test when it breaks one rule and no other: a verifier without that rule would let it pass.
"""

import hashlib
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tccp.attestation.quote import QuoteClaim
from tests.support.forger import ALGORITHMS, HASHES

NAMES = {number: name for name, number in ALGORITHMS.items()}


class Bytes:
    def __init__(self, value: bytes) -> None:
        self.rest = value

    def take(self, count: int) -> bytes:
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken.ljust(count, b"\0")

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def tpm2b(self) -> bytes:
        return self.take(self.number(2))


class Parsed:
    """A quote taken apart, whatever it holds."""

    def __init__(self, claim: QuoteClaim) -> None:
        self.claim = claim
        signature = Bytes(claim.signature)
        self.scheme, self.hash = NAMES.get(signature.number(2), ""), NAMES.get(signature.number(2), "")
        self.parts = [signature.tpm2b() for _ in range(2 if self.scheme == "ecdsa" else 1)]
        self.signature_rest = signature.rest
        attest = Bytes(claim.attest)
        self.magic, self.type = attest.number(4), attest.number(2)
        self.qualified_signer, self.extra_data = attest.tpm2b(), attest.tpm2b()
        _, _, _, self.safe, _ = struct.unpack(">QIIBQ", attest.take(25))
        self.selections = [(attest.number(2), attest.take(attest.number(1))) for _ in range(min(attest.number(4), 99))]
        self.digest = attest.tpm2b()
        self.attest_rest = attest.rest

    @property
    def mask(self) -> int:
        return int.from_bytes(self.selections[0][1], "little")

    def signature_holds(self) -> bool:
        key = load_der_public_key(self.claim.ak.spki)
        algorithm: hashes.HashAlgorithm = HASHES[self.hash]
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                r, s = (int.from_bytes(part, "big") for part in self.parts)
                key.verify(encode_dss_signature(r, s), self.claim.attest, ec.ECDSA(algorithm))
            elif isinstance(key, rsa.RSAPublicKey) and self.scheme == "rsassa":
                key.verify(self.parts[0], self.claim.attest, padding.PKCS1v15(), algorithm)
            elif isinstance(key, rsa.RSAPublicKey):
                pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
                key.verify(self.parts[0], self.claim.attest, pss, algorithm)
        except InvalidSignature:
            return False
        return True


RULES: dict[str, Callable[[Parsed], bool]] = {
    "signature": Parsed.signature_holds,
    "magic": lambda quote: quote.magic == 0xFF544347,
    "type": lambda quote: quote.type == 0x8018,
    "nonce": lambda quote: quote.extra_data == quote.claim.qualifying_data,
    "one selection": lambda quote: len(quote.selections) == 1,
    "bank": lambda quote: quote.selections[:1] == [] or quote.selections[0][0] == quote.claim.pcrs.selection.bank,
    "indices": lambda quote: quote.selections[:1] == [] or quote.mask == quote.claim.pcrs.selection.mask,
    "digest": lambda quote: quote.digest == hashlib.new(quote.hash, quote.claim.pcrs.concatenated).digest(),
    "safe is yes or no": lambda quote: quote.safe in (0, 1),
    "nothing after attest": lambda quote: quote.attest_rest == b"",
    "nothing after the signature": lambda quote: quote.signature_rest == b"",
    "select size": lambda quote: all(3 <= len(select) <= 4 for _, select in quote.selections),
    "hash": lambda quote: quote.hash in ("sha256", "sha384", "sha512"),
}


def broken_rules(claim: QuoteClaim) -> set[str]:
    quote = Parsed(claim)
    return {name for name, holds in RULES.items() if not holds(quote)}
