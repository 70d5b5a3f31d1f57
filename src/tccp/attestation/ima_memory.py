"""How far a host's measurements were accepted, in bytes that may be kept where others can write.

It is only a shortcut. A value of PCR 10 can be reached in one way: whoever quotes one that leads on from what was
accepted has measured what was accepted. What is kept says to which value that was, under a MAC, for one TPM, one boot
and one IMA policy; whatever is anything else counts for nothing, and the list is read from its beginning.
"""

import hashlib
import hmac

import msgspec

from tccp.attestation.boot_verdict import boot_sha256
from tccp.attestation.ima import AcceptedMeasurements, ImaProgress
from tccp.attestation.quote import VerifiedQuote
from tccp.model import PcrBank

MAC_BYTES = 32
_DOMAIN = b"tccp/v1/ima-memory\0"


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    of: bytes  # `_of`
    policy_sha256: bytes
    bank: int
    count: int
    consumed_bytes: int
    pcr: bytes


def keep_progress(quote: VerifiedQuote, accepted: AcceptedMeasurements, key: bytes) -> bytes:
    """What to keep of measurements that were accepted by *quote*.

    Args:
        key: 32 bytes that only we have.
    """
    progress = accepted.progress
    kept = _Kept(
        _of(quote),
        accepted.policy_sha256,
        int(progress.bank),
        progress.count,
        progress.consumed_bytes,
        progress.pcr,
    )
    body = msgspec.msgpack.encode(kept)
    return _mac(body, key) + body


def recall_progress(content: bytes, quote: VerifiedQuote, policy_sha256: bytes, key: bytes) -> ImaProgress | None:
    """The progress in *content*, if we kept it of the boot that *quote* is of, by the same IMA policy; else None."""
    mac, body = content[:MAC_BYTES], content[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(body, key)):
        return None
    kept = msgspec.msgpack.decode(body, type=_Kept)
    if (kept.of, kept.policy_sha256) != (_of(quote), policy_sha256):
        return None
    return ImaProgress(PcrBank(kept.bank), kept.count, kept.consumed_bytes, kept.pcr)


def _of(quote: VerifiedQuote) -> bytes:
    """The TPM, its boot, and what was booted, which the list's first entry is about."""
    boot = quote.reset_count.to_bytes(4, "big") + quote.restart_count.to_bytes(4, "big") + boot_sha256(quote.pcrs)
    return hashlib.sha256(hashlib.sha256(quote.ak.spki).digest() + boot).digest()


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, _DOMAIN + body, "sha256")
