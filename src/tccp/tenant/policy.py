"""What a tenant demands of a coordinator, as TOML::

    identity = "<64 hex digits>"            # its identity key; left out: the first that is shown, accepted aloud
    ek_authorities = "/etc/tccp/ek-authorities"   # whose TPMs count: a folder of certificates
    # ek = "<64 hex digits>"                # or one TPM: SHA-256 of its EK's SubjectPublicKeyInfo
    # ak = "<hex>"                          # or one key of it, DER: then nothing has to be activated
    software = ["0.1.0"]                    # versions that it may name; left out: any
    bank = "sha256"
    witnesses_required = 1
    witness_age_s = 3600                    # how old a cosignature may be

    [pcrs]                                  # index = allowed values
    0 = ["<64 hex digits>"]

    [[witness]]
    key = "witness.example.net/w1+<id>+<key>"

    [measured_boot.kernel]                  # or, or beside: the sections of a measured-boot policy (docs/POLICIES.md)
    mode = "enforce"
    digests = ["<64 hex digits>"]

Exactly one of the three says whose TPM counts; without PCR values or a measured boot nothing is trusted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tccp.attestation.boot_judge import judge_boot
from tccp.attestation.boot_policy import KIND, BootPolicy, boot_policy_in
from tccp.attestation.policy import parse_allowed_pcrs, policy_table
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import ConfigError, PolicyError
from tccp.model import PcrSelection, PcrValues
from tccp.transparency.note import NoteKey, SignatureType, parse_note_key

POLICY_BYTES_MAX = 64 * 1024
WITNESSES_MAX = 16
WITNESS_AGE_S = 3_600
KEYS = frozenset(
    {
        "identity",
        *("ek_authorities", "ek", "ak"),
        *("software", "bank", "pcrs", "measured_boot"),
        *("witness", "witnesses_required", "witness_age_s"),
    }
)
TPM_KEYS = ("ek_authorities", "ek", "ak")


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """A tenant's demands; made by `parse_tenant_policy`.

    Attributes:
        identity_key: 32 bytes, or None: whoever proves the rest.
        ek_authorities: A folder; exactly one of the three is not None.
        ek_sha256: SHA-256 of the EK's SubjectPublicKeyInfo.
        ak_spki: DER.
        software: Versions; empty: any.
        selection: The PCRs that must be quoted; more may be.
        measured_boot: What its event log must say, beside any PCR values; None: only those count.
    """

    identity_key: bytes | None
    ek_authorities: Path | None
    ek_sha256: bytes | None
    ak_spki: bytes | None
    software: frozenset[str]
    selection: PcrSelection
    allowed: Mapping[int, frozenset[bytes]]
    witnesses: tuple[NoteKey, ...]
    witnesses_required: int
    witness_age_s: int
    body: bytes = field(repr=False)
    measured_boot: BootPolicy | None = None

    def judge_pcrs(self, quoted: PcrValues) -> None:
        """Check that each PCR of the policy was quoted with a value that it allows.

        Raises:
            PolicyError: ``pcr_not_quoted``, ``pcr_not_in_policy``.
        """
        for index in self.allowed:
            value = quoted.values.get(index)
            if value is None:
                raise PolicyError("pcr_not_quoted", f"PCR {index} was not quoted, and the policy demands it")
            if value not in self.allowed[index]:
                listed = ", ".join(sorted(each.hex() for each in self.allowed[index]))
                raise PolicyError(
                    "pcr_not_in_policy",
                    f"PCR {index} of the coordinator is {value.hex()}, the policy allows {listed}",
                    hint="It booted something else than the policy names. `tccp trust add --event-log FILE` and `tccp "
                    "evidence eventlog FILE` show what; ask its operator why before you change the policy.",
                )

    def judge_measured_boot(self, quote: VerifiedQuote, event_log: bytes) -> None:
        """Check that what it booted is what the policy knows, by the log that explains the quoted values.

        Raises:
            PolicyError: ``pcr_not_quoted``; ``kernel_not_in_policy`` and the like.
            EventLogError: The log does not explain the values, or there is none.
        """
        if self.measured_boot is None:
            return
        missing = sorted(set(self.measured_boot.selection.indexes) - set(quote.pcrs.values))
        if missing:
            hint = "its operator can have it quoted: [tpm] pcrs"
            raise PolicyError(
                "pcr_not_quoted", f"PCR {missing[0]} was not quoted, and the policy demands it", hint=hint
            )
        judge_boot(self.measured_boot, quote.of(self.measured_boot.selection), event_log)

    def judge_software(self, software: str) -> None:
        """Check the version that the coordinator names; it is as true as the software that its PCRs stand for.

        Raises:
            PolicyError: ``software_not_in_policy``.
        """
        if self.software and software not in self.software:
            detail = f"the coordinator runs {software!r}, the policy allows {', '.join(sorted(self.software))}"
            raise PolicyError("software_not_in_policy", detail)


def parse_tenant_policy(body: bytes, *, folder: Path = Path()) -> TenantPolicy:
    """The policy written in *body*.

    Args:
        folder: What relative paths in it start from.

    Raises:
        ConfigError: ``bad_policy``; the detail names the key and what is wrong with it.
    """
    table = policy_table(body, bytes_max=POLICY_BYTES_MAX, hint=HINT)
    if unknown := sorted(set(table) - KEYS):
        raise _bad(f"{unknown[0]}: unknown key")
    if len([key for key in TPM_KEYS if key in table]) != 1:
        raise _bad(f"one of {', '.join(TPM_KEYS)} must say whose TPM counts, and only one")
    boot = _measured_boot(table.get("measured_boot"), table.get("bank", "sha256"), body)
    allowed: Mapping[int, frozenset[bytes]]
    if boot is not None and "pcrs" not in table:
        selection, allowed = boot.selection, {}
    else:
        selection, allowed = parse_allowed_pcrs(table.get("bank", "sha256"), table.get("pcrs"), hint=HINT)
    witnesses = _witnesses(table.get("witness", []))
    return TenantPolicy(
        identity_key=_digest(table, "identity"),
        ek_authorities=_folder(table.get("ek_authorities"), folder),
        ek_sha256=_digest(table, "ek"),
        ak_spki=_spki(table.get("ak")),
        software=_software(table.get("software")),
        selection=selection,
        allowed=allowed,
        witnesses=witnesses,
        witnesses_required=_required(table.get("witnesses_required", len(witnesses)), witnesses),
        witness_age_s=_age(table.get("witness_age_s", WITNESS_AGE_S)),
        body=body,
        measured_boot=boot,
    )


HINT = "`tccp trust add --help` shows a complete policy"


def _bad(detail: str) -> ConfigError:
    return ConfigError("bad_policy", detail, hint=HINT)


def _digest(table: Mapping[str, Any], key: str) -> bytes | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise _bad(f"{key}: {value!r} is not 64 hex digits")
    return bytes.fromhex(value)


def _spki(value: Any) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"(?:[0-9a-fA-F]{2}){32,1024}", value):
        raise _bad("ak: not the hex digits of a DER public key")
    return bytes.fromhex(value)


def _folder(value: Any, folder: Path) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise _bad("ek_authorities: not the name of a folder")
    return folder / value


def _measured_boot(value: Any, bank: Any, body: bytes) -> BootPolicy | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not {"kind", "name", "version", "bank"}.isdisjoint(value):
        raise _bad("measured_boot: a table of the sections of a measured-boot policy is needed, and nothing else")
    policy = boot_policy_in({"kind": KIND, "name": "coordinator", "version": 1, "bank": bank, **value}, body)
    if policy.ima_sha256 is not None:
        raise _bad("measured_boot.ima: a coordinator shows no list of IMA")
    return policy


def _software(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise _bad("software: a list of one version or more is needed, or no such key")
    return frozenset(value)


def _witnesses(tables: Any) -> tuple[NoteKey, ...]:
    if not isinstance(tables, list) or len(tables) > WITNESSES_MAX:
        raise _bad(f"witness: at most {WITNESSES_MAX} tables [[witness]]")
    keys = []
    for table in tables:
        if not isinstance(table, dict) or set(table) != {"key"} or not isinstance(table["key"], str):
            raise _bad("witness: each has a key, and nothing else")
        try:
            key = parse_note_key(table["key"])
        except ConfigError as problem:
            raise _bad(f"witness: {problem.detail}") from None
        if key.type is not SignatureType.COSIGNATURE:
            raise _bad(f"witness: {key.name}: a key of another kind than for cosignatures")
        keys.append(key)
    if len({key.public_key for key in keys}) != len(keys) or len({key.name for key in keys}) != len(keys):
        raise _bad("witness: one of them stands twice, and would count twice")
    return tuple(keys)


def _required(value: Any, witnesses: tuple[NoteKey, ...]) -> int:
    if type(value) is not int or not 0 <= value <= len(witnesses):
        raise _bad(f"witnesses_required: {value!r} of {len(witnesses)} witnesses")
    return value


def _age(value: Any) -> int:
    if type(value) is not int or not 1 <= value < 1 << 31:
        raise _bad(f"witness_age_s: {value!r} is not a number of seconds from 1 on")
    return value
