"""Whether the daemons' configuration files, where there are any, are such that the daemons would start."""

from pathlib import Path
from typing import TYPE_CHECKING

from tccp.cli.coordinator.keys.common import NEW_AUTHORITY
from tccp.cli.doctor.finding import Finding, Status
from tccp.errors import ConfigError

if TYPE_CHECKING:
    from tccp.config import CoordinatorConfig, NodeConfig

AREA = "configuration"


def findings(*, coordinator: Path, node: Path) -> list[Finding]:
    """Read both files as the daemons do. A machine is a coordinator or a node: one file may well be missing."""
    from tccp.config import CoordinatorConfig, NodeConfig

    return [
        _finding("coordinator", coordinator, CoordinatorConfig),
        _finding("node", node, NodeConfig),
        _authority(coordinator.with_name(NEW_AUTHORITY)),
    ]


def _authority(path: Path) -> Finding:
    """Whether what `tccp coordinator init` left for its operator to carry away was carried away."""
    check = "update_authority"
    try:
        left = path.exists()
    except PermissionError:
        return Finding(AREA, check, Status.WARN, f"{path}: closed to this user", "Run tccp doctor as root.")
    if not left:
        return Finding(AREA, check, Status.OK, "no secret key of an update authority is here")
    mend = "Move it to another machine: with it, whoever has this machine can approve what he boots."
    return Finding(AREA, check, Status.WARN, f"{path} is the secret key of the update authority", mend)


def _finding(daemon: str, path: Path, kind: "type[CoordinatorConfig] | type[NodeConfig]") -> Finding:
    from tccp.config import load_config

    try:
        if not path.exists():
            return Finding(AREA, daemon, Status.OK, f"{path} does not exist: this machine is no {daemon}")
        load_config(path, kind)
    except ConfigError as error:
        mend = error.hint or "Correct the file; the daemon refuses to start with it (tccp config check)."
        return Finding(AREA, daemon, Status.FAIL, error.detail, mend)
    except PermissionError:
        return Finding(AREA, daemon, Status.WARN, f"{path}: closed to this user", "Run tccp doctor as root.")
    return Finding(AREA, daemon, Status.OK, f"{path} is well")
