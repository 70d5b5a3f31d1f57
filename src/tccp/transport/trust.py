"""The trust file: what a node must know of its coordinator before it says a word.

TOML, written by the coordinator (`tccp coordinator trust`), carried to the nodes by the operator of the trusted
coordinator, for example inside the measured image of the TVMM::

    identity = "<64 hex digits>"       # Ed25519 identity key of the coordinator
    ca = "-----BEGIN CERTIFICATE..."   # issuer of its TLS certificate and of leases
    ak = "<hex>"                       # attestation key of its TPM, DER SubjectPublicKeyInfo
    door_certificate = "..."           # PEM, see `tccp.transport.certificates`
    door_key = "..."
    bank = "sha256"

    [pcrs]                             # what the coordinator itself must be
    0 = "<64 hex digits>"
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm

from tccp.errors import ConfigError
from tccp.model import RESETTABLE_PCRS, PcrBank, PcrSelection, PcrValues
from tccp.protocol.statements import coordinator_id
from tccp.toml import parse_toml
from tccp.transport.certificates import Authority, KeyPair, certificate_of_pem

TRUST_BYTES_MAX = 64 * 1024
KEYS = frozenset({"identity", "ca", "ak", "door_certificate", "door_key", "bank", "pcrs"})


@dataclass(frozen=True, slots=True)
class CoordinatorTrust:
    """A trust file, checked."""

    identity_key: bytes
    ca_certificate: bytes
    ak_spki: bytes
    door: KeyPair = field(repr=False)
    pcrs: PcrValues

    @property
    def coordinator_id(self) -> bytes:
        """The id of the trusted coordinator, 32 bytes."""
        return coordinator_id(self.identity_key)


def write_trust(trust: CoordinatorTrust) -> bytes:
    """The file's bytes."""
    lines = [
        "# What a node must know of its coordinator. The door key in it proves nothing, but keep it from strangers.",
        f'identity = "{trust.identity_key.hex()}"',
        f'ak = "{trust.ak_spki.hex()}"',
        *(
            f'{key} = """\n{pem.decode("ascii")}"""'
            for key, pem in (
                ("ca", trust.ca_certificate),
                ("door_certificate", trust.door.certificate),
                ("door_key", trust.door.key),
            )
        ),
        f'bank = "{trust.pcrs.selection.bank.hash_name}"',
        "",
        "[pcrs]",
        *(f'{index} = "{trust.pcrs.values[index].hex()}"' for index in trust.pcrs.selection.indexes),
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def load_trust(path: Path) -> CoordinatorTrust:
    """The trust file at *path*.

    Raises:
        ConfigError: It cannot be read, or something in it is missing or malformed.
    """
    try:
        with path.open("rb") as file:
            body = file.read(TRUST_BYTES_MAX + 1)
    except OSError as problem:
        hint = "get it from the coordinator: `tccp coordinator trust > FILE`"
        raise ConfigError("trust_unreadable", f"{path}: {problem.strerror}", hint=hint) from None
    try:
        return parse_trust(body)
    except ConfigError as problem:
        raise ConfigError(problem.reason, f"{path}: {problem.detail}", hint=problem.hint) from None


def parse_trust(body: bytes) -> CoordinatorTrust:
    """The trust file with the content *body*.

    Raises:
        ConfigError: ``trust_invalid``.
    """
    if len(body) > TRUST_BYTES_MAX or not body.isascii():
        raise ConfigError("trust_invalid", f"more than {TRUST_BYTES_MAX} bytes, or not ASCII")
    try:
        table = parse_toml(body)
        if set(table) != KEYS:
            wrong = ", ".join(sorted(set(table) ^ KEYS))
            raise ConfigError("trust_invalid", f"missing or unknown: {wrong}")
        bank = PcrBank.from_name(table["bank"])
        values = {int(index): bytes.fromhex(value) for index, value in table["pcrs"].items()}
        door = KeyPair(certificate=table["door_certificate"].encode(), key=table["door_key"].encode())
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what a library only warns of in a certificate, no authority writes
            Authority(door)
            certificate_of_pem(table["ca"].encode())
        identity_key = bytes.fromhex(table["identity"])
        if len(identity_key) != 32:
            raise ConfigError("trust_invalid", "identity: not 32 bytes")
        if bank is PcrBank.SHA1 or not RESETTABLE_PCRS.isdisjoint(values):
            raise ConfigError("trust_invalid", "pcrs: the sha1 bank, PCR 16 and PCR 23 prove nothing")
        return CoordinatorTrust(
            identity_key=identity_key,
            ca_certificate=table["ca"].encode(),
            ak_spki=bytes.fromhex(table["ak"]),
            door=door,
            pcrs=PcrValues(PcrSelection.of(bank, values), values),
        )
    except (
        ValueError,
        TypeError,
        AttributeError,
        UnsupportedAlgorithm,
        Warning,
    ) as problem:
        raise ConfigError("trust_invalid", str(problem)) from None
