"""Errors as they are, where nurseries put groups around them."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from tccp.errors import TccpError


@contextmanager
def alone() -> Iterator[None]:
    """Let an error out as itself, where nurseries put a group around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error  # noqa: B904 - it is the very same error


@contextlib.asynccontextmanager
async def together() -> AsyncGenerator[Callable[..., None]]:
    """What is started with what this gives runs beside the block; the block waits for it at its end.

    The first `TccpError` among them ends all the others, and is raised alone.
    """
    problems: list[TccpError] = []

    async def guarded(work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        try:
            await work(*arguments)
        except TccpError as problem:
            problems.append(problem)
            nursery.cancel_scope.cancel()

    def begin(work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        nursery.start_soon(guarded, work, *arguments)

    with alone():
        async with trio.open_nursery() as nursery:
            try:
                yield begin
            except TccpError as problem:
                problems.append(problem)
                nursery.cancel_scope.cancel()
    if problems:
        raise problems[0]
