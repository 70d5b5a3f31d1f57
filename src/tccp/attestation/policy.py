"""Is this a TVMM build that we trust? A policy names the PCR values that it may have.

A policy is TOML, named and versioned::

    name = "hypervisor-12"
    version = 3
    description = "Debian 12 TVMM, firmware 2.4 or 2.5"
    bank = "sha256"

    [pcrs]                       # index = allowed values; every listed PCR must have one of its values
    0 = ["<64 hex digits>", "<64 hex digits>"]
    7 = ["<64 hex digits>"]

Nothing listed is nothing admitted: a policy without PCRs is refused, and so is one that counts on a PCR that
software can reset.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tccp.attestation.attributes import PolicyAttributes, parse_policy_attributes
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import ConfigError, PolicyError
from tccp.model import PCR_COUNT, RESETTABLE_PCRS, PcrBank, PcrSelection
from tccp.toml import parse_toml

POLICY_BYTES_MAX = 256 * 1024
POLICY_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_HINT = "`tccp coordinator policy add --help` shows a complete policy"
_JUDGED = object()


@dataclass(frozen=True, slots=True)
class PcrPolicy:
    """The PCR values that a platform may have; made by `parse_policy`."""

    name: str
    version: int
    selection: PcrSelection
    """What a platform must quote to be judged by this policy."""
    allowed: Mapping[int, frozenset[bytes]]
    body: bytes = field(repr=False)
    attributes: PolicyAttributes = field(default_factory=PolicyAttributes)
    """What it says of the platforms that it allows."""

    @property
    def sha256(self) -> bytes:
        """The hash of the policy as its author wrote it."""
        return hashlib.sha256(self.body).digest()

    def judge(self, quote: VerifiedQuote) -> "TrustedPlatform":
        """The platform behind *quote* as one that this policy trusts.

        Raises:
            PolicyError: ``wrong_pcr_selection`` when other PCRs were quoted than the policy demands,
                ``pcr_not_in_policy`` when one has a value that is not listed.
        """
        pcrs = quote.pcrs
        if pcrs.selection != self.selection:
            raise PolicyError("wrong_pcr_selection", f"{self} judges {self.selection}, not {pcrs.selection}")
        for index in self.selection.indexes:
            if pcrs.values[index] not in self.allowed[index]:
                listed = ", ".join(sorted(value.hex() for value in self.allowed[index]))
                found = f"PCR {index} is {pcrs.values[index].hex()}, {self} allows {listed}"
                hint = "if this platform is to be trusted, add a newer version of the policy that lists the value"
                raise PolicyError("pcr_not_in_policy", found, hint=hint)
        return judged_platform(quote, self.name, self.version)

    def __str__(self) -> str:
        """The name and version that a person reads."""
        return f"policy {self.name} version {self.version}"


@dataclass(frozen=True, slots=True)
class TrustedPlatform:
    """A platform that a policy allows. Only `PcrPolicy.judge` and `judge_boot` make one: hold it to go on.

    Args:
        warnings: What a measured-boot policy would rather not see and does not refuse; may hold text of the host's.
    """

    quote: VerifiedQuote
    policy_name: str
    policy_version: int
    _token: object = field(repr=False)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Nobody but a policy says that a platform is trusted."""
        if self._token is not _JUDGED:
            raise TypeError("a TrustedPlatform is made by a policy only")


def judged_platform(
    quote: VerifiedQuote, policy_name: str, policy_version: int, *, warnings: tuple[str, ...] = ()
) -> TrustedPlatform:
    """For policies, when nothing is left that they could refuse."""
    return TrustedPlatform(quote, policy_name, policy_version, _JUDGED, warnings)


def policy_table(body: bytes, *, bytes_max: int, hint: str) -> dict[str, Any]:
    """What TOML makes of *body*, a policy of any kind.

    Raises:
        ConfigError: ``bad_policy``: it is too long, or no TOML.
    """
    if len(body) > bytes_max:
        raise ConfigError("bad_policy", f"{len(body)} bytes, {bytes_max} are allowed", hint=hint)
    try:
        return parse_toml(body)
    except ValueError as problem:
        raise ConfigError("bad_policy", f"not TOML: {problem}", hint=hint) from None


def parse_policy(body: bytes) -> PcrPolicy:
    """The policy written in *body*.

    Raises:
        ConfigError: ``bad_policy``; the detail names the key and what is wrong with it.
    """
    table = policy_table(body, bytes_max=POLICY_BYTES_MAX, hint=_HINT)
    unknown = sorted(set(table) - {"name", "version", "description", "bank", "pcrs", "attributes", "hosts"})
    if unknown:
        raise _bad(f"{unknown[0]}: unknown key")
    selection, allowed = parse_allowed_pcrs(table.get("bank", "sha256"), table.get("pcrs"), hint=_HINT)
    return PcrPolicy(
        name=_name(table.get("name")),
        version=_version(table.get("version")),
        selection=selection,
        allowed=allowed,
        body=body,
        attributes=parse_policy_attributes(table.get("attributes"), table.get("hosts")),
    )


def parse_allowed_pcrs(bank: Any, pcrs: Any, *, hint: str) -> tuple[PcrSelection, dict[int, frozenset[bytes]]]:
    """The keys ``bank`` and ``pcrs`` of a policy of any kind, as TOML gives them: which PCRs, with which values.

    Raises:
        ConfigError: ``bad_policy``, with *hint*.
    """
    try:
        known = _bank(bank)
        allowed = _allowed(pcrs, known)
    except ConfigError as problem:
        raise ConfigError(problem.reason, problem.detail, hint=hint) from None
    return PcrSelection.of(known, allowed), allowed


def _bad(detail: str) -> ConfigError:
    return ConfigError("bad_policy", detail, hint=_HINT)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not POLICY_NAME.fullmatch(value):
        raise _bad(f"name: {value!r} is not a policy name: a-z, 0-9, '-', '_' and '.', 1 to 63 characters")
    return value


def _version(value: Any) -> int:
    if type(value) is not int or not 1 <= value < 1 << 31:
        raise _bad(f"version: {value!r} is not a version: a whole number from 1 on")
    return value


def _bank(value: Any) -> PcrBank:
    if not isinstance(value, str):
        raise _bad(f"bank: {value!r} is not a name of a PCR bank")
    try:
        bank = PcrBank.from_name(value)
    except ValueError as problem:
        raise _bad(f"bank: {problem}") from None
    if bank is PcrBank.SHA1:
        raise _bad("bank: sha1 proves nothing any more; use sha256 or longer")
    return bank


def _allowed(table: Any, bank: PcrBank) -> dict[int, frozenset[bytes]]:
    if not isinstance(table, dict) or not table:
        raise _bad("pcrs: a table of one PCR or more is needed, or nothing could be refused")
    return {_index(key): _values(key, values, bank) for key, values in table.items()}


def _index(key: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]?", key) or int(key) >= PCR_COUNT:
        raise _bad(f"pcrs.{key}: PCRs are numbered 0 to {PCR_COUNT - 1}")
    if int(key) in RESETTABLE_PCRS:
        raise _bad(f"pcrs.{key}: software can reset PCR {key} at any time, so it proves nothing")
    return int(key)


def _values(key: str, values: Any, bank: PcrBank) -> frozenset[bytes]:
    listed = [values] if isinstance(values, str) else values
    if not isinstance(listed, list) or not listed:
        raise _bad(f"pcrs.{key}: a list of one value or more is needed")
    pattern = rf"[0-9a-fA-F]{{{2 * bank.digest_bytes}}}"
    for value in listed:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _bad(f"pcrs.{key}: {value!r} is not {2 * bank.digest_bytes} hex digits ({bank.hash_name})")
    return frozenset(bytes.fromhex(value) for value in listed)
