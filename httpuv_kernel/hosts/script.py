"""A plain script: never idle, callbacks run inside `service()`, `run_now()`, `run_server()`.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from .base import Host, start_task, wait_readable

__all__ = ["ScriptHost"]


class ScriptHost(Host):
    """Coroutine handlers run on a loop of ours on the main thread, which `wait` drives."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def attach(self, fd: int, drain: Callable[[], None]) -> None:
        """Nothing to do: there is no idle."""

    def detach(self) -> None:
        """Close the loop."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_running():
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            loop.close()

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> asyncio.Task[Any]:
        """A task of our loop."""
        if self._loop is None:
            self._loop = asyncio.SelectorEventLoop()
        task = start_task(self._loop, coroutine, context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def advance(self) -> None:
        """Run what is ready on our loop."""
        loop = self._loop
        if loop is not None and self._tasks and asyncio._get_running_loop() is None:
            loop.call_soon(loop.stop)
            loop.run_forever()

    def wait(self, fd: int, timeout: float) -> None:
        """Block; while tasks are under way, run our loop meanwhile."""
        loop = self._loop
        if loop is None or not self._tasks or asyncio._get_running_loop() is not None:
            wait_readable(fd, timeout)
            return
        loop.add_reader(fd, loop.stop)
        timer = loop.call_later(timeout, loop.stop)
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(fd)
            timer.cancel()
