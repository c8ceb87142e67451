"""SIGINT while our code is on the main thread: it ends one callback, and loses nothing.

Python raises KeyboardInterrupt between any two lines. In a callback of the user that is right: the
callback ends, its client gets a 500. In our own lines it would lose a request that was taken from
the queue and not yet run; and out of a callback of the kernel's event loop it would end the kernel.
So a handler of ours stands while our code runs. It raises only when the innermost frame that is
ours or the user's is the user's; else it notes the interrupt, and `service()` raises it at a line
where nothing can be lost.

Main side.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import signal
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

__all__ = ["InterruptGuard"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class InterruptGuard:
    """A context in which SIGINT interrupts user code only. Main thread only; may be nested.

    State that an interrupt must not tear is changed inside the context only: the handler is put in
    place before and taken away after.
    """

    def __init__(self, user_frame: CodeType, wake: Callable[[], None]) -> None:
        """`user_frame`: code of the function that calls user code; `wake` must be reentrant."""
        self._user_frame = user_frame
        self._wake = wake
        self._previous: Any = None
        self._depth = 0
        self.obeys_ignore = True
        """Whether a SIGINT that the process ignores stays ignored. An idle kernel ignores it, and
        there it is to end the callback all the same."""
        self.pending = False
        """An interrupt came that no user code took. Asked after the context: one may come as it
        ends."""

    def __enter__(self) -> None:
        # The C functions: signal.signal wraps both values in enums, ten times as slow.
        if self._depth == 0:  # first: from the next line on the handler may be called
            self._previous = _signal.getsignal(_signal.SIGINT)
            self.pending = False
        _signal.signal(_signal.SIGINT, self._handler)
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        is_ours = self._depth == 0 and _signal.getsignal(_signal.SIGINT) == self._handler
        if is_ours and self._previous is not None:  # None: C code has put it there
            _signal.signal(_signal.SIGINT, self._previous)

    def _handler(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous
        if previous == _signal.SIG_IGN and self.obeys_ignore:  # a program in the background
            return
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, frame)  # the kernel's own, which cancels an async cell that awaits
        # A callback may be in one of our functions that queues and then wakes: an interrupt between
        # the two would leave something queued that nobody looks at. A needless wake-up mends it.
        self._wake()
        while frame is not None:
            if frame.f_code is self._user_frame:
                raise KeyboardInterrupt
            if frame.f_code in _WAITING:
                break
            frame = frame.f_back
        self.pending = True

    @staticmethod
    def waits(function: _Function) -> _Function:
        """Decorator: below this function no user code is running, though it may be further up."""
        _WAITING.add(function.__code__)
        return function


_WAITING: set[CodeType] = set()
