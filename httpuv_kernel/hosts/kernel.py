"""A Jupyter kernel, ipykernel 6.29 or later.

The kernel's own loop on the main thread watches the bridge's descriptor: it does so only while no
cell runs, or while an async cell awaits. Under `%gui` the GUI's loop watches it too.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from .asyncio_loop import AsyncioHost
from .base import Output
from .gui import GuiLoops

__all__ = ["KernelHost"]


class KernelHost(AsyncioHost):
    """Takes the loop from the kernel: a subshell's thread has another one running.

    Under `%gui qt` and `%gui tk` functions are called as ever. Coroutine handlers that wait get a
    turn every 10 ms under Qt; under Tk every 50 ms, which takes a fifth of a core meanwhile.

    Attaching and detaching in another thread, such as a subshell's, is done on the main thread; if
    that runs a GUI's loop, at the kernel's next message.
    """

    interactive = True

    def __init__(self, kernel: Any) -> None:
        super().__init__(kernel.io_loop.asyncio_loop)
        self._kernel = kernel
        self._shell = kernel.shell
        self._gui: GuiLoops | None = None

    def attach(self, fd: int, drain: Callable[[], None]) -> None:
        """Watch `fd` from the kernel's loop, and from the GUI's when there is one."""
        gui = self._gui = GuiLoops(self._kernel, fd, drain)

        def readable() -> None:
            gui.resume()  # a widget's callback may have run a GUI loop; no cell has ended then
            drain()

        super().attach(fd, readable)
        self._on_main(gui.attach)

    def detach(self) -> None:
        """Watch it no longer."""
        gui, self._gui = self._gui, None
        super().detach()
        if gui is not None and not self._loop.is_closed():
            gui.wanted = False
            self._on_main(gui.detach)

    def create_task(
        self, coroutine: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> asyncio.Task[Any]:
        """A task of the kernel's loop, which gets its turns also under `%gui`."""
        task = super().create_task(coroutine, context)
        if self._gui is not None:
            self._gui.help_along(task)
        return task

    def capture_output(self) -> Output:
        """The running cell's output, also after later cells have run."""
        if not self._kernel.get_parent("shell"):
            return Output()  # a start-up file: front ends drop what has no parent
        return CellOutput(self._shell)

    def show_error(self, error: BaseException, where: str) -> None:
        """Show the traceback as the notebook shows one."""
        import sys

        print(f"httpuv_kernel: {where}", file=sys.stderr)
        self._shell.showtraceback((type(error), error, error.__traceback__), tb_offset=0)


class CellOutput(Output):
    """The output of one cell.

    print, display and tracebacks carry the id of the message that started the cell. ipykernel 7
    keeps it in context variables, so the copied context is enough; ipykernel 6 keeps some of it in
    traits, which are exchanged around the call.
    """

    def __init__(self, shell: Any) -> None:
        super().__init__()
        self._traits = [
            (owner, owner.parent_header)
            for owner in (shell.display_pub, shell.displayhook, shell)
            if hasattr(owner, "parent_header")
            and not isinstance(getattr(owner, "_parent_header", None), contextvars.ContextVar)
        ]
        if self._traits:
            self.run = self._run_exchanged  # type: ignore[method-assign]
            self.run_step = self._exchanged  # type: ignore[method-assign]

    def _run_exchanged(self, function: Callable[..., Any], *arguments: object) -> Any:
        return self._exchanged(self.context.copy().run, function, *arguments)

    def _exchanged(self, function: Callable[..., Any], *arguments: object) -> Any:
        previous = [(owner, owner.parent_header) for owner, _ in self._traits]
        for owner, header in self._traits:
            owner.parent_header = header
        try:
            return function(*arguments)
        finally:
            for owner, header in previous:
                owner.parent_header = header
