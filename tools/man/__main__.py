"""``python -m tools.man FOLDER``: write all manual pages there. SOURCE_DATE_EPOCH is their date, if it is set."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from tools.man.commands import command_pages
from tools.man.files import file_pages
from tools.man.roff import Page


def pages(date: str) -> list[Page]:
    """All of them."""
    return [*command_pages(date), *file_pages(date)]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    for page in pages(f"{moment:%Y-%m-%d}"):
        (folder / page.file_name).write_text(page.render(), encoding="ascii")
