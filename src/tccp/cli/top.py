"""``tccp top``: the whole perimeter at a glance, again and again."""

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, number_from_zero
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, plain, remaining
from tccp.cli.output import Screen, print_json
from tccp.printable import escape

if TYPE_CHECKING:
    from tccp.protocol.control import CoordinatorStatus, NodeInfo
    from tccp.protocol.shadow_control import ShadowInfo
    from tccp.protocol.vm_control import OwnedVm

INTERVAL_S = 2
INTERVAL_S_MAX = 86_400
NODES_SHOWN = 20
VMS_SHOWN = 10
COUNTED = ("registrations", "renewals", "refusals", "key_releases", "key_refusals")
# What a person should look at stands first.
STATES = ("refused", "enrolled", "admitted", "revoked")


class Glance(NamedTuple):
    """What the coordinator said at one moment (of the monotonic clock)."""

    status: "CoordinatorStatus"
    nodes: tuple["NodeInfo", ...]
    vms: tuple["OwnedVm", ...]
    at: float


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "top",
        run,
        summary="watch the perimeter: nodes, rates, refusals, releases, VMs",
        about="Nodes that need a look come first. Rates are those since the last look; with --json each line is one "
        "document. Without a terminal it looks once.",
        examples=("tccp top", "tccp top --once --json | jq .nodes", "tccp top --json --interval 10 >> top.jsonl"),
    )
    parser.add_argument("--once", action="store_true", help="look once, and end")
    parser.add_argument(
        "--interval",
        metavar="S",
        type=number_from_zero,
        default=INTERVAL_S,
        help=f"seconds between looks, 1 to {INTERVAL_S_MAX} (default: {INTERVAL_S})",
    )
    add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Look, and show, until Ctrl-C."""
    screen = Screen()
    once = args.once or not (args.json or screen.is_terminal)
    with _shown(screen, as_json=args.json, once=once) as show, contextlib.suppress(KeyboardInterrupt):
        before: Glance | None = None
        while True:
            glance = _look(args)
            show(glance, before)
            if once:
                break
            before = glance
            time.sleep(min(max(args.interval, 1), INTERVAL_S_MAX))
    return exit_codes.OK


def _look(args: argparse.Namespace) -> Glance:
    from tccp.protocol.control import CoordinatorStatus, GetStatus, ListNodes, Nodes
    from tccp.protocol.vm_control import ListOwnedVms, OwnedVms

    status = ask(args, GetStatus(), CoordinatorStatus)
    nodes, vms = ask(args, ListNodes(), Nodes).nodes, ask(args, ListOwnedVms(), OwnedVms).vms
    return Glance(status, nodes, vms, time.monotonic())


Show = Callable[[Glance, Glance | None], None]


@contextlib.contextmanager
def _shown(screen: Screen, *, as_json: bool, once: bool) -> Iterator[Show]:
    """How glances are shown: as lines of JSON, as text, or on a screen of their own that is given back at the end."""
    if as_json:

        def show_json(glance: Glance, before: Glance | None) -> None:
            print_json(document(glance, before), indent=2 if once else None)
            sys.stdout.flush()

        yield show_json
        return
    if once:
        yield lambda glance, before: _print(screen, glance, before)
        return
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(markup=False, highlight=False, emoji=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def show_live(glance: Glance, before: Glance | None) -> None:
            live.update(Group(*_renderables(glance, before, rows=console.height)), refresh=True)

        yield show_live


def rates(glance: Glance, before: Glance | None) -> dict[str, float]:
    """How often a second since *before*; since the coordinator's start when there is none, or it was started anew."""
    now, past = glance.status, before.status if before else None
    if before is None or past is None or past.started_ms != now.started_ms:
        seconds = max(time.time() - now.started_ms / 1000, 1.0)
        return {name: round(getattr(now, name) / seconds, 3) for name in COUNTED}
    seconds = max(glance.at - before.at, 0.001)
    return {name: round((getattr(now, name) - getattr(past, name)) / seconds, 3) for name in COUNTED}


def document(glance: Glance, before: Glance | None) -> dict[str, Any]:
    """A glance for programs."""
    return {
        "coordinator": plain(glance.status),
        "rates_per_s": rates(glance, before),
        "nodes": dict(Counter(node.state for node in glance.nodes)),
        "vms": dict(Counter(vm.state for vm in glance.vms)),
        "attention": [
            {"name": node.name, "state": node.state, "connected": node.connected, "last_refusal": node.last_refusal}
            for node in _by_urgency(glance.nodes)
            if _needs_a_look(node)
        ],
    }


def _needs_a_look(node: "NodeInfo") -> bool:
    return node.state == "refused" or (node.state == "admitted" and not node.connected)


def _by_urgency(nodes: tuple["NodeInfo", ...]) -> list["NodeInfo"]:
    order = {state: number for number, state in enumerate(STATES)}
    return sorted(
        nodes, key=lambda node: (not _needs_a_look(node), order.get(node.state, 0), node.expires_ms, node.name)
    )


# ---- for people


def _facts(glance: Glance, before: Glance | None) -> dict[str, str]:
    status, speed = glance.status, rates(glance, before)
    states = Counter(node.state for node in glance.nodes)
    vms = Counter(vm.state for vm in glance.vms)
    reasons = Counter(status.refusal_reasons).most_common(5)
    return {
        "coordinator": f"{status.coordinator_id.hex()[:16]}, tccp {status.software}",
        "nodes": f"{status.nodes_connected} connected; " + (_listed(states) or "none enrolled"),
        "leases": f"{status.leases_open} open, {status.lease_s} s each",
        "renewals": f"{status.renewals}, {speed['renewals']:g}/s",
        "registrations": f"{status.registrations}, {speed['registrations']:g}/s",
        "refusals": f"{status.refusals}, {speed['refusals']:g}/s"
        + (": " + ", ".join(f"{reason} {count}" for reason, count in reasons) if reasons else ""),
        "keys of VMs": f"{status.key_releases} released, {status.key_refusals} refused",
        "VMs": _listed(vms) or "none",
        **{f"shadow {each.name} {each.version}": _shadow(each) for each in status.shadows},
        "log": f"{status.log_size} entries, "
        f"{sum(witness.size > 0 for witness in status.witnesses)} of {len(status.witnesses)} witnesses cosign",
    }


def _shadow(shadow: "ShadowInfo") -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(shadow.reasons.items()))
    return f"would accept {shadow.accepted}, refuse {shadow.refused}" + (f": {reasons}" if reasons else "")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


NODE_COLUMNS = ("node", "state", "connected", "policy", "lease ends in", "last refusal")
VM_COLUMNS = ("VM", "state", "tenant", "node", "epoch")


def _node_rows(glance: Glance, most: int) -> list[tuple[str, ...]]:
    return [
        (
            node.name,
            node.state,
            "yes" if node.connected else "no",
            f"{node.policy} {node.policy_version}" if node.policy_version else node.policy,
            remaining(node.expires_ms),
            node.last_refusal or "-",
        )
        for node in _by_urgency(glance.nodes)[:most]
    ]


def _vm_rows(glance: Glance) -> list[tuple[str, ...]]:
    newest = sorted(glance.vms, key=lambda vm: (vm.state != "running", -vm.released_ms))
    return [(vm.vm_id.hex()[:12], vm.state, vm.tenant, vm.node, str(vm.epoch)) for vm in newest[:VMS_SHOWN]]


def _print(screen: Screen, glance: Glance, before: Glance | None) -> None:
    screen.facts("perimeter", _facts(glance, before))
    if rows := _node_rows(glance, NODES_SHOWN):
        screen.table(NODE_COLUMNS, rows, style_column=1)
    if vms := _vm_rows(glance):
        screen.table(VM_COLUMNS, vms, style_column=1)


def _renderables(glance: Glance, before: Glance | None, *, rows: int) -> list[Any]:
    """The same for a screen with so many *rows*."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(glance, before).items():
        facts.add_row(Text(name, style="bold"), Text(escape(value)))
    found: list[Any] = [facts]
    vms = _vm_rows(glance)
    left = max(rows - len(_facts(glance, before)) - (len(vms) + 3 if vms else 0) - 3, 3)
    for columns, lines in ((NODE_COLUMNS, _node_rows(glance, left)), (VM_COLUMNS, vms)):
        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
        for line in lines:
            table.add_row(*(Text(escape(cell), overflow="ellipsis", no_wrap=True) for cell in line))
        if lines:
            found.append(table)
    return found
