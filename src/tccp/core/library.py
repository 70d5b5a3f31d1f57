"""Which libraries the C core runs with; see ``tccp_library_versions`` in ``csrc/tccp_status.h``."""

from typing import NamedTuple

from tccp.core._lib import ffi, lib


class LibraryInfo(NamedTuple):
    """Versions as the loaded libraries tell them, and how the core was built."""

    openssl: str
    sodium: str
    crypto_mb_built: bool


def library_versions() -> LibraryInfo:
    """The libraries of this process."""
    info = ffi.new("tccp_library_info *")
    lib.tccp_library_versions(info)
    return LibraryInfo(
        openssl=str(ffi.string(info.openssl), "ascii"),
        sodium=str(ffi.string(info.sodium), "ascii"),
        crypto_mb_built=bool(info.crypto_mb_built),
    )
