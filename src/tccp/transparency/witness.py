"""What a witness does, and anybody who looks at a log twice: let it only go forward. C2SP tlog-cosignature.

A witness that cosigned one history cosigns no other; so who asks for the cosignatures of enough witnesses
sees what all others see.
"""

from collections.abc import Sequence

from tccp.errors import LogError
from tccp.transparency.checkpoint import Checkpoint, VerifiedCheckpoint
from tccp.transparency.note import TIME_MAX, Note, NoteSigner, SignatureType
from tccp.transparency.proof import verify_consistency


def verify_advance(latest: Checkpoint | None, new: VerifiedCheckpoint, proof: Sequence[bytes]) -> Checkpoint:
    """Check that *new* continues the latest checkpoint that was seen of this log, if there was one.

    Args:
        latest: From the caller's durable memory; an empty log and one never seen are the same.
        proof: What `prove_consistency` made from ``latest.size`` to ``new.checkpoint.size``; empty when nothing was
            seen yet.

    Returns:
        The checkpoint to remember instead of *latest*, before anything is done because of it.

    Raises:
        LogError: ``origin``, and the reasons of `verify_consistency`: ``rollback``, ``fork``, ``inconsistent``,
            ``proof_malformed``.
    """
    head = new.checkpoint
    if latest is None:
        if proof:
            raise LogError("proof_malformed", "from a checkpoint that was never seen")
        return head
    if latest.origin != head.origin:
        raise LogError("origin", f"{head.origin!r} after {latest.origin!r}")
    verify_consistency(latest.size, latest.root, head.size, head.root, proof)
    return head


def cosign(
    signer: NoteSigner, latest: Checkpoint | None, new: VerifiedCheckpoint, proof: Sequence[bytes], *, at_s: int
) -> tuple[Checkpoint, Note]:
    """Cosign *new* when it continues *latest*.

    Args:
        signer: The witness, with a key for cosignatures.
        at_s: Now, in seconds since 1970.

    Returns:
        The checkpoint to remember, which must be durable before the note is handed out; and the note with the witness's
        signature below the others, instead of an older one of this witness.

    Raises:
        LogError: as `verify_advance`; nothing is signed.
    """
    if signer.key.type is not SignatureType.COSIGNATURE or not 0 < at_s <= TIME_MAX:
        raise ValueError("a witness has a key for cosignatures, and a clock")
    head = verify_advance(latest, new, proof)
    line = signer.sign(new.note.text, at_s)
    mine = (line.name, line.key_id)
    others = [signature for signature in new.note.signatures if (signature.name, signature.key_id) != mine]
    return head, Note(new.note.text, (*others, line))
