"""IPython in a terminal, 8.12 or later.

While a prompt is shown prompt_toolkit runs an asyncio loop, a new one for each prompt, also under
`%gui`. It watches the bridge's descriptor; so does the loop of an async cell, which runs while the
cell awaits. What a callback prints at the prompt appears above it: IPython sees to that.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from .base import Host
from .own_loop import OwnLoopHost, TurnLoop

__all__ = ["TerminalHost"]

_PAUSE = 0.002  # between two turns of coroutines that always need another; the prompt has its own


class TerminalHost(OwnLoopHost):
    """Coroutine handlers run on a loop of ours: the prompt's ends with the prompt."""

    interactive = True

    def __init__(self, shell: Any) -> None:
        super().__init__()
        self._app = shell.pt_app.app
        self._shell = shell
        self._fd = -1
        self._drain: Callable[[], None] = lambda: None
        self._watching: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle | None] = {}
        """The loops that watch, each with its timer for the next turn of ours."""

    def is_like(self, other: Host) -> bool:
        """Whether the other one has the same prompt; an embedded IPython has its own."""
        return isinstance(other, TerminalHost) and self._app is other._app

    def attach(self, fd: int, drain: Callable[[], None]) -> None:
        """Watch `fd` from every prompt, and from cells that await."""
        self._fd = fd
        self._drain = drain
        self._shell.events.register("pre_execute", self._look)
        self._app.after_render.add_handler(self._rendered)
        if threading.current_thread() is threading.main_thread():
            self._look()
        else:
            self._app.invalidate()  # the prompt, if one is shown, is drawn again

    def detach(self) -> None:
        """Watch it no longer."""
        self._shell.events.unregister("pre_execute", self._look)
        self._app.after_render.remove_handler(self._rendered)
        watching, self._watching = self._watching, {}
        fds = self._fds()
        for loop, timer in watching.items():
            if loop.is_closed():
                continue
            if threading.current_thread() is threading.main_thread():
                _unwatch(loop, fds, timer)
            else:
                loop.call_soon_threadsafe(_unwatch, loop, fds, timer)
        super().detach()

    def loop_made(self, loop: TurnLoop) -> None:
        """Watch it, too."""
        for other in self._watching:
            if not other.is_closed():
                other.add_reader(loop.fileno(), self._run)

    def show_error(self, error: BaseException, where: str) -> None:
        """Show the traceback as IPython shows one."""
        print(f"httpuv_kernel: {where}", file=sys.stderr)
        # IPython 8 leaves out the first frame, which is its own in a cell.
        self._shell.showtraceback((type(error), error, error.__traceback__), tb_offset=0)

    def _rendered(self, app: Any) -> None:
        """The prompt was drawn: for the first time, or once more for a key."""
        if app.loop is not None and app.loop not in self._watching:
            self._watch(app.loop)

    def _look(self) -> None:
        """A cell begins. If it is an async cell, its loop runs already."""
        loop = asyncio._get_running_loop()
        if loop is not None and loop not in self._watching:
            self._watch(loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        for old in [old for old in self._watching if old.is_closed()]:
            del self._watching[old]
        self._watching[loop] = None
        for fd in self._fds():
            loop.add_reader(fd, self._run)
        self._plan()

    def _fds(self) -> list[int]:
        return [self._fd] if self.loop is None else [self._fd, self.loop.fileno()]

    def _run(self) -> None:
        with _ctrl_c_interrupts(self._app.input):
            self._drain()
        self._plan()

    def _plan(self) -> None:
        """Come back when our loop needs a turn; whichever loop runs by then."""
        due = None if self.loop is None else self.loop.due_in()
        for loop, timer in self._watching.items():
            if timer is not None:
                timer.cancel()
            self._watching[loop] = (
                None
                if due is None or loop.is_closed()
                else loop.call_later(max(due, _PAUSE), self._run)
            )


def _unwatch(
    loop: asyncio.AbstractEventLoop, fds: list[int], timer: asyncio.TimerHandle | None
) -> None:
    for fd in fds:
        loop.remove_reader(fd)
    if timer is not None:
        timer.cancel()


@contextmanager
def _ctrl_c_interrupts(terminal: Any) -> Generator[None, None, None]:
    """While a prompt is shown Ctrl-C is a key, which nobody reads while a callback runs.

    Inside it sends SIGINT, and the prompt's loop hears nothing of it: it would throw away what is
    typed there.
    """
    try:
        fd = terminal.fileno()
        old = termios.tcgetattr(fd)
    except (termios.error, OSError, NotImplementedError):  # no terminal
        yield
        return
    if old[_MODES] & termios.ISIG:  # no prompt is shown: an async cell awaits
        yield
        return
    wakeup = signal.set_wakeup_fd(-1)
    _set_mode(fd, _with_ctrl_c(fd, old))
    try:
        yield
    finally:
        _set_mode(fd, old)
        signal.set_wakeup_fd(wakeup)


_MODES, _KEYS = 3, 6  # in what tcgetattr returns


def _with_ctrl_c(fd: int, attributes: list[Any]) -> list[Any]:
    """The same mode, but for Ctrl-C; what is typed meanwhile is kept."""
    changed = [*attributes]
    changed[_MODES] |= termios.ISIG | termios.NOFLSH
    changed[_KEYS] = keys = [*attributes[_KEYS]]
    for key in (termios.VQUIT, termios.VSUSP):  # they stay the prompt's
        keys[key] = bytes([os.fpathconf(fd, "PC_VDISABLE")])
    return changed


def _set_mode(fd: int, attributes: list[Any]) -> None:
    with suppress(termios.error):  # the terminal has gone meanwhile
        termios.tcsetattr(fd, termios.TCSANOW, attributes)
