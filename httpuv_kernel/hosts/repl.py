"""The plain `python` prompt, `python -i`, IPython's `--simple-prompt`.

While such a prompt waits for a key it calls PyOS_InputHook, a C function pointer, again and again.
Ours returns when a key is there, and meanwhile runs callbacks.

Imports neither side.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import functools
import logging
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from .base import Host
from .own_loop import OwnLoopHost
from .prompt_screen import Prompt, off_the_line, prompt_above

__all__ = ["ReplHost", "has_prompt"]

log = logging.getLogger("httpuv_kernel")

_STDIN = 0
_TK_TICK = 0.02  # seconds; as Tk's own hook
_SOON = 0.01  # seconds, in which the prompt gets from the hook to its select()


def has_prompt() -> bool:
    """Whether this process shows a prompt of Python's own, at the latest when its script ends."""
    asks = hasattr(sys, "ps1") or sys.flags.interactive or sys.flags.inspect
    if sys.platform != "linux" or "idlelib.run" in sys.modules:
        return False
    if not (asks or os.environ.get("PYTHONINSPECT")):
        return False
    # Without a terminal the prompt reads ahead: keys would wait where poll() does not see them.
    return os.isatty(_STDIN) and _find_slot() is not None


class ReplHost(OwnLoopHost):
    """Holds PyOS_InputHook from `attach` to `detach`.

    Ctrl-C needs no handler of ours here: at the prompt it is the user's, which raises in the hook,
    and then once more where the prompt takes it; in a callback it is `drain`'s.
    """

    interactive = True

    def __init__(self) -> None:
        super().__init__()
        self._fd = -1
        self._drain: Callable[[], object] = bool
        self._slot = _find_slot()
        self._before: int | None = None
        self._stranger: int | None = None
        self._address: int | None = None
        self._calls_again = True

    def is_like(self, other: Host) -> bool:
        """Whether the other one is such a host, too, and would not find another slot."""
        if not isinstance(other, ReplHost) or self._slot is None:
            return False
        return self._holds_slot if self._stranger is None else self._slot.value == self._stranger

    def attach(self, fd: int, drain: Callable[[], None]) -> None:
        """Watch `fd` from every prompt."""
        self._fd = fd
        self._drain = drain
        if self._slot is None:
            return
        before = self._slot.value
        if before is not None and not _is_tks(before):
            self._stranger = before
            warnings.warn(
                f"{_library_of(before)} holds PyOS_InputHook, so nothing is answered while the "
                "prompt waits; service() answers",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        self._before = before
        calls = self._calls()
        next(calls)  # to where the first call of the hook goes on
        hook = _HOOK_TYPE(functools.partial(next, calls, 0))
        _KEPT.append(hook)
        self._address = self._slot.value = _address_of(hook)
        _attached.add(self)

    def detach(self) -> None:
        """Leave the slot as it was."""
        self.let_go()
        super().detach()

    def let_go(self) -> None:
        """Leave the slot as it was, and all else as it is: in a forked child it is the parent's."""
        self._put(self._before)
        self._fd = -1
        _attached.discard(self)

    @property
    def _holds_slot(self) -> bool:
        if self._slot is None or self._address is None or self._fd == -1:
            return False
        return self._slot.value in (self._address, _NOTHING)

    def _put(self, address: int | None) -> None:
        """Change what the slot holds, if that is ours."""
        if self._slot is not None and self._holds_slot:
            self._slot.value = address

    # -- the hook --------------------------------------------------------------------------------

    def _calls(self) -> Generator[int, None, None]:
        """Each `next` is one call of the hook, which must not raise.

        Python handles a signal as the first thing of a function, ahead of any `try` in it: Ctrl-C
        pressed just before the call would raise out of the hook. A generator goes on where it
        was, inside its `try`. The next such place is the end of a loop's turn, hence two loops:
        keys that are hammered come that fast.
        """
        interrupted = False
        while True:
            try:
                self._put(self._address)
                while True:
                    try:
                        if interrupted:
                            self._interrupt_prompt()
                            interrupted = False
                        yield 0
                        self._put(_NOTHING)  # callbacks may read a line themselves
                        self._wait_for_key()
                        self._put(self._address)
                    except Exception:
                        log.exception("nothing is answered at the prompt any more")
                        self.let_go()
                    except BaseException:  # the user's handler: KeyboardInterrupt, SystemExit
                        interrupted = True
            except BaseException:
                interrupted = True

    def _interrupt_prompt(self) -> None:
        """Have SIGINT once more while the prompt is in its own select(), which then ends."""
        self._put(_NOTHING)  # with the hook in between the prompt would not see it
        threading.Thread(target=self._send_interrupt, daemon=True).start()

    def _send_interrupt(self) -> None:
        time.sleep(_SOON)
        if not self._calls_again:  # the next line's call is the only one
            self._put(self._address)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(_SOON)
        # If the signal was too early for select(), the next call of the hook begins with it.
        self._put(self._address)

    def _wait_for_key(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        prompt = prompt_above(_frame_below_hook())
        if prompt is None:
            return
        self._calls_again = prompt.calls_again
        while self._fd != -1 and not prompt.has_input:
            ready = self._poll()
            _pump_tk()
            if ready - {_STDIN} or (self.loop is not None and self.loop.due_in() == 0.0):
                self._run(prompt)
            if _STDIN in ready:
                return

    def _poll(self) -> set[int]:
        """Wait for a key, for callbacks, for our loop; the descriptors that are ready."""
        poller = select.poll()
        poller.register(_STDIN, select.POLLIN)
        poller.register(self._fd, select.POLLIN)
        due = None
        if self.loop is not None:
            poller.register(self.loop.fileno(), select.POLLIN)
            due = self.loop.due_in()
        if _tk_root() is not None:
            due = _TK_TICK if due is None else min(due, _TK_TICK)
        return {fd for fd, _ in poller.poll(None if due is None else due * 1000)}

    def _run(self, prompt: Prompt) -> None:
        with _late_interrupts(), off_the_line(prompt):
            self._drain()


def _frame_below_hook() -> FrameType | None:
    generator = sys._getframe(2)  # of `_calls`
    return generator.f_back


@contextmanager
def _late_interrupts() -> Generator[None, None, None]:
    """Inside it SIGINT ends a callback, by the guard of `drain`; else it is raised at the end."""
    came = False

    def note(*_: object) -> None:
        nonlocal came
        if _signal.getsignal(_signal.SIGINT) is note:  # else the guard has passed it on
            came = True

    previous = _signal.signal(_signal.SIGINT, note)
    try:
        yield
    finally:
        if _signal.getsignal(_signal.SIGINT) is note and previous is not None:
            _signal.signal(_signal.SIGINT, previous)
    if came:
        raise KeyboardInterrupt


# -- the slot ------------------------------------------------------------------------------------

_HOOK_TYPE = ctypes.CFUNCTYPE(ctypes.c_int)

_KEPT: list[object] = []
"""Every hook there was: the slot keeps none alive, and one may let go of the slot as it runs."""

_attached: set[ReplHost] = set()


def _after_fork_in_child() -> None:
    for host in list(_attached):
        host.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _address_of(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


_NOTHING = _address_of(ctypes.pythonapi.Py_IsInitialized)
"""Stands in the slot while the hook must not be called. Were it empty, the prompt would not come
back to look every 0.1 s, and a toolkit would think the slot free."""


def _find_slot() -> ctypes.c_void_p | None:
    try:
        return ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
    except (AttributeError, ValueError):  # no CPython, or one that shows no such name
        return None


class _SymbolInfo(ctypes.Structure):
    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _library_of(address: int) -> str:
    """The file of the library that a C function is in."""
    info = _SymbolInfo()
    ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    return os.fsdecode(info.file or b"something unknown")


# -- Tk ------------------------------------------------------------------------------------------


def _is_tks(address: int) -> bool:
    """Whether a hook is Tk's: it need not be called, for we run Tk as it would."""
    return "_tkinter" in os.path.basename(_library_of(address))


def _tk_root() -> Any:
    """The window of Tk that was made first, if it is still there."""
    return getattr(sys.modules.get("tkinter"), "_default_root", None)


def _pump_tk() -> None:
    root = _tk_root()
    with suppress(Exception):  # Tk shows what its callbacks raise; what is left is its own end
        while root is not None and root.tk.dooneevent(2):  # _tkinter.DONT_WAIT
            root = _tk_root()
