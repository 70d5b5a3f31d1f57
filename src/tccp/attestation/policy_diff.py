"""What another version of a policy changes: what it allows more, and what less.

A policy is taken apart into what it *allows* (a digest, a PCR value, a line) and what it *demands* (a section, a word).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tccp.attestation.boot_policy import BootPolicy, Digests, Mode
from tccp.attestation.event_data import event_type_name
from tccp.attestation.policy import PcrPolicy


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One thing that a policy says.

    Args:
        where: ``kernel.digests``.
        value: What it says there.
        is_demand: It has to be so; else it may be so.
    """

    where: str
    value: str
    is_demand: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """An item that is in one version only."""

    item: Item
    is_added: bool

    @property
    def allows_more(self) -> bool:
        """Whether platforms may now be trusted that were not; else the other way round."""
        return self.is_added is not self.item.is_demand


def diff_policies(old: PcrPolicy | BootPolicy, new: PcrPolicy | BootPolicy) -> tuple[Change, ...]:
    """What *new* changes, in the order of the sections. Titles of digests do not matter."""
    before, after = set(items(old)), set(items(new))
    changes = [Change(item, is_added=False) for item in before - after]
    changes += [Change(item, is_added=True) for item in after - before]
    return tuple(sorted(changes, key=lambda change: (change.item, change.is_added)))


def items(policy: PcrPolicy | BootPolicy) -> Iterator[Item]:
    """Everything that *policy* says."""
    yield Item("bank", policy.selection.bank.hash_name, is_demand=True)
    yield from _attributes(policy)
    if isinstance(policy, PcrPolicy):
        for index, values in policy.allowed.items():
            yield Item(f"pcrs.{index}", "is judged", is_demand=True)
            yield from (Item(f"pcrs.{index}", value.hex()) for value in values)
        return
    for name, mode in policy.sections.items():
        yield Item(name, "is judged", is_demand=True)
        if mode is Mode.ENFORCE:
            yield Item(name, "is enforced", is_demand=True)
        rule = getattr(policy, name)
        yield from _digests(f"{name}.digests", getattr(rule, "digests", {}))
    yield from _firmware(policy)
    yield from _secure_boot(policy)
    yield from _command_line(policy)
    if policy.ima_sha256 is not None:
        yield Item("ima.sha256", policy.ima_sha256.hex(), is_demand=True)


def _attributes(policy: PcrPolicy | BootPolicy) -> Iterator[Item]:
    said = policy.attributes
    yield from (Item("attributes", f"{name}={value}") for name, value in said.of_all.items())
    for ek_id, attributes in said.by_ek.items():
        yield from (Item(f"hosts.{ek_id.hex()}", f"{name}={value}") for name, value in attributes.items())


def _digests(where: str, digests: Digests) -> Iterator[Item]:
    return (Item(where, digest.hex()) for digest in digests)


def _firmware(policy: BootPolicy) -> Iterator[Item]:
    for build in policy.firmware.builds if policy.firmware is not None else ():
        events = ", ".join(f"{event_type_name(kind)} {digest.hex()}" for kind, digest in build.events)
        yield Item("firmware.builds", events)


def _secure_boot(policy: BootPolicy) -> Iterator[Item]:
    rule = policy.secure_boot
    if rule is None:
        return
    if rule.state != "any":
        yield Item("secure_boot.state", rule.state, is_demand=True)
    for name, digests in rule.variables.items():
        yield Item(f"secure_boot.{name}", "is judged", is_demand=True)
        yield from _digests(f"secure_boot.{name}", digests)
    if rule.authorities is not None:
        yield Item("secure_boot.authorities", "is judged", is_demand=True)
        yield from _digests("secure_boot.authorities", rule.authorities)
    yield from _digests("secure_boot.others", rule.others)


def _command_line(policy: BootPolicy) -> Iterator[Item]:
    rule = policy.command_line
    if rule is None:
        return
    if rule.lines is not None:
        yield Item("command_line.lines", "is judged", is_demand=True)
        yield from (Item("command_line.lines", line) for line in rule.lines)
    yield from (Item("command_line.required", word, is_demand=True) for word in rule.rules.required)
    yield from (Item("command_line.forbidden", word, is_demand=True) for word in rule.rules.forbidden)
    yield from (Item("command_line.commands", command) for command in rule.commands)
