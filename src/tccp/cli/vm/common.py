"""What the commands of ``tccp vm`` share: which VM is meant, and how one is shown."""

import argparse
import re
from typing import TYPE_CHECKING, Any

from tccp.cli.arguments import Parser
from tccp.cli.control import ask, moment, plain, stream
from tccp.cli.vm.transfer import MOVING, progress, summary
from tccp.errors import ConfigError, HostError, RefusedError

if TYPE_CHECKING:
    import msgspec

    from tccp.protocol.vm_control import VmInfo

PREFIX = re.compile(r"[0-9a-f]{1,32}")


def add_vm(parser: Parser) -> None:
    """The argument that names a VM."""
    parser.add_argument("vm", metavar="VM", type=vm_prefix, help="id of the VM, or how it begins")


def vm_prefix(text: str) -> str:
    """The beginning of a VM's id; a type for ``add_argument``."""
    if not PREFIX.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is not how the id of a VM begins: 1 to 32 hex digits")
    return text.lower()


def find_vm(args: argparse.Namespace) -> "VmInfo":
    """The one VM that ``args.vm`` names.

    Raises:
        ConfigError: ``vm_unknown``, ``vm_ambiguous``.
    """
    from tccp.protocol.vm_control import ListVms, Vms

    found = [vm for vm in ask(args, ListVms(), Vms).vms if vm.vm_id.hex().startswith(args.vm)]
    if not found:
        raise ConfigError("vm_unknown", f"no VM on this node begins with {args.vm}", hint="`tccp vm list` lists them")
    if len(found) > 1:
        raise ConfigError("vm_ambiguous", f"{len(found)} VMs begin with {args.vm}", hint="write more of the id")
    return found[0]


def settled(args: argparse.Namespace, request: "msgspec.Struct") -> "VmInfo":
    """The VM as it is once what *request* asks for has come to its end, be that good or bad.

    Raises:
        HostError: The daemon went away before.
    """
    from tccp.protocol.vm_control import VmInfo

    last: VmInfo | None = None
    for vm in stream(args, request, VmInfo):
        last = vm
    if last is None:
        raise HostError("wrong_answer", "the daemon said nothing of the VM")
    return last


def not_so(vm: "VmInfo", reason: str) -> RefusedError:
    """What was asked for has not come to be: because of what the daemon says, or else for this *reason*."""
    return RefusedError(vm.reason or reason, vm.detail or f"the VM is {vm.state}", hint=vm.hint)


def facts(vm: "VmInfo") -> dict[str, str]:
    """A VM for people."""
    return {
        "state": vm.state,
        **({"because": f"{vm.reason} {vm.detail}".strip()} if vm.reason else {}),
        "tenant": vm.tenant_key.hex(),
        "ticket": vm.ticket_sha256.hex(),
        "epoch": str(vm.epoch) if vm.epoch else "-",
        "machine": f"{vm.vcpus} vcpus, {vm.memory_mib} MiB",
        "launched": moment(vm.launched_ms),
        "started": moment(vm.started_ms),
        "ended": moment(vm.ended_ms),
        "console": vm.console or "-",
        **({"suspended state": vm.saved} if vm.saved else {}),
        **({"on its way": progress(vm.transfer)} if vm.transfer and vm.state in MOVING else {}),
        **({"move": summary(vm.transfer)} if vm.transfer and vm.transfer.total_ms else {}),
    }


def document(vm: "VmInfo") -> dict[str, Any]:
    """A VM for programs."""
    return plain(vm)
