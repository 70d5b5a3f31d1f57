"""Attributes of nodes: where a host stands, what it is made of, what it runs; and who says so.

*attested*  follows from evidence: what the policy that allows the host says of all such hosts, or of the one with its
            EK; what the maker of its TPM certified; what the TPM says of itself
*asserted*  said by whoever enrolled the node, and proved by nothing

Where both say something under one name, what was asserted does not count.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tccp.attestation.enrolment import TrustedEk
from tccp.attestation.quote import VerifiedQuote
from tccp.errors import ConfigError

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.ASCII)
VALUE_CHARS_MAX = 256
TEXT_BYTES_MAX = 8_192  # of all that is said of one host: an event has room for what is attested and what is asserted
NAMES_MAX = 32  # of one table of a policy
HOSTS_MAX = 4_096  # endorsement keys in one policy
FROM_TPM = "tpm."  # how the names begin that follow from the TPM; a policy has no such
_HINT = "docs/POLICIES.md, attributes"


@dataclass(frozen=True, slots=True)
class NodeAttributes:
    """What is known of one node."""

    attested: Mapping[str, str] = field(default_factory=dict)
    asserted: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """What counts under this name."""
        return self.attested.get(name, self.asserted.get(name))

    def lacking(self, demanded: Mapping[str, str]) -> str:
        """What a node lacks of what is demanded, whoever says so; empty when it has everything."""
        missing = [name for name, value in demanded.items() if self.get(name) != value]
        return f"{missing[0]} is {self.get(missing[0])}, not {demanded[missing[0]]}" if missing else ""

    def lacking_evidence(self, demanded: Mapping[str, str]) -> str:
        """What evidence does not say of what it has to say; empty when it says everything."""
        for name, value in demanded.items():
            found = self.attested.get(name)
            if found != value:
                asserted = f", asserted is {self.asserted[name]}" if name in self.asserted else ""
                return f"{name} is {found} by evidence{asserted}, not {value}"
        return ""


@dataclass(frozen=True, slots=True)
class PolicyAttributes:
    """What a policy says of the hosts that it allows: of all, and by endorsement key of some."""

    of_all: Mapping[str, str] = field(default_factory=dict)
    by_ek: Mapping[bytes, Mapping[str, str]] = field(default_factory=dict)

    def of(self, ek_id: bytes) -> dict[str, str]:
        """Of the host with this EK (SHA-256 of its SPKI); what is said of it alone comes before what is of all."""
        return {**self.of_all, **self.by_ek.get(ek_id, {})}


def attributes_of_tpm(ek: TrustedEk, quote: VerifiedQuote) -> dict[str, str]:
    """What the EK's certificate says of the TPM, if there is one, and the TPM of its firmware."""
    found = {"tpm.firmware": f"{quote.firmware_version:016x}"}
    if ek.certificate is not None:
        certified = ek.certificate
        found |= {"tpm.manufacturer": certified.manufacturer, "tpm.model": certified.model}
        found["tpm.version"] = certified.version
    return {name: value[:VALUE_CHARS_MAX] for name, value in found.items() if value}


def parse_policy_attributes(attributes: Any, hosts: Any) -> PolicyAttributes:
    """The keys ``attributes`` and ``hosts`` of a policy of any kind, as TOML gives them; None where there is none.

    Raises:
        ConfigError: ``bad_policy``.
    """
    by_ek: dict[bytes, dict[str, str]] = {}
    if hosts is not None and not isinstance(hosts, list):
        raise _bad("hosts: not tables, each with eks and attributes")
    for number, host in enumerate(hosts or ()):
        where = f"hosts[{number}]"
        if not isinstance(host, dict) or set(host) != {"eks", "attributes"} or not isinstance(host["eks"], list):
            raise _bad(f"{where}: a table of eks and attributes is needed")
        said = _table(f"{where}.attributes", host["attributes"])
        for line in host["eks"]:
            of_this = by_ek.setdefault(_ek_id(f"{where}.eks", line), {})
            if not of_this.keys().isdisjoint(said):
                raise _bad(f"{where}.eks: {line!r} has {min(of_this.keys() & said.keys())} twice")
            of_this.update(said)
    if len(by_ek) > HOSTS_MAX:
        raise _bad(f"hosts: {len(by_ek)} endorsement keys, {HOSTS_MAX} are allowed")
    found = PolicyAttributes({} if attributes is None else _table("attributes", attributes), by_ek)
    for ek_id in by_ek:
        try:
            check_attributes(found.of(ek_id))
        except ValueError as problem:
            raise _bad(f"hosts: {ek_id.hex()}: {problem}") from None
    return found


def attributes_text(attributes: Mapping[str, str]) -> str:
    """Attributes in one line of JSON, in the order of their names: as events and receipts have them."""
    return json.dumps(dict(sorted(attributes.items())), ensure_ascii=False, separators=(",", ":"))


def attributes_in(details: Mapping[str, object]) -> NodeAttributes:
    """What the details of a log's entry say of its node.

    Raises:
        ValueError: They are none of ours.
    """
    return NodeAttributes(_read(details.get("attested", "{}")), _read(details.get("asserted", "{}")))


def _read(text: object) -> dict[str, str]:
    try:
        found = json.loads(text) if isinstance(text, str) and len(text) <= 2 * TEXT_BYTES_MAX else None
    except RecursionError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("the attributes of the node are none")
    return found


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Refuse what cannot be asserted of a node.

    Raises:
        ValueError: A name that is none, a value that is too long, or too much of them.
    """
    for name, value in attributes.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name of an attribute: a-z, 0-9, '-', '_' and '.', 1 to 63 characters")
        if len(value) > VALUE_CHARS_MAX:
            raise ValueError(f"attribute {name}: more than {VALUE_CHARS_MAX} characters")
    if len(attributes_text(attributes).encode()) > TEXT_BYTES_MAX:
        raise ValueError(f"attributes: more than {TEXT_BYTES_MAX} bytes")


def _table(where: str, table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(value, str) and value for value in table.values()):
        raise _bad(f"{where}: a table of names and texts is needed")
    if len(table) > NAMES_MAX:
        raise _bad(f"{where}: {len(table)} names, {NAMES_MAX} are allowed")
    try:
        check_attributes(table)
    except ValueError as problem:
        raise _bad(f"{where}: {problem}") from None
    if reserved := sorted(name for name in table if name.startswith(FROM_TPM)):
        raise _bad(f"{where}.{reserved[0]}: what begins so follows from the TPM")
    return table


def _ek_id(where: str, line: Any) -> bytes:
    """``"<hex> title"``."""
    text = line.partition(" ")[0] if isinstance(line, str) else ""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise _bad(f"{where}: {line!r} is not 64 hex digits, the SHA-256 of an endorsement key (`tccp node ek`)")
    return bytes.fromhex(text)


def _bad(detail: str) -> ConfigError:
    return ConfigError("bad_policy", detail, hint=_HINT)
