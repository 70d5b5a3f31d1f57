"""Wiping of secrets that had to pass through Python."""

from tccp.core._lib import ffi

__all__ = ["wipe"]


def wipe(secret: bytes | bytearray) -> None:
    """Overwrite the very memory of *secret* with zeros, although ``bytes`` are said never to change.

    For buffers of our own only, of more than one byte (Python shares the shorter ones): everybody who holds the same
    object sees zeros from now on. Copies that Python or a library made elsewhere stay.
    """
    assert len(secret) != 1
    ffi.memmove(ffi.cast("uint8_t *", ffi.from_buffer(secret)), bytes(len(secret)), len(secret))
