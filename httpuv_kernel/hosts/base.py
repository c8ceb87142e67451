"""What the main side needs of a host.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import contextvars
import select
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Host", "Output", "wait_readable"]


class Output:
    """Runs functions so that what they print goes where it belongs; here: where it goes anyway."""

    follows_service = True
    """Whether inside `service()` the output of who called that is used instead."""

    def __init__(self) -> None:
        self.context = contextvars.copy_context()
        """The variables of the place that this output belongs to."""

    def run(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a whole callback."""
        # A Context cannot be entered twice, and callbacks nest: each gets a copy.
        return self.context.copy().run(function, *arguments)

    def run_step(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a step of a task that runs in a copy of `context` already."""
        return function(*arguments)

    def show_error(self, host: Host, error: BaseException, where: str) -> None:
        """Show the user what a callback raised."""
        self.run(host.show_error, error, where)


class Host(ABC):
    """One kind of program that Python runs in. Main thread, if nothing else is said."""

    interactive = False
    """Whether a person sits at it; the manual's interactive()."""

    @abstractmethod
    def attach(self, fd: int, drain: Callable[[], None]) -> None:
        """Call `drain` whenever `fd` is readable and nothing of the user's runs. Any thread."""

    @abstractmethod
    def detach(self) -> None:
        """Do so no longer. Any thread."""

    @abstractmethod
    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> asyncio.Task[Any]:
        """Start a coroutine on the host's asyncio loop, in this context."""

    def is_like(self, other: Host) -> bool:
        """Whether the other one would run callbacks at the same place."""
        return type(self) is type(other)

    def capture_output(self) -> Output:
        """The output of the place where the caller stands: in a notebook, the running cell."""
        return Output()

    def show_error(self, error: BaseException, where: str) -> None:
        """Show the user what a callback raised."""
        print(f"httpuv_kernel: {where}", file=sys.stderr)
        traceback.print_exception(type(error), error, error.__traceback__)
        sys.stderr.flush()

    def advance(self) -> bool:
        """Give coroutine handlers a turn, where nobody else does; True when they need another."""
        return False

    def wait(self, fd: int, timeout: float) -> None:
        """Block until `fd` is readable or `timeout` seconds went by."""
        wait_readable(fd, timeout)


def wait_readable(fd: int, timeout: float) -> None:
    """Block until `fd` is readable or `timeout` seconds went by."""
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(timeout * 1000)
    else:
        select.select([fd], [], [], timeout)


def start_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    context: contextvars.Context,
) -> asyncio.Task[Any]:
    """A task in this context; its first step runs at once where Python can do that (3.12)."""
    if sys.version_info >= (3, 12) and asyncio._get_running_loop() is loop:
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
    if sys.version_info >= (3, 11):
        return loop.create_task(coroutine, context=context)
    return context.run(loop.create_task, coroutine)
