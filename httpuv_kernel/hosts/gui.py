"""GUI loops of a kernel, `%gui qt` and `%gui tk`: they watch the bridge's descriptor as well.

While one of them is on, the kernel's asyncio loop stands still from one message to the next. The
descriptor is readable until somebody has looked at the queue, so no wake-up is lost when the loops
take turns. Nothing of a toolkit is imported before its loop is on.

Imports neither side.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, ClassVar, Final

__all__ = ["GuiLoops"]

_OVERLOOKED: Final = 500  # milliseconds


class Watcher(ABC):
    """Calls `readable` from a toolkit's loop while a descriptor is readable. Main thread."""

    pulse: ClassVar[int]
    """Milliseconds between the turns of asyncio, when tasks need some."""

    def __init__(
        self,
        kernel: Any,
        fd: int,
        readable: Callable[[], None],
        tasks: Collection[asyncio.Task[Any]],
    ) -> None:
        """`tasks`: those of the kernel's asyncio loop that are to be helped along."""
        self._kernel = kernel
        self._tasks = tasks
        # Its own: Tcl hangs on a descriptor that another thread closes before this is closed.
        self._fd = os.dup(fd)
        self._readable = readable
        self._is_on = False
        self._is_closed = False
        self._pulses = False

    def enable(self, on: bool) -> None:
        """Watch, or do not."""
        if on != self._is_on:
            self._is_on = on
            self._enable(on)

    def close(self) -> None:
        """Watch it no longer."""
        self.enable(False)
        self._is_closed = True
        os.close(self._fd)

    def help_along(self) -> None:
        """As long as there are tasks, have the kernel leave this loop for a moment every so often.

        asyncio's loop then runs, and the kernel enters this one anew. It is the kernel's own way
        from a GUI's loop to a message; running asyncio's loop inside this one would lose messages.
        Before ipykernel 6.30 there is no such way, and tasks wait for the next message.
        """
        if self._is_unfinished and not self._pulses:
            self._pulses = True
            self._call_later(0, self._pulse)

    def look_after(self) -> None:
        """From now on see to it that the kernel overlooks no message for longer than a moment.

        ipykernel may enter this loop, or stay in it, with a message unread that came just then;
        none is announced any more until that one has been read.
        """
        if not self._is_closed:
            self._call_later(_OVERLOOKED, self.look_after)
            # To look takes note of a message, so that must be read: only where the kernel does so.
            looks = self.is_idle and self._exit is not None and not self._pulses
            if looks and _has_unread(self._kernel):
                self._leave()
            self.help_along()

    @property
    def _is_unfinished(self) -> bool:
        """Whether asyncio's loop is to run."""
        if self._tasks:
            return True
        # ipykernel 7 may enter this loop while a message that it has read waits for the other; 6
        # looks at its queue before, and leaves things there that need not be done.
        ready = getattr(self._kernel.io_loop.asyncio_loop, "_ready", ())
        return bool(ready) and not hasattr(self._kernel, "msg_queue")

    def _pulse(self) -> None:
        self._pulses = self._is_unfinished and not self._is_closed and self._leave()
        if self._pulses:
            self._call_later(self.pulse, self._pulse)

    @property
    def _exit(self) -> Callable[[float], None] | None:
        """How the kernel leaves this loop in so many seconds, if it can."""
        return getattr(self._kernel.eventloop, "_schedule_exit", None)

    def _leave(self) -> bool:
        """Have the kernel leave this loop, if that is its own; False when it has no way to."""
        leave = self._exit
        if leave is not None and self.is_idle:
            leave(0)
        return leave is not None

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether the loop that runs is the kernel's, and not one that a cell runs inside it."""

    @abstractmethod
    def _enable(self, on: bool) -> None: ...

    @abstractmethod
    def _call_later(self, milliseconds: int, function: Callable[[], None]) -> None: ...


def _has_unread(kernel: Any) -> bool:
    """Whether a message of the main shell is there that the kernel has not read."""
    from zmq import POLLIN, ZMQError

    try:
        from ipykernel.eventloops import get_shell_stream
    except ImportError:  # ipykernel 6, early 7
        stream = kernel.shell_stream
    else:
        stream = get_shell_stream(kernel)  # type: ignore[no-untyped-call]
    # Early ipykernel 7 has no such function, and its stream is another thread's.
    if stream is None or stream.io_loop is not kernel.io_loop or stream.closed():
        return False
    with suppress(ZMQError):  # it ends
        return bool(stream.socket.EVENTS & POLLIN)
    return False


class QtWatcher(Watcher):
    """Any Qt that the kernel can use."""

    pulse = 10

    def __init__(self, kernel: Any, fd: int, readable: Callable[[], None], *more: Any) -> None:
        from IPython.external.qt_for_kernel import QtCore

        super().__init__(kernel, fd, readable, *more)
        self._single_shot = QtCore.QTimer.singleShot
        kind = QtCore.QSocketNotifier.Type.Read
        self._notifier = QtCore.QSocketNotifier(self._fd, kind, kernel.app)
        self._notifier.setEnabled(False)
        self._notifier.activated.connect(lambda *_: readable())

    def close(self) -> None:
        """Also when it is its own signal that led here."""
        super().close()
        with suppress(RuntimeError):
            self._notifier.deleteLater()

    @property
    def is_idle(self) -> bool:
        """Said by ipykernel."""
        return bool(getattr(getattr(self._kernel, "app", None), "_in_event_loop", False))

    def _enable(self, on: bool) -> None:
        with suppress(RuntimeError):  # `%gui` has let go of the application: it is gone with it
            self._notifier.setEnabled(on)

    def _call_later(self, milliseconds: int, function: Callable[[], None]) -> None:
        self._single_shot(milliseconds, function)


class TkWatcher(Watcher):
    """Tcl watches for all interpreters of a thread, so a bare one will do; timers likewise.

    A Tcl interpreter that another thread frees aborts the process. The traceback of a callback
    refers to the frames below it and so to ipykernel's root window, and Python may collect it in
    any thread. So interpreters are kept until only this refers to them.
    """

    pulse = 50  # entering takes ipykernel 10 ms: it makes a root window each time

    _bare: ClassVar[Any] = None
    _roots: ClassVar[list[Any]] = []

    def __init__(self, *arguments: Any) -> None:
        import tkinter

        super().__init__(*arguments)
        if TkWatcher._bare is None:
            TkWatcher._bare = tkinter.Tcl().tk
        self._mask = tkinter.READABLE

    @property
    def is_idle(self) -> bool:
        """The wrapper of the root window is there from entering to leaving."""
        return hasattr(self._kernel, "app_wrapper")

    def _enable(self, on: bool) -> None:
        if on:
            self._bare.createfilehandler(self._fd, self._mask, self._on_file)
        else:
            self._bare.deletefilehandler(self._fd)

    def _call_later(self, milliseconds: int, function: Callable[[], None]) -> None:
        self._bare.createtimerhandler(milliseconds, function)

    def _on_file(self, *_: object) -> None:
        if self.is_idle:
            self._keep(self._kernel.app_wrapper.app.tk)
        self._readable()

    @classmethod
    def _keep(cls, interpreter: Any) -> None:
        if not any(interpreter is each for each in cls._roots):
            # Three: the list, the name, the argument.
            cls._roots = [each for each in cls._roots if sys.getrefcount(each) > 3]
            cls._roots.append(interpreter)


# By the name of `kernel.eventloop`. Under those that are not here, such as wx, callbacks wait for
# the kernel's next message.
_WATCHERS: dict[str, type[Watcher]] = {
    "loop_qt": QtWatcher,
    "loop_qt5": QtWatcher,
    "loop_tk": TkWatcher,
}


def _on_main() -> bool:
    return threading.current_thread() is threading.main_thread()


class GuiLoops:
    """Has a descriptor watched by the GUI loop that the kernel runs, whichever and when."""

    def __init__(self, kernel: Any, fd: int, drain: Callable[[], None]) -> None:
        self._kernel = kernel
        self._fd = fd
        self._drain = drain
        self._watcher: Watcher | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.wanted = True
        """False from `detach` on, in any thread: the descriptor may be closed from then on."""

    def attach(self) -> None:
        """Begin. Main thread."""
        self._kernel.observe(self._changed, names="eventloop")
        self._kernel.shell.events.register("post_execute", self.resume)
        self._watch()

    def detach(self) -> None:
        """Take back all of it. Main thread."""
        self._kernel.unobserve(self._changed, names="eventloop")
        self._kernel.shell.events.unregister("post_execute", self.resume)
        self._unwatch()

    def resume(self) -> None:
        """Watch again: no cell runs a GUI loop now."""
        if self._watcher is not None and _on_main():  # a cell of a subshell says nothing
            self._watcher.enable(True)

    def help_along(self, task: asyncio.Task[Any]) -> None:
        """Give a task of the kernel's asyncio loop its turns."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._watcher is not None:
            self._watcher.help_along()

    def _changed(self, _: object) -> None:
        if _on_main():  # of a subshell, ipykernel runs the GUI's loop in the subshell
            self._watch()

    def _watch(self) -> None:
        self._unwatch()
        kind = _WATCHERS.get(getattr(self._kernel.eventloop, "__name__", ""))
        if kind is not None and self.wanted:
            with suppress(ImportError):  # no such toolkit: its loop will not run either
                self._watcher = kind(self._kernel, self._fd, self._readable, self._tasks)
                self._watcher.enable(True)
                self._watcher.look_after()

    def _unwatch(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()

    def _readable(self) -> None:
        watcher = self._watcher
        if watcher is None:
            return
        if watcher.is_idle and self.wanted:
            self._drain()
        else:  # it stays readable, which would keep the loop spinning
            watcher.enable(False)
