"""``tccp policy check``: is this a policy, who signed it, and what does it not look at?"""

import argparse
from typing import TYPE_CHECKING

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json
from tccp.cli.policy.common import SIGNED_POLICY_BYTES_MAX, policy_body

if TYPE_CHECKING:
    from tccp.attestation.boot_policy import BootPolicy


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "check",
        run,
        summary="check a policy, and the signature of a signed one",
        about="Reads the whole file and says what the policy demands, and what it leaves open. With --key it must be\n"
        "signed by that key.",
        examples=("tccp policy check tvmm.toml", "tccp policy check tvmm.signed --key operator.pub"),
    )
    add_file(parser, "policy", summary="the policy, signed or not")
    add_file(parser, "--key", summary="public key of the operator who must have signed it")


def run(args: argparse.Namespace) -> int:
    """Check and say."""
    from tccp.attestation.boot_policy import BootPolicy, parse_any_policy
    from tccp.attestation.signed_policy import is_signed, verify_policy
    from tccp.cli.key_files import operator_public

    content = read_file(args.policy, bytes_max=SIGNED_POLICY_BYTES_MAX)
    signature = "none"
    if args.key is not None:
        key = operator_public(args.key)
        body = verify_policy(content, [key])
        signature = f"by {bytes(key).hex()}"
    else:
        body = policy_body(content)
        signature = "not checked: --key says by whom it must be" if is_signed(content) else "none"
    policy = parse_any_policy(body)
    found = {
        "name": policy.name,
        "version": str(policy.version),
        "sha256": policy.sha256.hex(),
        "signature": signature,
        "quotes": f"{policy.selection.bank.hash_name} PCR {', '.join(map(str, policy.selection.indexes))}",
    }
    found |= {f"attests {name}": value for name, value in sorted(policy.attributes.of_all.items())}
    if policy.attributes.by_ek:
        found["attests of hosts"] = f"{len(policy.attributes.by_ek)} by their endorsement keys"
    left_open = []
    if isinstance(policy, BootPolicy):
        found |= {name: mode.value for name, mode in policy.sections.items()}
        left_open = leaves_open(policy)
    if args.json:
        print_json({**found, "left_open": left_open})
        return exit_codes.OK
    screen = Screen()
    screen.facts(f"{args.policy}: a policy", found)
    screen.list("left open", left_open, style="warn")
    return exit_codes.OK


def leaves_open(policy: "BootPolicy") -> list[str]:
    """What a platform may do that this policy does not see, in sentences."""
    from tccp.attestation.boot_policy import SECTION_PCRS, Mode

    absent = [name for name in SECTION_PCRS if name not in policy.sections]
    said = [f"{name}: there is no such section" for name in absent if name != "boot_files"]
    said += [f"{name}: it only warns" for name, mode in policy.sections.items() if mode is Mode.WARN]
    if policy.secure_boot is not None and policy.secure_boot.state != "on":
        said.append("secure_boot: it may be off")
    line = policy.command_line
    if line is not None and line.lines is None:
        said.append("command_line: any words that are not forbidden")
    if line is not None and not any(word.startswith("lockdown=") for word in line.rules.required):
        said.append("command_line: lockdown= is not required, so root may write to the kernel's memory")
    if policy.ima_sha256 is None:
        said.append("ima: files that are run later are not seen")
    return said
