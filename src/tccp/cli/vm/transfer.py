"""How a VM on its way from node to node is shown."""

import sys
import time
from typing import TYPE_CHECKING

from tccp.cli.control import plain
from tccp.cli.output import print_json
from tccp.printable import escape

if TYPE_CHECKING:
    from tccp.protocol.vm_control import VmInfo, VmTransfer

LINE_EVERY_S = 1.0  # where nobody looks at a line that changes
MOVING = frozenset({"moving", "arriving"})


class Follower:
    """Shows each step of a VM to whoever waits for it, on standard error; with JSON, a line for each on the output."""

    def __init__(self, steps: dict[str, str], *, as_json: bool) -> None:
        self._steps, self._as_json = steps, as_json
        self._told = ""
        self._told_at = 0.0
        self._is_open = False  # a line that is to be written over

    def show(self, vm: "VmInfo") -> None:
        """What has changed."""
        if self._as_json:
            if vm.transfer is not None:  # a launch says what it has come to, a move how far it is, too
                print_json(plain(vm), indent=None)
                sys.stdout.flush()
            return
        name = vm.vm_id.hex()[:12]
        if vm.state != self._told and vm.state in self._steps:
            self._line(f"{name}  {self._steps[vm.state]}")
            self._told = vm.state
        if vm.state in MOVING and vm.transfer is not None and vm.transfer.sent_bytes:
            self._progress(f"{name}  {progress(vm.transfer)}")

    def close(self) -> None:
        """Leave what stands there last."""
        if self._is_open:
            print(file=sys.stderr, flush=True)
        self._is_open = False

    def _line(self, text: str) -> None:
        self.close()
        print(escape(text), file=sys.stderr, flush=True)

    def _progress(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{escape(text)}", end="", file=sys.stderr, flush=True)
            self._is_open = True
        elif time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            self._line(text)


def progress(transfer: "VmTransfer") -> str:
    """How far it is, in one line."""
    left = transfer.disk_left_bytes + transfer.memory_left_bytes
    parts = []
    if transfer.disk_bytes:
        parts.append(f"disks {_of(transfer.disk_left_bytes, transfer.disk_bytes)}")
    if transfer.memory_bytes:
        parts.append(f"memory {_of(transfer.memory_left_bytes, transfer.memory_bytes)}, round {transfer.rounds}")
    parts.append(f"{amount(transfer.bytes_per_s)}/s")
    if transfer.bytes_per_s and left:
        parts.append(f"{left / transfer.bytes_per_s:.0f} s left")
    return ", ".join(parts)


def summary(transfer: "VmTransfer") -> str:
    """What it took, in one line."""
    return (
        f"moved in {transfer.total_ms / 1000:.1f} s, stood still for {transfer.still_ms} ms; sent"
        f" {amount(transfer.state_sent_bytes)} of memory and {amount(transfer.disk_sent_bytes)} of disks"
    )


def brief(vm: "VmInfo") -> str:
    """For a table: how far it is, what it took, or a dash."""
    transfer = vm.transfer
    if transfer is None or vm.state in {"asking", "checking"}:
        return "-"
    if vm.state in MOVING:
        whole = transfer.disk_bytes + transfer.memory_bytes
        left = transfer.disk_left_bytes + transfer.memory_left_bytes
        done = 100 * (whole - left) // whole if whole else 0
        return f"{done} %, {amount(transfer.bytes_per_s)}/s"
    if transfer.total_ms:
        return f"{transfer.total_ms / 1000:.1f} s, still {transfer.still_ms} ms"
    return "-"


def amount(count: int) -> str:
    """Bytes as people read them."""
    if count < 1000:
        return f"{count} B"
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _of(left: int, whole: int) -> str:
    return f"{amount(whole - left)} of {amount(whole)}"
