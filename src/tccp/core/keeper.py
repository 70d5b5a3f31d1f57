"""The keeper of processes: csrc/keeper.c as one Python function."""

import os

from tccp.core._lib import ffi, lib
from tccp.errors import HostError

GUARDED_MAX: int = lib.TCCP_KEEPER_GUARDED_MAX
MESSAGE_BYTES = 8


def keep(control: int) -> None:
    """Keep processes until the other end of *control* is closed; ``tccp_keeper_run`` in csrc/tccp_process.h tells how.

    Raises:
        HostError: ``no_keeper``: it could not begin.
    """
    if lib.tccp_keeper_run(control) != lib.TCCP_OK:
        raise HostError("no_keeper", os.strerror(ffi.errno))
