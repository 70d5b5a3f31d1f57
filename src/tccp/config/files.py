"""Which configuration files there are, and who reads them."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from tccp.config.coordinator import CoordinatorConfig
from tccp.config.node import NodeConfig
from tccp.config.witness import WitnessConfig

FOLDER = Path("/etc/tccp")


class ConfigFile(NamedTuple):
    """A kind of file.

    Args:
        name: Of the file, without ``.toml``.
        about: Whose it is, to be read behind "is the configuration of".
        programs: Who reads it.
    """

    name: str
    kind: type[msgspec.Struct]
    about: str
    programs: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where it is unless somebody says otherwise."""
        return FOLDER / f"{self.name}.toml"


FILES = (
    ConfigFile(
        "coordinator",
        CoordinatorConfig,
        "a coordinator, and of what takes its checkpoints to witnesses and its events to a webhook",
        ("tccp-coordinator", "tccp-feeder", "tccp-notifier"),
    ),
    ConfigFile("node", NodeConfig, "a node", ("tccp-node",)),
    ConfigFile("witness", WitnessConfig, "a witness", ("tccp-witness",)),
)


def file_called(name: str) -> ConfigFile:
    """The kind of file with this name: ``node``."""
    return next(file for file in FILES if file.name == name)
