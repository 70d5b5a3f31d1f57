"""The process of one disk: it is given everything as descriptors, and opens nothing.

    3   our supervisor: we write one JSON document a line; when it can be read, or has closed, we end
    4   the listening socket
    5   the disk's file, opened for reading and writing, and locked
    6   the key, 32 bytes up to the end
    7   the sealed base image
    8   where we are asked for marks, as `tccp.disk.asking` has it

Lines: ``{"ready": true}``, then at the end ``{"root": "...", "mark": "..."}``; or ``{"error": reason, "detail": ...}``.
"""

import json
import os
import socket
import sys

SUPERVISOR, LISTENER, DISK, KEY, BASE, ASKED = 3, 4, 5, 6, 7, 8


def main() -> int:
    """Serve, write everything, say the root. Arguments: our parent, whom to become or -, the root of the
    image, that of the disk or -, a mark that it must have come by or -, a size or -.
    """
    # Once confined, the process opens no files any more: what it may need in the end is imported before.
    import traceback  # noqa: F401, PLC0415

    from tccp.core.child import give_up  # noqa: PLC0415
    from tccp.core.disk import BaseImage, DiskKey, LiveDisk, confine, create_disk, serve_nbd  # noqa: PLC0415
    from tccp.core.process import harden  # noqa: PLC0415
    from tccp.disk.asking import answering_one  # noqa: PLC0415
    from tccp.disk.file import is_unmade  # noqa: PLC0415
    from tccp.errors import TccpError  # noqa: PLC0415

    parent, user, base_root, root, mark, size = sys.argv[1:]
    try:
        give_up(None if user == "-" else int(user), int(parent))
        harden()
        key = DiskKey(KEY)
        os.close(KEY)
        base = BaseImage(BASE, key, root=bytes.fromhex(base_root))
        expected, not_before = (None if value == "-" else bytes.fromhex(value) for value in (root, mark))
        if expected is None and not_before is None and is_unmade(DISK):
            create_disk(DISK, key, base.size_bytes if size == "-" else int(size), base=base)
        with (
            LiveDisk(DISK, key, base=base, root=expected, not_before=not_before) as disk,
            socket.socket(fileno=ASKED) as asked,
        ):
            key.wipe()
            confine()
            with answering_one(disk, asked, SUPERVISOR):
                _say({"ready": True})
                serve_nbd(disk, LISTENER, SUPERVISOR)
            disk.flush()
            last = disk.mark()  # what the disk is closed at is beyond it, and the same
            _say({"root": disk.close().hex(), "mark": last.hex()})
    except TccpError as problem:
        _say({"error": problem.reason, "detail": problem.detail, "fault": type(problem).__name__})
        return 1
    return 0


def _say(document: dict[str, object]) -> None:
    os.write(SUPERVISOR, json.dumps(document).encode() + b"\n")
