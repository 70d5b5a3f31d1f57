"""What a witness is sent: a checkpoint, and the proof that it continues an older one. C2SP tlog-witness.

old 20852014
<hash in base64>
...
                             an empty line
<the signed note>
"""

import re
from dataclasses import dataclass

from tccp.errors import LogError
from tccp.merkle import HASH_BYTES
from tccp.transparency.note import NOTE_BYTES_MAX, from_base64, to_base64
from tccp.transparency.tile import SIZE_MAX

PROOF_LINES_MAX = 63
REQUEST_BYTES_MAX = NOTE_BYTES_MAX + PROOF_LINES_MAX * 45 + 32
SIZE_TYPE = "text/x.tlog.size"  # of an answer that only says how large the witness knows the log
_OLD = re.compile(rb"old (0|[1-9][0-9]{0,18})")
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")


@dataclass(frozen=True)
class AddCheckpoint:
    """A request as it came in; nothing is verified.

    Attributes:
        old_size: Of the checkpoint that the witness is believed to have cosigned last; 0: none.
        proof: From there to the new one, as RFC 6962 orders it.
        note: The signed checkpoint.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """The body of the request."""
        lines = [f"old {self.old_size}", *map(to_base64, self.proof), "", ""]
        return "\n".join(lines).encode("ascii") + self.note


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Take a request apart.

    Raises:
        LogError: ``request_malformed``.
    """
    if len(body) > REQUEST_BYTES_MAX:
        raise LogError("request_malformed", f"{len(body)} bytes")
    head, separator, note = body.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    match = _OLD.fullmatch(first)
    if not separator or match is None or int(match.group(1)) > SIZE_MAX or len(lines) > PROOF_LINES_MAX:
        raise LogError("request_malformed", "no old size, too long a proof, or no checkpoint")
    return AddCheckpoint(int(match.group(1)), tuple(map(_hash, lines)), note)


def _hash(line: bytes) -> bytes:
    try:
        digest = from_base64(line.decode("ascii"))
    except ValueError:
        digest = b""
    if len(digest) != HASH_BYTES:
        raise LogError("request_malformed", "a line of the proof is not a hash")
    return digest


def parse_size(body: bytes) -> int:
    """The size in a witness's answer that says which one it knows.

    Raises:
        LogError: ``answer_malformed``.
    """
    match = _SIZE.fullmatch(body[:64])
    if match is None or int(match.group(1)) > SIZE_MAX:
        raise LogError("answer_malformed", "no size of a log")
    return int(match.group(1))
