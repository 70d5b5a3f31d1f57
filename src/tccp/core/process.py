"""What a process gives up before it comes to hold secrets."""

from tccp.core._lib import check, lib
from tccp.errors import HostError

__all__ = ["harden"]


def harden() -> None:
    """No core dumps, no debuggers, no privileges by executing, for this process and for good.

    Raises:
        HostError: ``os_error``: the kernel refuses to.
    """
    check(lib.tccp_process_harden(), HostError, "prctl")
