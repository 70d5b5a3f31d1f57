"""``tccp coordinator export`` and ``import``: the perimeter record as a file.

The file is JSON, for people to read and compare: ``{"nodes": [{"name", "ek_id", "ek_public", "policy",
"attributes"}]}``, bytes in hexadecimal.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tccp.cli import exit_codes
from tccp.cli.arguments import Commands, add_command, add_file
from tccp.cli.control import COORDINATOR_SOCKET, add_socket, ask, plain
from tccp.cli.files import read_file
from tccp.cli.output import Screen, print_json
from tccp.errors import ConfigError

if TYPE_CHECKING:
    from tccp.protocol.control import PerimeterRecord

RECORD_BYTES_MAX = 64 << 20
BYTES_FIELDS = ("ek_id", "ek_public")


def add_parser(commands: Commands) -> None:
    """Add the commands."""
    export = add_command(
        commands,
        "export",
        run,
        summary="print the perimeter record: all enrolled nodes that are not revoked",
        about="JSON in any case: it is the file that `tccp coordinator import` reads.",
        examples=("tccp coordinator export > perimeter.json",),
    )
    imports = add_command(
        commands,
        "import",
        run_import,
        summary="enrol the nodes of a perimeter record",
        about="All that are not enrolled yet, or none of them when one is in conflict.",
        examples=(
            "tccp coordinator import perimeter.json",
            "ssh other tccp coordinator export | tccp coordinator import -",
        ),
    )
    add_file(imports, "file", summary="what `export` printed; - is standard input")
    for parser in (export, imports):
        add_socket(parser, COORDINATOR_SOCKET)


def run(args: argparse.Namespace) -> int:
    """Export."""
    from tccp.protocol.control import ExportNodes, PerimeterRecord

    print_json(plain(ask(args, ExportNodes(), PerimeterRecord)))
    return exit_codes.OK


def run_import(args: argparse.Namespace) -> int:
    """Import."""
    from tccp.protocol.control import Done, ImportNodes

    record = _record(args.file, read_file(args.file, bytes_max=RECORD_BYTES_MAX))
    done = ask(args, ImportNodes(record), Done)
    if args.json:
        print_json({"imported": done.count})
    else:
        Screen().line(f"{done.count} nodes enrolled; the others were enrolled already")
    return exit_codes.OK


def _record(path: Path, content: bytes) -> "PerimeterRecord":
    import json

    import msgspec

    from tccp.protocol.control import EnrolledNode, PerimeterRecord

    try:
        (nodes,) = _fields(json.loads(content), ("nodes",))
        nodes = [_fields(node, EnrolledNode.__struct_fields__) for node in nodes]
        # Messages are arrays on the wire; so converted, each field is held to its size.
        return msgspec.convert(["perimeter_record", nodes], PerimeterRecord, strict=True, builtin_types=(bytes,))
    except (ValueError, TypeError, RecursionError) as error:
        hint = "It must be what `tccp coordinator export` printed."
        raise ConfigError("record_malformed", f"{path}: {error}", hint=hint) from error


def _fields(table: Any, names: tuple[str, ...]) -> list[Any]:
    """The values of exactly *names*, in their order."""
    if not isinstance(table, dict) or set(table) != set(names):
        raise ValueError(f"{', '.join(names)}: one of these is missing, or there is more")
    return [bytes.fromhex(str(table[name])) if name in BYTES_FIELDS else table[name] for name in names]
