"""A progress bar on standard error, where somebody looks at it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tccp.core.image import ImageProgress
    from tccp.image.job import Watch


@contextlib.contextmanager
def progress_bar(title: str, *, as_json: bool) -> Iterator["Watch | None"]:
    """What to call with the progress of a job; None where standard error is no terminal."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False, highlight=False),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None)

        def watch(progress: "ImageProgress") -> None:
            bar.update(task, completed=progress.done_bytes, total=progress.total_bytes or None)

        yield watch
