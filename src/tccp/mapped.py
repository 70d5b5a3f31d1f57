"""Large files that are read where they lie: one copy in memory for all processes that map them."""

import mmap
from pathlib import Path

from tccp.errors import ConfigError, HostError


def map_file(path: Path, *, bytes_max: int) -> mmap.mmap:
    """The file, mapped for reading and read in once. It must not be written to as long as anybody has it mapped.

    Raises:
        ConfigError: It is empty, or longer than *bytes_max*.
        HostError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if not 0 < size <= bytes_max:
                raise ConfigError("file_size", f"{path}: {size} bytes; 1 to {bytes_max} are allowed")
            return mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    except OSError as error:
        raise HostError("file_unreadable", f"{path}: {error.strerror}") from error
