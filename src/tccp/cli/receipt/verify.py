"""``tccp receipt verify``: what a receipt proves, and what it does not; offline, by pinned trust alone."""

import argparse
from typing import TYPE_CHECKING, Any

from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.control import moment
from tccp.cli.evidence.verdict import Report
from tccp.cli.files import read_file
from tccp.cli.log.common import short
from tccp.cli.trust.common import add_store, store_of
from tccp.errors import ConfigError, EvidenceError

if TYPE_CHECKING:
    from tccp.tenant.trust_store import PinnedCoordinator, TrustStore
    from tccp.transparency.receipt import VerifiedReceipt

HINTS = {
    "witnesses": "It was made before they had seen its head; `tccp log prove RECEIPT` makes one under the newest head.",
    "inclusion": "The entry was altered, or it never was in this log.",
    "receipt_malformed": "Receipts of a launch or a destruction are for `tccp vm verify` and `verify-destruction`.",
}
# What an entry of each kind says has happened.
MEANINGS = {
    "start": "the coordinator started, with these keys and this software",
    "policy": "a policy came in force",
    "shadow": "a version was put beside a policy to judge without deciding, or was taken away",
    "enrol": "a node was taken into the perimeter",
    "assign": "a node was to be judged by another policy",
    "attributes": "something else was asserted of a node",
    "admit": "a node proved what it is, and was given a lease",
    "refuse": "a node was refused",
    "end": "the lease of a node ended",
    "revoke": "a node was put out of the perimeter",
    "reinstate": "a node's revocation was taken back",
    "remove": "a node was removed from the record",
    "tenant": "a tenant was taken on, or put out",
    "release": "a node was given the keys of a tenant's VM",
    "told": "a node was told that it is out",
    "probe": "a node quoted because a tenant asked, and its evidence held",
    "stop": "a VM was stopped, and the root of its disk recorded",
    "suspend": "a VM was suspended, and the root of its state recorded",
    "resume": "a node was given the keys of a suspended VM, to go on from its newest state",
    "destroy": "a VM was destroyed",
    "move": "a node was asked to send a VM to another",
    "moved": "a VM became the destination's, once its source had wiped it",
    "stayed": "a move was given up, and the VM stayed where it was",
    "keys_sealed": "the coordinator's keys were sealed to its TPM",
    "keys_restored": "the coordinator's keys were restored from shares of its officers",
    "keys_backed_up": "the coordinator's keys were given to officers in shares",
    "approval_installed": "another state of the coordinator's machine was approved by its authority",
    "approvals_ended": "older approvals for the coordinator's machine were ended",
}


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "verify",
        run,
        summary="say what a receipt proves, and what it does not",
        about="Nobody is asked: the key of the log, and how many witnesses must have cosigned it, are those that were\n"
        "pinned by `tccp trust add`.",
        examples=("tccp receipt verify rack1-07.receipt", "tccp receipt verify rack1-07.receipt --json"),
    )
    add_file(parser, "file", summary="the receipt")
    add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Verify, and report."""
    from tccp.tenant.pinned_log import pinned_log_of
    from tccp.transparency.receipt import RECEIPT_BYTES_MAX

    data = read_file(args.file, bytes_max=RECEIPT_BYTES_MAX)
    report = Report(str(args.file))
    try:
        pinned = _whose(data, store_of(args))
        receipt = pinned_log_of(pinned).verify(data)
    except EvidenceError as refusal:
        hint = refusal.hint or HINTS.get(refusal.reason, "")
        return report.end(type(refusal)(refusal.reason, refusal.detail, hint=hint), as_json=args.json)
    _describe(report, receipt, pinned)
    return report.end(None, as_json=args.json, accepted="proved")


def _whose(data: bytes, store: "TrustStore") -> "PinnedCoordinator":
    """The pinned coordinator whose log the receipt claims to be of."""
    from tccp.transparency.checkpoint import parse_checkpoint
    from tccp.transparency.note import parse_note
    from tccp.transparency.receipt import decode_receipt

    origin = parse_checkpoint(parse_note(decode_receipt(data).checkpoint).text).origin
    for pinned in map(store.load, store.names()):
        if pinned.origin == origin:
            return pinned
    hint = "`tccp trust add` pins a coordinator; without that, nobody says whose signature counts."
    raise ConfigError("not_pinned", f"it is of the log {origin!r}, which no pinned coordinator keeps", hint=hint)


def _describe(report: Report, receipt: "VerifiedReceipt", pinned: "PinnedCoordinator") -> None:
    head, witnessed = receipt.checkpoint.checkpoint, receipt.checkpoint.witnessed_s
    report.checked = [
        f"the log of the coordinator {pinned.name} has, as entry {receipt.index}: {receipt.kind}"
        + (f" ({MEANINGS[receipt.kind]})" if receipt.kind in MEANINGS else ""),
        f"it is under a head of {head.size} entries that the coordinator's log key signed",
        *(f"{key.name} saw that head at {moment(1000 * at_s)}" for key, at_s in witnessed.items()),
    ]
    report.found = {"time, by the coordinator's clock": moment(receipt.at_ms)}
    report.found |= {name: short(value) for name, value in receipt.public.items()}
    if receipt.details is None:
        report.not_proved.append("whom it concerns: this receipt has no details")
    else:
        report.checked.append("the details are those that the entry commits to")
        report.found |= {f"detail {name}": short(value) for name, value in receipt.details.items()}
    report.not_proved.append("that the coordinator's machine told the truth: that its quote at the time must show")
    if not witnessed:
        report.not_proved.append("that others see the same log: no witness of your policy cosigned this head")
    if head.size != pinned.head.size:
        report.not_proved.append(
            f"that this head and the one of {pinned.head.size} entries that you saw are of one history; "
            "`tccp log prove` fetches a receipt under the newest head"
        )
    report.not_proved.append("what happened after it")
    report.more = {"receipt": _document(receipt)}


def _document(receipt: "VerifiedReceipt") -> dict[str, Any]:
    head = receipt.checkpoint.checkpoint
    return {
        "kind": receipt.kind,
        "at_ms": receipt.at_ms,
        "public": receipt.public,
        "details": receipt.details,
        "index": receipt.index,
        "origin": head.origin,
        "size": head.size,
        "root": head.root,
        "witnessed": {key.name: at_s for key, at_s in receipt.checkpoint.witnessed_s.items()},
    }
