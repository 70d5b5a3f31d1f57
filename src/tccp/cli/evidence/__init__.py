"""``tccp evidence``: check evidence offline, for people who debug attestation, and for scripts."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.evidence import ek, eventlog, ima, quote


def add_parser(commands: Commands) -> None:
    """Add ``tccp evidence`` and what is below it."""
    group = add_group(
        commands,
        "evidence",
        summary="check quotes, event logs, IMA lists and EK certificates offline",
        about="Each says what was checked, what was found and what was not proved; nothing is sent anywhere.",
        examples=(
            "tccp evidence quote --ak ak.pem --message quote.msg --signature quote.sig",
            "tccp evidence eventlog /sys/kernel/security/tpm0/binary_bios_measurements",
            "tccp evidence ima /sys/kernel/security/ima/binary_runtime_measurements --policy tvmm.ima",
            "tccp evidence ek ek.der --authorities /etc/tccp/ek-authorities",
        ),
    )
    for command in (quote, eventlog, ima, ek):
        command.add_parser(group)
