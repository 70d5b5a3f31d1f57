"""The TPM of this machine: reached by `open_tpm`, spoken to through `Tpm`."""

from tccp.tpm.client import Tpm, open_tpm
from tccp.tpm.sealing import SealedBlob
from tccp.tpm.structures import Ak, Clock, Ek, Quote, TpmProperties
from tccp.tpm.tcti import DeviceTcti, SwtpmTcti, Tcti, parse_tcti
from tccp.tpm.templates import KeyKind

__all__ = [
    "Ak",
    "Clock",
    "DeviceTcti",
    "Ek",
    "KeyKind",
    "Quote",
    "SealedBlob",
    "SwtpmTcti",
    "Tcti",
    "Tpm",
    "TpmProperties",
    "open_tpm",
    "parse_tcti",
]
