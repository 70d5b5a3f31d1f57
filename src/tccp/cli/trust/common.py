"""What the commands of ``tccp trust`` share: where the store is, and how a look at a coordinator is told."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tccp.cli import exit_codes
from tccp.cli.arguments import COMPLETE_FOLDERS, Parser
from tccp.cli.control import moment
from tccp.cli.output import Screen, print_json

if TYPE_CHECKING:
    from tccp.tenant.policy import TenantPolicy
    from tccp.tenant.trust import Look
    from tccp.tenant.trust_store import PinnedCoordinator, TrustStore


def add_store(parser: Parser) -> None:
    """The option that says where pinned coordinators are kept."""
    action = parser.add_argument(
        "--store",
        metavar="DIR",
        type=Path,
        default=None,
        help="folder of pinned coordinators (default: $XDG_CONFIG_HOME/tccp/trust, or ~/.config/tccp/trust)",
    )
    action.complete = COMPLETE_FOLDERS  # type: ignore[attr-defined]


def store_of(args: argparse.Namespace) -> "TrustStore":
    """The store that the command line or custom names."""
    from tccp.tenant.trust_store import TrustStore, default_folder

    return TrustStore(args.store or default_folder())


def document(pinned: "PinnedCoordinator") -> dict[str, Any]:
    """A pinned coordinator for programs."""
    head = pinned.head
    return {
        "name": pinned.name,
        "address": pinned.address,
        "coordinator_id": pinned.coordinator_id,
        "identity": pinned.identity,
        "ak": pinned.ak,
        "software": pinned.software,
        "log": {
            "origin": pinned.origin,
            "key": str(pinned.note_key),
            "url": pinned.log_url,
            "size": head.size,
            "root": head.root,
        },
        "release_key": pinned.release_key,
        "added": pinned.added_s,
        "checked": pinned.checked_s,
    }


def facts(pinned: "PinnedCoordinator") -> dict[str, str]:
    """A pinned coordinator for people."""
    head = pinned.head
    return {
        "address": pinned.address,
        "coordinator id": pinned.coordinator_id.hex(),
        "identity": pinned.identity,
        "software": pinned.software,
        "log": pinned.origin,
        "log key": str(pinned.note_key),
        "served at": pinned.log_url or "nowhere that it tells",
        "entries seen": str(head.size),
        "root": head.root.hex(),
        "pinned": moment(1000 * pinned.added_s),
        "checked": moment(1000 * pinned.checked_s),
    }


def _booted(demands: "TenantPolicy") -> list[str]:
    said = []
    if demands.allowed:
        said.append(f"PCR {', '.join(map(str, sorted(demands.allowed)))} have values that the policy allows")
    if demands.measured_boot is not None:
        sections = ", ".join(demands.measured_boot.sections)
        said.append(f"its event log explains what it quoted, and the policy knows all that it booted: {sections}")
    return said


def tell(args: argparse.Namespace, look: "Look", verb: str) -> int:
    """Print what a look has found; returns the exit code. The store holds it already."""
    pinned, head = look.pinned, look.pinned.head
    witnessed = look.verified.witnessed
    proved = [
        "its identity signed the statement of its keys, for this very connection",
        "a TPM quoted that statement just now, over a number of ours",
        *_booted(pinned.demands),
        _about_the_tpm(look),
        _about_the_log(look),
    ]
    not_proved = ["what happens on its machine after boot without being measured"]
    if pinned.demands.witnesses_required:
        names = ", ".join(sorted(key.name for key in witnessed.witnessed_s))
        proved.append(f"its log was seen as it is by {names}, at {witnessed.checkpoint.size} entries")
        if witnessed.checkpoint.size < head.size:
            behind = head.size - witnessed.checkpoint.size
            not_proved.append(f"that others are shown the last {behind} entries: no witness has seen them yet")
    else:
        not_proved.append("that others are shown the same log: the policy asks for no witness")
    if args.json:
        before = look.before.size if look.before else None
        print_json({**document(pinned), "size_before": before, "proved": proved, "not_proved": not_proved})
        return exit_codes.OK
    screen = Screen()
    screen.line(f"{pinned.name}: {verb}", style="accepted")
    screen.facts("coordinator", facts(pinned))
    screen.list("proved", proved)
    screen.list("not proved", not_proved, style="warn")
    return exit_codes.OK


def _about_the_tpm(look: "Look") -> str:
    demands = look.pinned.demands
    if look.former is not None and look.former.ak == look.pinned.ak:
        return "its TPM is the one that was pinned"
    if demands.ak_spki is not None:
        return "its TPM holds the attestation key that the policy names"
    whose = "whose endorsement key the policy names" if demands.ek_sha256 else "of a maker that the policy trusts"
    return f"its attestation key lives in a TPM {whose}"


def _about_the_log(look: "Look") -> str:
    size = look.pinned.head.size
    if look.before is None:
        return f"its log has {size} entries; from now on it can only grow without being found out"
    return f"its log of {size} entries continues the {look.before.size} that were seen before"
