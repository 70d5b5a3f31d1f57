"""``tccp policy``: write policies, look at them, and try them on evidence. All of it works offline."""

from tccp.cli.arguments import Commands, add_group
from tccp.cli.policy import check, compile_command, diff, explain, from_packages, learn, predict, sign


def add_parser(commands: Commands) -> None:
    """Add ``tccp policy`` and what is below it."""
    group = add_group(
        commands,
        "policy",
        summary="write policies, compare them, and say why one refuses a host",
        about="Measured-boot policies are rules on firmware, secure boot, loader, kernel, initrd and command line;\n"
        "compiled IMA policies list files. `tccp coordinator policy` puts policies in force.",
        examples=(
            "tccp policy learn host.log --pcrs host.pcrs --name tvmm > tvmm.toml",
            "tccp policy explain tvmm.toml --log refused.log --pcrs refused.pcrs",
            "tccp policy diff tvmm-1.toml tvmm-2.toml",
            "tccp policy predict --kernel vmlinuz --initrd initrd.img --command-line 'ro lockdown=integrity'",
            "tccp policy from-packages *.deb > files.sha256",
            "tccp policy compile tvmm.ima --list files.sha256",
        ),
    )
    for command in (learn, check, explain, diff, predict, sign, compile_command, from_packages):
        command.add_parser(group)
