"""The policies in force, parsed once and shared by all sessions."""

from tccp.attestation.policy import PcrPolicy, parse_policy
from tccp.errors import PolicyError
from tccp.store import PolicyRecord


class PolicyBook:
    """The newest version of each policy."""

    def __init__(self, records: list[PolicyRecord]) -> None:
        self._in_force: dict[str, PcrPolicy] = {}
        for record in records:
            self.put_in_force(parse_policy(record.body))

    def put_in_force(self, policy: PcrPolicy) -> None:
        """Judge by *policy* from now on, unless a newer version is in force."""
        present = self._in_force.get(policy.name)
        if present is None or policy.version > present.version:
            self._in_force[policy.name] = policy

    @property
    def any_in_force(self) -> bool:
        """Whether anybody can be admitted at all."""
        return bool(self._in_force)

    def get(self, name: str) -> PcrPolicy:
        """The policy called *name*.

        Raises:
            PolicyError: ``no_policy``: there is none, so nobody is admitted by it.
        """
        try:
            return self._in_force[name]
        except KeyError:
            hint = "add it with `tccp coordinator policy add FILE`"
            raise PolicyError("no_policy", f"the policy {name!r} does not exist", hint=hint) from None
