"""Big-endian bytes of the TPM, written and read (TPM 2.0 Library, Part 2, 4). Reading never runs past the end."""

from tccp.core.memory import wipe
from tccp.errors import TpmError


def u8(value: int) -> bytes:
    """One byte."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Two bytes."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Four bytes."""
    return value.to_bytes(4, "big")


def tpm2b(value: bytes) -> bytes:
    """*value* behind its length in two bytes."""
    return u16(len(value)) + value


class Reader:
    """A cursor over what the TPM answered.

    Every method raises TpmError ``tpm_malformed_response`` where the bytes end too early, so a parser has the shape
    of the specification and checks nothing itself but `finish`.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        """The next *count* bytes."""
        if count > self.remaining:
            raise malformed(f"{count} bytes wanted at offset {self._position}, {self.remaining} are left")
        self._position += count
        return self._data[self._position - count : self._position]

    def uint(self, size: int) -> int:
        """The next unsigned integer of *size* bytes."""
        return int.from_bytes(self.take(size), "big")

    def tpm2b(self) -> bytes:
        """The next sized buffer, without its size."""
        return self.take(self.uint(2))

    def count(self, item_bytes_min: int) -> int:
        """The length of a list, refused at once when the items cannot fit into what is left."""
        count = self.uint(4)
        if count * item_bytes_min > self.remaining:
            raise malformed(f"a list of {count} items in {self.remaining} bytes")
        return count

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.remaining)

    def wipe(self) -> None:
        """Overwrite all of the bytes, which held a secret; nothing can be read any more."""
        wipe(self._data)
        self._position = len(self._data)

    def finish(self) -> None:
        """Refuse bytes that nobody asked for."""
        if self.remaining:
            raise malformed(f"{self.remaining} bytes too many")


def malformed(detail: str) -> TpmError:
    """The error for an answer that is no answer."""
    return TpmError(
        "tpm_malformed_response",
        detail,
        hint="What answers there does not speak TPM 2.0; check that the TCTI names a TPM.",
    )
