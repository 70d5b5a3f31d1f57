"""What a VM's state says of itself before QEMU's stream begins, in a file and on a wire.

4 bytes     length of what follows, big-endian
preamble    msgpack: ["tccp/v1/vm-state", vm_id, ek_spki, ak_spki]
"""

from dataclasses import dataclass

import msgspec

from tccp.errors import HostError
from tccp.node.vm.certificates import VtpmKeys

STATE_DOMAIN = "tccp/v1/vm-state"
PREAMBLE_BYTES_MAX = 4 << 10
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Preamble:
    """Whose state follows, and which keys its vTPM has; the node that takes it in certifies them itself."""

    vm_id: bytes
    vtpm: VtpmKeys


def encode_preamble(preamble: Preamble) -> bytes:
    """With its length."""
    body = msgspec.msgpack.encode((STATE_DOMAIN, preamble.vm_id, preamble.vtpm.ek_spki, preamble.vtpm.ak_spki))
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_preamble(body: bytes) -> Preamble:
    """Without its length.

    Raises:
        HostError: ``state_malformed``.
    """
    try:
        domain, vm_id, ek, ak = msgspec.msgpack.decode(body, type=tuple[str, bytes, bytes, bytes])
    except msgspec.MsgspecError as problem:
        raise HostError("state_malformed", f"no state of a VM: {problem}") from problem
    if domain != STATE_DOMAIN:
        raise HostError("state_malformed", f"no state of a VM, but {domain[:40]!r}")
    return Preamble(vm_id, VtpmKeys(ek, ak))


def preamble_length(header: bytes) -> int:
    """What the first `LENGTH_BYTES` say.

    Raises:
        HostError: ``state_malformed``.
    """
    length = int.from_bytes(header, "big")
    if not 0 < length <= PREAMBLE_BYTES_MAX or len(header) != LENGTH_BYTES:
        raise HostError("state_malformed", "no state of a VM")
    return length
