"""What witness.toml leads to on this machine."""

from pathlib import Path

from tccp.cli.config.common import look_at_note_key, look_at_ports
from tccp.cli.config.finding import Report
from tccp.cli.config.paths import look_at_config_file, look_at_state
from tccp.config.witness import WitnessConfig

USER = "tccp-witness"


def look(report: Report, config: WitnessConfig) -> None:
    """Note all that the daemon would stumble over."""
    from tccp.transparency.note import is_key_name

    look_at_config_file(report, report.path, user=USER)
    look_at_state(report, ("state_directory",), Path(config.state_directory), user=USER)
    look_at_ports(report, {"listen": (config.listen.address, config.listen.port)})
    if not is_key_name(config.name):
        report.fail(("name",), f'"{config.name}" can be no name of a key', "Write it without blanks and '+'.")
    if not config.logs:
        report.warn(("logs",), "no log is witnessed", "Add a [[logs]] with the key that `tccp trust show` prints.")
    for number, log in enumerate(config.logs):
        look_at_note_key(report, ("logs", number, "key"), log.key)
