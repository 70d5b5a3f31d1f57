"""``tccp coordinator tenant`` and ``vms``: whose tickets count, and who owns which VM."""

import argparse
import re

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file, add_group
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, moment, plain
from tccp.cli.output import Screen, print_json

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    group = add_group(
        commands,
        "tenant",
        summary="say whose tickets count",
        examples=("tccp coordinator tenant add acme acme.pub", "tccp coordinator tenant list"),
    )
    add = add_command(
        group,
        "add",
        run_add,
        summary="let the tickets of a tenant count",
        about="The key is the tenant's public one (`tccp key generate --type tenant`). Get it by a way that you trust.",
        examples=("tccp coordinator tenant add acme acme.pub",),
    )
    remove = add_command(
        group,
        "remove",
        run_remove,
        summary="stop accepting the tickets of a tenant",
        about="VMs that run go on; no ticket of the tenant starts another.",
        examples=("tccp coordinator tenant remove acme",),
    )
    for parser in (add, remove):
        parser.add_argument("name", metavar="NAME", type=tenant_name, help="what you call the tenant")
    add_file(add, "key", summary="the tenant's public key")
    listing = add_command(
        group,
        "list",
        run_list,
        summary="list the tenants",
        about="In order of name.",
        examples=("tccp coordinator tenant list --json",),
    )
    vms = add_command(
        commands,
        "vms",
        run_vms,
        summary="list the VMs in the record, and who owns them",
        about="States: running (its node may run it), suspended, ended (its node says so), lost (its node lost its\n"
        "lease), destroyed (nobody gets its keys again).",
        examples=("tccp coordinator vms", "tccp coordinator vms --json | jq -r '.vms[].node'"),
    )
    for parser in (add, remove, listing, vms):
        add_socket(parser, COORDINATOR_SOCKET)


def tenant_name(text: str) -> str:
    """The name of a tenant; a type for ``add_argument``."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: a-z, 0-9, '-' and '.', 1 to 63 characters")
    return text


def run_add(args: argparse.Namespace) -> int:
    """Add, and show the tenant."""
    from tccp.cli.key_files import tenant_public
    from tccp.protocol.vm_control import AddTenant, TenantInfo

    info = ask(args, AddTenant(args.name, bytes(tenant_public(args.key))), TenantInfo)
    return _show(args, info, "its tickets count from now on")


def run_remove(args: argparse.Namespace) -> int:
    """Remove, and show whom."""
    from tccp.protocol.vm_control import RemoveTenant, TenantInfo

    return _show(args, ask(args, RemoveTenant(args.name), TenantInfo), "its tickets are no longer accepted")


def run_list(args: argparse.Namespace) -> int:
    """List the tenants."""
    from tccp.protocol.vm_control import ListTenants, Tenants

    answer = ask(args, ListTenants(), Tenants)
    if args.json:
        print_json(plain(answer))
    else:
        rows = [(each.name, each.key.hex(), moment(each.added_ms)) for each in answer.tenants]
        Screen().table(("name", "key", "since"), rows)
    return exit_codes.OK


def run_vms(args: argparse.Namespace) -> int:
    """List the VMs."""
    from tccp.protocol.vm_control import ListOwnedVms, OwnedVms

    answer = ask(args, ListOwnedVms(), OwnedVms)
    if args.json:
        print_json(plain(answer))
        return exit_codes.OK
    rows = [
        (vm.vm_id.hex(), vm.tenant, vm.state, vm.node, str(vm.epoch), moment(vm.released_ms), vm.end_reason or "-")
        for vm in answer.vms
    ]
    Screen().table(("vm", "tenant", "state", "node", "epoch", "released", "ended because"), rows, style_column=2)
    return exit_codes.OK


def _show(args: argparse.Namespace, info: object, what: str) -> int:
    from tccp.protocol.vm_control import TenantInfo

    assert isinstance(info, TenantInfo)
    if args.json:
        print_json(plain(info))
    else:
        screen = Screen()
        screen.facts(f"tenant {info.name}: {what}", {"key": info.key.hex(), "since": moment(info.added_ms)})
    return exit_codes.OK
