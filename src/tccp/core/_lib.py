"""The one place where a status of the C core becomes an exception."""

from tccp._core import ffi, lib
from tccp.errors import TccpError

__all__ = ["check", "ffi", "lib", "status_name"]


def status_name(status: int) -> str:
    """The stable lower-case name of a status, ``"nonce_mismatch"`` for ``TCCP_ERR_NONCE_MISMATCH``."""
    return str(ffi.string(lib.tccp_status_name(status)), "ascii")


def check(status: int, error: type[TccpError], detail: str = "") -> None:
    """Raise *error* with the status's name as its reason unless *status* is ``TCCP_OK``.

    Raises:
        AssertionError: The status says that we called wrongly: a bug of tccp.
        MemoryError: The core could not allocate.
        RuntimeError: libcrypto or libsodium failed where they should not.
    """
    if status == lib.TCCP_OK:
        return
    name = status_name(status)
    assert status != lib.TCCP_ERR_USAGE, f"bug in tccp.core: {detail or name}"
    if status == lib.TCCP_ERR_NO_MEMORY:
        raise MemoryError
    if status == lib.TCCP_ERR_INTERNAL:
        raise RuntimeError(f"the C core failed: {detail or name}")
    raise error(name, detail)
