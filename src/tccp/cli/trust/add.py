"""``tccp trust add``: verify a coordinator by a policy, and pin it."""

import argparse

from tccp.cli.arguments import Commands, add_command, add_file, add_output_file
from tccp.cli.files import read_file
from tccp.cli.trust.common import add_store, store_of, tell

POLICY = """\
The policy says what the coordinator must prove; its operator gives you the values by a way that you trust
(`tccp coordinator trust --tenant` prints them as such a file), and you decide which of them you believe:

    identity = "<64 hex digits>"           # left out: the first that is shown, with --accept-first-identity
    ek_authorities = "ek-authorities"      # a folder with certificates of TPM makers; or ek = ..., or ak = ...
    software = ["0.1.0"]                   # left out: any version
    witnesses_required = 1
    [pcrs]
    0 = ["<64 hex digits>"]
    [[witness]]
    key = "witness.example.net/w1+<id>+<key>"

A coordinator that is pinned already under this name gets the new policy, if it is the same one."""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "add",
        run,
        summary="verify a coordinator by a policy, and pin it",
        about=POLICY,
        examples=(
            "tccp trust add tc.example.net:7444 --policy tc-policy.toml",
            "tccp trust add [2001:db8::1]:7444 --policy tc-policy.toml --name ete --accept-first-identity",
        ),
    )
    parser.add_argument("address", metavar="HOST:PORT", help="the coordinator's port for tenants")
    add_file(parser, "--policy", summary="what it must prove, TOML", required=True)
    parser.add_argument("--name", metavar="NAME", help="what to call it (default: the host)")
    parser.add_argument(
        "--accept-first-identity",
        action="store_true",
        help="pin whatever identity it shows, where the policy names none: TPM and PCRs are all you know it by",
    )
    add_output_file(
        parser, "--event-log", summary="where the firmware's event log goes that it shows, be it believed or not"
    )
    add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Verify, pin, and say what was proved."""
    from tccp.errors import ProtocolError
    from tccp.tenant.policy import POLICY_BYTES_MAX, parse_tenant_policy
    from tccp.tenant.trust import add_trust, split_address

    host, _ = split_address(args.address)
    policy = parse_tenant_policy(
        read_file(args.policy, bytes_max=POLICY_BYTES_MAX), folder=args.policy.resolve().parent
    )
    try:
        look = add_trust(
            store_of(args),
            args.name or host.lower().replace(":", "."),
            args.address,
            policy,
            accept_first_identity=args.accept_first_identity,
            keep_event_log=args.event_log,
        )
    except ProtocolError as problem:
        hint = (
            problem.hint
            or f"Is {args.address} the coordinator's port for tenants? It has others for nodes and readers."
        )
        raise ProtocolError(problem.reason, problem.detail, hint=hint) from None
    return tell(args, look, "pinned")
