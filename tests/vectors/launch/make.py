"""Make vectors.json: tickets, one for each way to be refused. Deterministic: python -m tests.vectors.launch.make"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
from nacl.signing import SigningKey

HERE = Path(__file__).parent
TENANT, STRANGER = SigningKey(b"\x11" * 32), SigningKey(b"\x12" * 32)
COORDINATOR_ID = b"\x02" * 32
NOW_S = 1_800_000_000


def fields() -> list[Any]:
    """A ticket as it should be, in plain msgpack objects, so that it can be anything else as well."""
    return [
        "tccp/v2/ticket",
        bytes(TENANT.verify_key),
        COORDINATOR_ID,
        b"\x03" * 16,
        b"\x04" * 32,
        NOW_S - 60,
        NOW_S + 3600,
        [2, 1024, "direct", "console=ttyS0", ["office"]],
        [
            ["kernel", b"\x05" * 16, b"\x06" * 32],
            ["initrd", b"\x07" * 16, b"\x08" * 32],
            ["disk", b"\x09" * 16, b"\x0a" * 32],
        ],
        b"\x0b" * 1264,
        ["tvmm", 3, {"location": "delft"}],
        {"site": "delft"},
        "registered",
        [],
    ]


def changed(change: Callable[[list[Any]], Any]) -> bytes:
    ticket = fields()
    change(ticket)
    return msgpack.packb(ticket)


def put(*path: Any) -> bytes:
    """The ticket with one value, the last of *path*, at a place."""
    *places, last, value = path

    def change(ticket: list[Any]) -> None:
        at: Any = ticket
        for place in places:
            at = at[place]
        at[last] = value

    return changed(change)


UEFI = [1, 512, "uefi", "", []]


def _version_1(ticket: list[Any]) -> None:
    ticket[0] = "tccp/v1/ticket"
    ticket.pop()


def _two_data(ticket: list[Any]) -> None:
    ticket[8] += [["data", b"\x21" * 16, b"\x22" * 32], ["data", b"\x23" * 16, b"\x24" * 32]]


def _data_alone(ticket: list[Any]) -> None:
    ticket[7:9] = [UEFI, [["data", b"\x21" * 16, b"\x22" * 32]]]


def _cmdline_alone(ticket: list[Any]) -> None:
    ticket[7:9] = [[1, 512, "uefi", "quiet", []], ticket[8][2:]]


def _initrd_alone(ticket: list[Any]) -> None:
    ticket[7:9] = [UEFI, ticket[8][1:]]


def vectors() -> list[tuple[str, str, bytes, bytes]]:
    """Name, expected reason, ticket, signature."""
    good = msgpack.packb(fields())
    disk_only = changed(lambda ticket: ticket.__setitem__(slice(7, 9), [UEFI, [ticket[8][2]]]))
    signed = [
        ("a direct boot", "accepted", good),
        ("a disk with its own boot loader", "accepted", disk_only),
        ("a kernel that the firmware measures", "accepted", put(7, 2, "uefi")),
        ("a disk in any state", "accepted", put(12, "any")),
        ("one that allows to go back", "accepted", put(13, ["rollback"])),
        ("a permission that nobody knows", "ticket_malformed", put(13, ["clone"])),
        ("a permission twice", "ticket_malformed", put(13, ["rollback", "rollback"])),
        ("an older version", "ticket_malformed", changed(_version_1)),
        ("another domain", "ticket_malformed", put(0, "tccp/v2/tickeT")),
        ("a field too few", "ticket_malformed", changed(lambda ticket: ticket.pop())),
        ("a field too many", "ticket_malformed", changed(lambda ticket: ticket.append(b""))),
        ("bytes behind the end", "ticket_malformed", good + b"\xc0"),
        ("a text where bytes are due", "ticket_malformed", put(4, "x" * 32)),
        ("a short vm id", "ticket_malformed", put(3, bytes(15))),
        ("a long nonce", "ticket_malformed", put(4, bytes(33))),
        ("no images", "ticket_malformed", put(8, [])),
        ("seventeen images", "ticket_malformed", put(8, [["disk", bytes([n]) * 16, bytes(32)] for n in range(17)])),
        ("an image of no role", "ticket_malformed", put(8, 0, 0, "floppy")),
        ("two kernels", "ticket_malformed", put(8, 1, 0, "kernel")),
        ("two files of data", "ticket_malformed", changed(_two_data)),
        ("an initrd under UEFI", "ticket_malformed", changed(_initrd_alone)),
        ("an image twice", "ticket_malformed", put(8, 1, 1, b"\x05" * 16)),
        ("a direct boot without a kernel", "ticket_malformed", put(8, 0, 0, "data")),
        ("nothing to boot from", "ticket_malformed", changed(_data_alone)),
        ("a disk in no state that there is", "ticket_malformed", put(12, "newest")),
        ("a command line without a kernel", "ticket_malformed", changed(_cmdline_alone)),
        ("firmware that nobody knows", "ticket_malformed", put(7, 2, "bios")),
        ("no processor", "ticket_malformed", put(7, 0, 0)),
        ("no memory", "ticket_malformed", put(7, 1, 0)),
        ("keys that are none", "ticket_malformed", put(9, bytes(100))),
        ("a policy without a version", "ticket_malformed", put(10, 1, 0)),
        ("over before it begins", "ticket_malformed", put(6, NOW_S - 60)),
        ("valid for years", "ticket_malformed", put(6, NOW_S + 400 * 86_400)),
        ("for another coordinator", "ticket_for_another_coordinator", put(2, b"\x0c" * 32)),
        ("not valid yet", "ticket_not_yet_valid", put(5, NOW_S + 1)),
        ("not valid any more", "ticket_expired", put(6, NOW_S)),
    ]
    found = [(name, reason, ticket, TENANT.sign(ticket).signature) for name, reason, ticket in signed]
    altered = put(7, 1, 2048)
    short = good[:40]
    return [
        *found,
        ("altered by the cloud manager", "ticket_signature", altered, TENANT.sign(good).signature),
        ("signed by a stranger", "ticket_signature", good, STRANGER.sign(good).signature),
        ("another tenant's name on it", "ticket_signature", put(1, bytes(STRANGER.verify_key)), found[0][3]),
        ("truncated", "ticket_malformed", short, TENANT.sign(short).signature),
        ("empty", "ticket_malformed", b"", TENANT.sign(b"").signature),
    ]


def main() -> None:
    """Write the file."""
    document = {
        "coordinator_id": COORDINATOR_ID.hex(),
        "now_s": NOW_S,
        "tickets": [
            {"name": name, "expect": reason, "ticket": ticket.hex(), "signature": signature.hex()}
            for name, reason, ticket, signature in vectors()
        ],
    }
    (HERE / "vectors.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
