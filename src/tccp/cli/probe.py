"""``tccp probe``: is that node what it should be, right now, before anything of mine goes there?"""

import argparse

from tccp.cli.arguments import Commands, add_command, add_output_file, node_name
from tccp.cli.control import moment
from tccp.cli.evidence.verdict import Report
from tccp.cli.files import PUBLIC_MODE, refuse_existing, write_new
from tccp.cli.key_files import add_secret
from tccp.cli.ticket.pinned import add_coordinator
from tccp.cli.trust.common import store_of

HINTS = {
    "tenant_unknown": "The operator of the coordinator has not taken in the key of --sign, or removed it.",
    "node_not_admitted": "It is not connected, was put out, or never was a node of this perimeter.",
    "no_fresh_evidence": "It did not quote in time, or what it quoted did not hold. Send nothing there.",
}


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "probe",
        run,
        summary="have a node prove itself before anything secret goes there",
        about="The pinned coordinator proves itself, then has the node quote, and says in its log that it held. The\n"
        "receipt says so to others. A launch later names the same boot, if it is the same.",
        examples=(
            "tccp probe rack1-07 --sign acme.key --receipt rack1-07.receipt",
            "tccp probe rack1-07 --sign a.key --json",
        ),
    )
    parser.add_argument("node", metavar="NODE", type=node_name, help="name of the node at the coordinator")
    add_secret(parser, "--sign", summary="your secret tenant key, which the coordinator knows", required=True)
    add_output_file(parser, "--receipt", summary="where the receipt of the coordinator's log goes")
    add_coordinator(parser)


def run(args: argparse.Namespace) -> int:
    """Probe, keep the receipt, and say what was proved."""
    from tccp.cli.key_files import tenant_secret
    from tccp.errors import EvidenceError, RefusedError
    from tccp.tenant.probe import probe_node

    refuse_existing(args.receipt)
    key = tenant_secret(args.sign)
    report = Report(args.node)
    try:
        probe, receipt = probe_node(store_of(args), args.coordinator, args.node, key)
    except (RefusedError, EvidenceError) as refusal:
        hint = HINTS.get(refusal.reason, refusal.hint)
        return report.end(type(refusal)(refusal.reason, refusal.detail, hint=hint), as_json=args.json)
    if args.receipt:
        write_new(args.receipt, receipt, PUBLIC_MODE)
    policy, version = probe.policy
    head = probe.receipt.checkpoint.checkpoint
    report.checked = [
        "the coordinator is the one that was pinned, and proved itself on this connection",
        f"it says that {args.node} quoted after we asked, and that its evidence holds by {policy} version {version}",
        f"its log says so as entry {probe.receipt.index} of {head.size}, with our nonce, and continues what was seen",
    ]
    report.found = {
        "evidence no older than": moment(probe.evidence_ms),
        "boot": probe.boot_id.hex(),
        "identity of the boot": probe.identity_sha256.hex(),
        **{f"{name}, attested": value for name, value in sorted(probe.attributes.attested.items())},
        **{f"{name}, asserted": value for name, value in sorted(probe.attributes.asserted.items())},
    }
    report.not_proved = [
        "what the node runs after that moment; keys are released on fresh evidence again",
        f"that {policy} is a policy that you would write: ask for its text",
    ]
    if probe.attributes.asserted:
        report.not_proved.append("what is asserted of the node: whoever enrolled it says so")
    report.more = {"node": args.node, "policy": policy, "policy_version": version, "log_index": probe.receipt.index}
    return report.end(None, as_json=args.json, accepted="accepted")
