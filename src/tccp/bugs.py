"""Bugs of ours, where one of many is served: what one peer brings out costs that peer alone, and nobody else anything.

A bug that ends the task of one peer would else end the daemon, and with it the sessions of all; whoever has found one
could do that again and again. What holds the daemon together is not contained: there a new start is the better answer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()


@contextmanager
def contained(
    what: str, *, end: Callable[[], object] = lambda: None, foreseen: tuple[type[Exception], ...] = (), **whom: str
) -> Iterator[None]:
    """Whatever is raised here and was not foreseen goes into our log with its trace, and no further.

    Args:
        what: The event in our log: ``session_bug``.
        end: Ends what cannot go on after that.
        foreseen: What the caller expects, and is raised as ever.
        whom: For whom it was done.
    """
    try:
        yield
    except foreseen:
        raise
    except Exception:
        log.exception(what, **whom)
        end()
