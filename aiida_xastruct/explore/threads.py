"""Where the explorer works, so that its pages go on answering: AiiDA in one thread, networks in another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Worker:
    """One thread that does one thing after the other.

    AiiDA's session belongs to the thread that first used it, and two networks at once would only take turns on the same cores. AiiDA's
    processes (calcfunctions too) run in no thread but a program's first, since they listen to signals: they are `jobs`.
    """

    def __init__(self, name: str) -> None:
        """Start no thread yet.

        Args:
            name: of the thread.
        """
        self._pool = ThreadPoolExecutor(1, name)

    async def __call__(self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """What a function returns or raises, without keeping the page waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))

    def close(self) -> None:
        """End the thread when what it does is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)
