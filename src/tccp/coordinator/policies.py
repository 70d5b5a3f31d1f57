"""The policies in force, parsed once and shared by all sessions."""

from collections.abc import Collection
from pathlib import Path

from nacl.signing import VerifyKey

from tccp.attestation.boot_policy import AnyPolicy, parse_any_policy
from tccp.attestation.signed_policy import is_signed, verify_policy
from tccp.config import PoliciesConfig
from tccp.errors import ConfigError, PolicyError
from tccp.image.keys import read_operator_public
from tccp.store import PolicyRecord

KEY_FILE_BYTES_MAX = 8192


class PolicyBook:
    """The newest version of each policy."""

    def __init__(self, records: list[PolicyRecord]) -> None:
        self._in_force: dict[str, AnyPolicy] = {}
        for record in records:
            self.put_in_force(parse_any_policy(record.body))

    def put_in_force(self, policy: AnyPolicy) -> None:
        """Judge by *policy* from now on, unless a newer version is in force."""
        present = self._in_force.get(policy.name)
        if present is None or policy.version > present.version:
            self._in_force[policy.name] = policy

    @property
    def any_in_force(self) -> bool:
        """Whether anybody can be admitted at all."""
        return bool(self._in_force)

    def get(self, name: str) -> AnyPolicy:
        """The policy called *name*.

        Raises:
            PolicyError: ``no_policy``: there is none, so nobody is admitted by it.
        """
        try:
            return self._in_force[name]
        except KeyError:
            hint = "add it with `tccp coordinator policy add FILE`"
            raise PolicyError("no_policy", f"the policy {name!r} does not exist", hint=hint) from None

    def all(self) -> list[AnyPolicy]:
        """All that are in force."""
        return list(self._in_force.values())


def load_operators(config: PoliciesConfig) -> tuple[VerifyKey, ...]:
    """The public keys of those who may sign policies.

    Raises:
        ConfigError: One cannot be read, or is none.
    """
    return tuple(_read_key(Path(path)) for path in config.operator_keys)


def _read_key(path: Path) -> VerifyKey:
    try:
        with path.open("rb") as file:
            return read_operator_public(file.read(KEY_FILE_BYTES_MAX))
    except OSError as problem:
        raise ConfigError("operator_key", f"{path}: {problem.strerror}") from None
    except ConfigError as problem:
        raise ConfigError("operator_key", f"{path}: {problem}") from None


def accepted_body(content: bytes, operators: Collection[VerifyKey]) -> bytes:
    """The policy in *content* as its author wrote it; where there are *operators*, one of them must have signed it.

    Raises:
        PolicyError: ``unsigned_policy``, ``unknown_key``, ``bad_signature``, ``malformed``: none of them has.
    """
    if is_signed(content):
        return verify_policy(content, operators)
    if operators:
        hint = "sign it: `tccp policy sign POLICY --key operator.key`"
        raise PolicyError("unsigned_policy", "this coordinator takes policies that an operator has signed", hint=hint)
    return content
