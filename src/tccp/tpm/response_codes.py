"""What a TPM's response code means (TPM 2.0 Library, Part 2, 6.6)."""

from tccp.errors import TpmError
from tccp.tpm.constants import CommandCode

RC_RETRY = 0x922
RC_YIELDED = 0x908
RC_TESTING = 0x90A
# The command was not executed and may be sent again unchanged.
RESEND = frozenset({RC_RETRY, RC_YIELDED, RC_TESTING})

_FORMAT_1 = 0x080
_FORMAT_1_IS_PARAMETER = 0x040

# Format 0 and the warnings: the whole number.
_NAMES = {
    0x100: "initialize",
    0x101: "failure",
    0x120: "disabled",
    0x126: "policy",
    0x127: "pcr",
    0x128: "pcr_changed",
    0x143: "command_code",
    0x144: "authsize",
    0x145: "auth_context",
    0x149: "nv_locked",
    0x14A: "nv_uninitialized",
    0x14B: "nv_space",
    0x14C: "nv_defined",
    0x902: "object_memory",
    0x903: "session_memory",
    0x904: "memory",
    0x905: "session_handles",
    0x907: "locality",
    RC_YIELDED: "yielded",
    RC_TESTING: "testing",
    0x920: "nv_rate",
    0x921: "lockout",
    RC_RETRY: "retry",
    0x923: "nv_unavailable",
}

# Format 1: the low six bits; the rest says which handle, session or parameter is meant.
_FORMAT_1_NAMES = {
    0x01: "asymmetric",
    0x02: "attributes",
    0x03: "hash",
    0x04: "value",
    0x05: "hierarchy",
    0x07: "key_size",
    0x0B: "handle",
    0x0E: "auth_fail",
    0x12: "scheme",
    0x15: "size",
    0x16: "symmetric",
    0x18: "selector",
    0x1B: "signature",
    0x1C: "key",
    0x1D: "policy_fail",
    0x1F: "integrity",
    0x20: "ticket",
    0x21: "reserved_bits",
    0x22: "bad_auth",
    0x26: "curve",
    0x27: "ecc_point",
}

_OWNED_HINT = (
    "Remove the password of the hierarchy (tpm2_changeauth -c endorsement, for a coordinator's keys -c owner); tccp "
    "knows none."
)
_HINTS = {
    "initialize": "The TPM was never started: firmware does that; for swtpm add --flags startup-clear.",
    "failure": "The TPM is in failure mode: power the machine off and on.",
    "lockout": "Too many wrong passwords: wait, or reset the lock-out with tpm2_dictionarylockout --clear-lockout.",
    "bad_auth": _OWNED_HINT,
    "auth_fail": _OWNED_HINT,
    "hierarchy": "The hierarchy is disabled: enable the endorsement and the owner hierarchy in the firmware set-up.",
    "object_memory": "No object slot is free: use the resource manager, device:/dev/tpmrm0.",
    "session_memory": "No session slot is free: use the resource manager, device:/dev/tpmrm0.",
}


def rc_name(code: int) -> str | None:
    """The name of *code* in lower case without TPM_RC_: ``"integrity"`` for 0x1DF; None when we know none."""
    if code & _FORMAT_1:
        return _FORMAT_1_NAMES.get(code & 0x3F)
    return _NAMES.get(code)


def rc_place(code: int) -> str:
    """What *code* blames: ``"parameter 1"``, ``"handle 2"``, ``"session 1"``, or nothing."""
    if not code & _FORMAT_1:
        return ""
    number = code >> 8 & 0xF
    if code & _FORMAT_1_IS_PARAMETER:
        return f"parameter {number}"
    return f"session {number - 8}" if number & 8 else f"handle {number}"


def rc_error(command: CommandCode, code: int) -> TpmError:
    """The error for a command that the TPM refused with *code*.

    Its reason is ``tpm_rc_`` and the name of the code, or the number in hexadecimal where we know no name:
    ``tpm_rc_integrity``, ``tpm_rc_0x18f``.
    """
    name = rc_name(code)
    place = rc_place(code)
    detail = f"TPM2_{command.name} failed with 0x{code:x}" + (f" on {place}" if place else "")
    return TpmError(f"tpm_rc_{name or hex(code)}", detail, hint=_HINTS.get(name or "", ""))
