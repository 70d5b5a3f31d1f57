"""``tccp ticket create``: sign a ticket for one start of one VM."""

import argparse
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_demands, add_file, number_in
from tccp.cli.exit_codes import UsageError
from tccp.cli.files import PUBLIC_MODE, refuse_existing, write_new
from tccp.cli.key_files import add_secret
from tccp.cli.output import Screen, print_json
from tccp.cli.ticket.pinned import add_coordinator, pinned_coordinator

if TYPE_CHECKING:
    from tccp.protocol.ticket import Firmware, Role, SignedTicket
    from tccp.tenant.vm_file import TicketTerms, UnlockedImage, VmFile

ROLES: "tuple[Role, ...]" = ("kernel", "initrd", "disk", "data")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
EARLY_S = 300  # clocks differ
# What a ticket can say (`tccp.protocol.ticket`, which is slow to import); a test compares.
VALID_S_MAX = 366 * 86_400 - EARLY_S
VCPUS, MEMORY_MIB = range(1, 257), range(16, (1 << 22) + 1)


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "create",
        run,
        summary="sign a ticket for one start of one VM",
        about="Each image is opened with --key, so that its key can be wrapped to the pinned coordinator's release\n"
        "key. --vm names the file in which you keep the VM: its id, its key and the tickets that you signed. It is\n"
        "made if it is not there; the same one again means the same VM with its disk, started another time.",
        examples=(
            "tccp ticket create web.ticket --vm web.vm --disk web.sealed --policy tvmm --sign tenant.key --key me.key",
            'tccp ticket create t --vm v --kernel k.sealed --initrd i.sealed --cmdline "console=ttyS0" --policy tvmm:3 '
            "--attested location=delft --valid 2h --sign tenant.key --key me.key",
        ),
    )
    add_file(parser, "out", summary="where to write the ticket")
    add_file(parser, "--vm", summary="file of the VM, yours alone", required=True)
    add_secret(parser, "--sign", summary="your secret tenant key, which signs", required=True)
    add_secret(parser, "--key", summary="secret key of a recipient of the images: yours", required=True)
    for role, what in (
        ("kernel", "sealed kernel, to boot it directly"),
        ("initrd", "sealed initrd of that kernel"),
        ("data", "sealed file that the guest finds as opt/org.tccp/data, once it has started"),
    ):
        add_file(parser, f"--{role}", summary=what)
    parser.add_argument(
        "--disk", metavar="FILE", type=Path, action="append", default=[], help="sealed disk; may be given again"
    )
    parser.add_argument("--cmdline", metavar="TEXT", default="", help="command line of the kernel")
    parser.add_argument(
        "--measured",
        action="store_true",
        help="start the kernel through UEFI, which measures it, the initrd and the command line into the vTPM",
    )
    parser.add_argument(
        "--any-disk-state",
        action="store_true",
        help="take the VM's disk as it is found: after a host died nobody can say that it is the newest",
    )
    parser.add_argument(
        "--allow-rollback",
        action="store_true",
        help="let the provider keep states of the VM (`tccp vm snapshot`), and have it go on from an older one",
    )
    parser.add_argument("--vcpus", metavar="N", type=number_in(VCPUS), default=1, help="processors (default: 1)")
    parser.add_argument(
        "--memory", metavar="MIB", type=number_in(MEMORY_MIB), default=512, help="memory, MiB (default: 512)"
    )
    parser.add_argument("--network", metavar="NAME", action="append", default=[], help="a network to join")
    parser.add_argument(
        "--policy",
        metavar="NAME[:VERSION]",
        type=policy_demand,
        required=True,
        help="policy that must have admitted the node, in this version or a later one",
    )
    add_demands(
        parser,
        attribute="what must be said of the node, by its evidence or by whoever enrolled it",
        attested="what the node's evidence must say, whatever was asserted",
    )
    parser.add_argument(
        "--valid", metavar="TIME", type=duration, default=86_400, help="how long: 90s, 30m, 24h, 7d (default: 24h)"
    )
    add_coordinator(parser)


def policy_demand(text: str) -> tuple[str, int]:
    """``NAME`` or ``NAME:VERSION``; a type for ``add_argument``."""
    name, colon, version = text.partition(":")
    if not name or (colon and not re.fullmatch(r"[1-9][0-9]{0,17}", version)):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME:VERSION")
    return name, int(version) if colon else 1


def duration(text: str) -> int:
    """A time such as ``24h``, in seconds; a type for ``add_argument``."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90s, 30m, 24h or 7d")
    seconds = int(found[1]) * UNITS_S[found[2]]
    if seconds > VALID_S_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is longer than the year that a ticket may hold")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Unlock the images, sign, and keep the VM before the ticket is there."""
    from tccp.cli.key_files import recipient_secret, tenant_secret
    from tccp.protocol.encoding import encode
    from tccp.tenant.vm_file import alone_in, write_ticket, write_vm_file

    refuse_existing(args.out)
    tenant, recipient = tenant_secret(args.sign), recipient_secret(args.key)
    terms = _terms(args)
    images = [
        _unlock(role, path, recipient)
        for role in ROLES
        for path in (args.disk if role == "disk" else [getattr(args, role)])
        if path is not None
    ]
    with alone_in(args.vm.parent):
        signed, noted = write_ticket(_vm(args.vm), images, terms, tenant)
        write_vm_file(args.vm, noted)
    write_new(args.out, encode(signed), PUBLIC_MODE)
    return _tell(args, signed)


def _terms(args: argparse.Namespace) -> "TicketTerms":
    import time

    from tccp.image.keys import RecipientPublicKey
    from tccp.protocol.ticket import PolicyDemand, VmShape
    from tccp.tenant.vm_file import TicketTerms

    attributes, attested = dict(args.attribute), dict(args.attested)
    if len(attributes) < len(args.attribute) or len(attested) < len(args.attested):
        raise UsageError("usage", "an --attribute or --attested is given twice")
    if not (args.kernel or args.disk):
        raise UsageError("usage", "a VM boots from a --kernel or a --disk")
    pinned, now = pinned_coordinator(args), int(time.time())
    name, version = args.policy
    firmware: Firmware = "direct" if args.kernel and not args.measured else "uefi"
    return TicketTerms(
        coordinator_id=pinned.coordinator_id,
        release_key=RecipientPublicKey(pinned.release_key_raw),
        not_before_s=now - EARLY_S,
        not_after_s=now + args.valid,
        shape=VmShape(args.vcpus, args.memory, firmware, args.cmdline, tuple(args.network)),
        policy=PolicyDemand(name, version, attested),
        attributes=attributes,
        disk_state="any" if args.any_disk_state else "registered",
        permissions=("rollback",) if args.allow_rollback else (),
    )


def _vm(path: Path) -> "VmFile":
    from tccp.tenant.vm_file import new_vm, read_vm_file

    return read_vm_file(path) if path.exists() else new_vm()


def _unlock(role: "Role", path: Path, recipient: object) -> "UnlockedImage":
    from tccp.cli.image.arguments import sealed_image
    from tccp.image.sealed import unlock_image
    from tccp.tenant.vm_file import UnlockedImage

    with ExitStack() as stack:
        image = stack.enter_context(sealed_image(path))
        return UnlockedImage(role, image.info, unlock_image(image, recipient))  # type: ignore[arg-type]


def _tell(args: argparse.Namespace, signed: "SignedTicket") -> int:
    from tccp.cli.ticket.show import document, facts
    from tccp.protocol.ticket import verify_ticket

    verified = verify_ticket(signed.ticket, signed.signature)
    if args.json:
        print_json({"file": str(args.out), "vm_file": str(args.vm), **document(verified)})
        return exit_codes.OK
    screen = Screen()
    screen.line(f"{args.out}: a ticket for one start of this VM; give it to the provider with the images")
    screen.facts("says", facts(verified))
    screen.line(f"{args.vm}: the VM's key and tickets; keep it to yourself, it verifies the launch")
    return exit_codes.OK
