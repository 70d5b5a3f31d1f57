"""The quotes that every quote benchmark verifies: all different, by one key, of ten PCRs."""

import hashlib
import struct
from base64 import b64encode

from tccp.attestation.quote import AkKey, QuoteClaim
from tccp.model import PcrBank, PcrSelection, PcrValues
from tests.support.forger import Attest, Forger

SELECTION = PcrSelection(PcrBank.SHA256, tuple(range(10)))
FORGERS = {
    "RSA-2048, RSASSA": Forger("rsa2048", "rsassa", "sha256"),
    "RSA-2048, RSAPSS": Forger("rsa2048", "rsapss", "sha256"),
    "RSA-3072, RSASSA": Forger("rsa3072", "rsassa", "sha256"),
    "P-256": Forger("p256", "ecdsa", "sha256"),
    "P-384, SHA-256": Forger("p384", "ecdsa", "sha256"),
}


def claims(forger: Forger, count: int) -> list[QuoteClaim]:
    """Good quotes by one key, each over its own nonce and PCR values."""
    ak = AkKey.from_tpm_public(forger.tpm_public())
    made = []
    for number in range(count):
        nonce = hashlib.sha256(b"nonce %d" % number).digest()
        values = {index: hashlib.sha256(b"%d %d" % (number, index)).digest() for index in SELECTION.indexes}
        pcrs = PcrValues(SELECTION, values)
        digest = hashlib.sha256(pcrs.concatenated).digest()
        selection = (int(SELECTION.bank), SELECTION.mask.to_bytes(3, "little"))
        attest = Attest(extra_data=nonce, selections=(selection,), pcr_digest=digest, clock_ms=number).encode()
        made.append(QuoteClaim(attest, forger.sign(attest), pcrs, ak, nonce))
    return made


def for_bench_quote(made: list[QuoteClaim]) -> bytes:
    """What csrc/bench/bench_quote.c reads."""
    parts = [made[0].ak.spki]
    for claim in made:
        parts += [claim.attest, claim.signature, claim.qualifying_data, claim.pcrs.concatenated]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def for_keylime(claim: QuoteClaim) -> dict[str, str]:
    """What Keylime's ``check_quote`` takes: ``r`` and three times base64, PCR values as tpm2-tools write them."""
    pcrs = struct.pack("<I", 1)
    for slot in range(16):
        mask = claim.pcrs.selection.mask.to_bytes(3, "little")
        pcrs += struct.pack("<HB3s2x", SELECTION.bank, 3, mask) if slot == 0 else bytes(8)
    values = list(claim.pcrs.values.values())
    lists = [values[i : i + 8] for i in range(0, len(values), 8)]
    pcrs += struct.pack("<I", len(lists))
    for digests in lists:
        padded = digests + [b""] * (8 - len(digests))
        pcrs += struct.pack("<I", len(digests)) + b"".join(struct.pack("<H64s", len(one), one) for one in padded)
    quote = b":".join(b64encode(part) for part in (claim.attest, claim.signature, pcrs))
    return {"nonce": b64encode(claim.qualifying_data).decode(), "quote": f"r{quote.decode()}"}
