"""Whoever watches VMs: shown each once, and again when something about it has changed."""

from collections.abc import AsyncIterator
from typing import Protocol

import trio

from tccp.node.one_vm import Vm
from tccp.protocol.vm_control import VmInfo


class Watched(Protocol):
    """VMs, and a count of what has changed about them."""

    @property
    def change_count(self) -> int:
        """Grows with each change."""

    def all(self) -> list[Vm]:
        """Every VM, the newest first."""

    async def wait_for_change(self, seen: int) -> None:
        """Return once `change_count` is no longer *seen*."""


class Changes(AsyncIterator[VmInfo]):
    """A watcher: it holds what it has shown, and pulls.

    Args:
        only: Watched alone, to its end; None: all, without end.
    """

    def __init__(self, vms: Watched, only: Vm | None) -> None:
        self._vms, self._only = vms, only
        self._shown: dict[Vm, VmInfo] = {}

    async def __anext__(self) -> VmInfo:
        """The next that is new."""
        while True:
            seen = self._vms.change_count
            for vm in [self._only] if self._only else self._vms.all()[::-1]:
                if self._shown.get(vm) != (info := vm.info()):
                    self._shown[vm] = info
                    await trio.lowlevel.checkpoint_if_cancelled()
                    return info
            if self._only is not None and self._only.is_over:
                raise StopAsyncIteration
            await self._vms.wait_for_change(seen)
