"""``tccp coordinator enrol``: take a TPM into the perimeter record."""

import argparse

from tccp.cli.arguments import Commands, add_command, add_file, name_value, node_name, text_of
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask
from tccp.cli.coordinator.nodes import show_node
from tccp.cli.exit_codes import UsageError
from tccp.cli.files import read_file

CERTIFICATE_BYTES_MAX = 65_536


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "enrol",
        run,
        summary="enrol a node by the endorsement key of its TPM",
        about="A name and an endorsement key belong to each other for ever: neither can be used again, not even\n"
        "after the node was revoked. The certificate is verified against the coordinator's EK authorities; a\n"
        "bare key is trusted because you say so.",
        examples=(
            "tccp coordinator enrol rack1-07 --policy tvmm-2026 --ek-certificate rack1-07.der --attribute site=delft",
            "tccp coordinator enrol lab-1 --policy lab --ek-public ek.pem",
        ),
    )
    parser.add_argument("name", metavar="NAME", type=node_name, help="name of the node: a-z, 0-9, '-' and '.'")
    parser.add_argument(
        "--policy", metavar="POLICY", type=text_of(63), required=True, help="the policy that judges the node"
    )
    keys = parser.add_mutually_exclusive_group(required=True)
    add_file(keys, "--ek-certificate", summary="EK certificate, DER or PEM (tccp node ek writes it)")
    add_file(keys, "--ek-public", summary="EK public key: PEM, DER, TPM2B_PUBLIC or TPMT_PUBLIC (tccp node ek)")
    parser.add_argument(
        "--attribute",
        metavar="NAME=VALUE",
        type=name_value,
        action="append",
        default=[],
        help="something that you assert of the node, for tenants to ask for; may be given again",
    )
    add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Enrol, and show the node as it stands in the record."""
    from tccp.cli.keys import PUBLIC_KEY_BYTES_MAX, public_key_bytes
    from tccp.protocol.control import EnrolNode, NodeInfo

    attributes = dict(args.attribute)
    if len(attributes) < len(args.attribute):
        raise UsageError("usage", "an --attribute is given twice")
    certificate = read_file(args.ek_certificate, bytes_max=CERTIFICATE_BYTES_MAX) if args.ek_certificate else b""
    public = public_key_bytes(read_file(args.ek_public, bytes_max=PUBLIC_KEY_BYTES_MAX)) if args.ek_public else b""
    request = EnrolNode(args.name, certificate, public, args.policy, attributes)
    return show_node(args, ask(args, request, NodeInfo))
