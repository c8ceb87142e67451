"""An asyncio loop of ours on the main thread, for hosts that have none for coroutine handlers.

It is run a turn at a time: by the idle host, and by `service()`. A turn may be taken inside a
callback of another loop, such as the prompt's.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import Any

from .base import Host, start_task, wait_readable

__all__ = ["OwnLoopHost", "TurnLoop"]


class TurnLoop(asyncio.SelectorEventLoop):
    """Says when it needs its next turn. Main thread."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        self._timers: list[float] = []  # of cancelled calls, too: they cost an empty turn
        self._is_ready = False
        super().__init__(selector)
        self._poll = selector.select
        self._get_fd = getattr(selector, "fileno", None)  # epoll and kqueue have it

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """As in asyncio; notes that a turn is needed."""
        self._is_ready = True
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As in asyncio; notes when a turn is needed."""
        heappush(self._timers, when)
        return super().call_at(when, callback, *args, context=context)

    def fileno(self) -> int:
        """A descriptor that is readable when one of the loop's is; -1 where there is none."""
        return -1 if self._get_fd is None else self._get_fd()

    def due_in(self) -> float | None:
        """Seconds until it needs a turn, its descriptors aside; None when it needs none."""
        if self._is_ready:
            return 0.0
        return max(0.0, self._timers[0] - self.time()) if self._timers else None

    def needs_turn(self) -> bool:
        """Whether a turn would run something."""
        return self.due_in() == 0.0 or bool(self._poll(0))

    def turn(self) -> None:
        """Run what is ready."""
        self.call_soon(self.stop)
        self._is_ready = False
        now = self.time()
        while self._timers and self._timers[0] <= now:  # this turn runs them
            heappop(self._timers)
        with _no_loop_running():
            self.run_forever()

    def run_until_readable(self, fd: int, timeout: float) -> None:
        """Run until this descriptor is readable, or for so many seconds."""
        self.add_reader(fd, self.stop)
        timer = super().call_at(self.time() + timeout, self.stop)
        try:
            with _no_loop_running():
                self.run_forever()
        finally:
            self.remove_reader(fd)
            timer.cancel()


@contextmanager
def _no_loop_running() -> Generator[None, None, None]:
    """asyncio refuses to run a loop inside another one's callback, though it can."""
    outer = asyncio._get_running_loop()
    task = None if outer is None else asyncio.current_task(outer)
    if outer is not None and task is not None:
        asyncio.tasks._leave_task(outer, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)
        if outer is not None and task is not None:
            asyncio.tasks._enter_task(outer, task)


class OwnLoopHost(Host):
    """A host whose coroutine handlers run on a `TurnLoop`."""

    def __init__(self) -> None:
        self.loop: TurnLoop | None = None
        """Made for the first coroutine."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def detach(self) -> None:
        """End the tasks and close the loop."""
        loop, self.loop = self.loop, None
        if loop is None or loop.is_running():
            return
        for task in self._tasks:
            task.cancel()
        with _no_loop_running():
            if self._tasks:
                loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        loop.close()

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> asyncio.Task[Any]:
        """A task of our loop."""
        if self.loop is None:
            self.loop = TurnLoop()
            self.loop_made(self.loop)
        task = start_task(self.loop, coroutine, context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def loop_made(self, loop: TurnLoop) -> None:
        """For hosts that watch the loop while they are idle."""

    def advance(self) -> bool:
        """Run what is ready on our loop; True when more is."""
        loop = self.loop
        if loop is None or loop.is_running():
            return False
        if loop.needs_turn():
            loop.turn()
        return loop.due_in() == 0.0

    def wait(self, fd: int, timeout: float) -> None:
        """Block; run our loop meanwhile."""
        loop = self.loop
        if loop is None or loop.is_running():
            wait_readable(fd, timeout)
            return
        loop.run_until_readable(fd, timeout)
