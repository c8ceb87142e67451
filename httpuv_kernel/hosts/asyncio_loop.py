"""A program whose main thread runs an asyncio loop: `asyncio.run(main())`, `python -m asyncio`.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from .base import Host, start_task

__all__ = ["AsyncioHost"]


class AsyncioHost(Host):
    """Callbacks run as callbacks of that loop; coroutine handlers are its tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._fd = -1

    def is_like(self, other: Host) -> bool:
        """Whether the other one has the same loop."""
        return isinstance(other, AsyncioHost) and self._loop is other._loop

    def attach(self, fd: int, drain: Callable[[], None]) -> None:
        """Watch `fd` from the loop."""
        self._fd = fd
        self._on_main(self._loop.add_reader, fd, drain)

    def detach(self) -> None:
        """Watch it no longer."""
        if not self._loop.is_closed():
            self._on_main(self._loop.remove_reader, self._fd)

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> asyncio.Task[Any]:
        """A task of the loop."""
        return start_task(self._loop, coroutine, context)

    def _on_main(self, function: Callable[..., object], *arguments: object) -> None:
        if threading.current_thread() is threading.main_thread():
            function(*arguments)
        else:  # a worker thread, or a subshell of a kernel
            self._loop.call_soon_threadsafe(function, *arguments)
