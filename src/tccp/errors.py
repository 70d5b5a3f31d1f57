"""Every exception of tccp, one tree. The first split says whose fault it is.

    TccpError
    |- PeerError             they sent something wrong: refuse it, keep serving
    |  |- ProtocolError          not a message, or not legal now
    |  |- EvidenceError          proves nothing
    |  |  |- QuoteError              the quote: signature, structure, nonce, PCR selection or digest
    |  |  |- EventLogError           the firmware log: structure, or it explains other PCR values
    |  |  |- ImaError                a list of IMA: structure, or it leads to another PCR value
    |  |  |- EnrolmentError          EK certificate, EK/AK public area, credential activation
    |  |  |- PolicyError             a genuine but unknown platform
    |  |  |- LaunchError             a ticket, a released key or a proof of launch
    |  |  '- LogError                the transparency log: note, checkpoint, tile or proof; rollback or fork
    |  |- SealedImageError       a sealed image: truncated, altered, of another key or tenant
    |  |- DiskError              a live disk: altered, rolled back, of another key or base
    |  '- RefusedError           the other side refused us, and said why
    |- HostError             our TPM, disk or network failed: retry or give up the task
    |  |- TpmError               the TPM answered with an error code, or not at all
    |  '- StoreError             the database: full, locked, damaged
    '- ConfigError           the operator must act; the message says on what

A bug of ours is none of these (AssertionError, KeyError) and ends the task.
"""


class TccpError(Exception):
    """Something that tccp foresees.

    Args:
        reason: A stable identifier in snake_case, safe to send to a peer and to match on: ``"nonce_mismatch"``.
        detail: What was found and expected, for our own log and screen; never sent to a peer, never a secret.
        hint: What the reader can do about it; a full sentence, or empty.
    """

    def __init__(self, reason: str, detail: str = "", *, hint: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.hint = hint


class PeerError(TccpError):
    """They sent something wrong: refuse it and keep serving."""


class ProtocolError(PeerError):
    """Not a message, or not one that is legal now."""


class EvidenceError(PeerError):
    """What they sent as evidence proves nothing."""


class QuoteError(EvidenceError):
    """The quote does not hold: signature, structure, nonce, PCR selection or PCR digest."""


class EventLogError(EvidenceError):
    """The firmware event log is malformed, or explains other PCR values than the quoted ones."""


class ImaError(EvidenceError):
    """A measurement list of IMA is malformed, or leads to another PCR value; or a compiled policy for it is none."""


class EnrolmentError(EvidenceError):
    """The EK certificate, the EK or AK public area, or the credential activation does not hold."""


class PolicyError(EvidenceError):
    """A genuine platform, but not one that a policy names."""


class LaunchError(EvidenceError):
    """A ticket, a released key or a proof of launch does not hold."""


class LogError(EvidenceError):
    """What a transparency log shows does not hold: a note, a checkpoint, a tile, a proof, or two that contradict."""


class SealedImageError(PeerError):
    """A sealed image does not hold: truncated, altered, under another key, of another tenant."""


class DiskError(PeerError):
    """The bytes of a live disk are not what they were: altered, rolled back, or of another key or base image."""


class RefusedError(PeerError):
    """The other side refused us; ``reason`` is theirs."""


class HostError(TccpError):
    """Our own TPM, disk or network failed: retry, or give up the task."""


class TpmError(HostError):
    """Our TPM answered with an error code, or not at all."""


class StoreError(HostError):
    """Our database cannot be read or written: full, locked or damaged."""


class ConfigError(TccpError):
    """The operator must act; ``detail`` says on what: ``node.toml: tpm.tcti: /dev/tpmrm0 does not exist``."""
