"""Messages that wait for each other, so that one packet has them all; for a moment at most.

Who lets them wait lets them out again, as a rule at once. If it cannot, because user code runs, a
thread does.

Main side; any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import sleep
from typing import Final

from ..messages import Message

__all__ = ["HeldBack"]

_LONGEST: Final = 0.002  # seconds; half of it as a rule
_JOIN_TIMEOUT: Final = 1.0


class HeldBack:
    """The messages, and the thread, which there is from the first message on."""

    def __init__(self, let_out: Callable[[], None]) -> None:
        """`let_out`: takes what waits, and sends it. Called in a thread of its own."""
        self._messages: deque[Message] = deque()
        self._let_out = let_out
        self._waits = threading.Event()  # something does
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, message: Message) -> None:
        """Let a message wait. One thread at a time."""
        self._messages.append(message)
        if not self._waits.is_set():
            self._waits.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="httpuv-held", daemon=True)
            self._thread.start()

    def take(self) -> list[Message]:
        """All that wait; two threads that take at once have some each."""
        taken: list[Message] = []
        while self._messages:
            try:
                taken.append(self._messages.popleft())
            except IndexError:  # the other had the last
                break
        return taken

    def close(self) -> None:
        """End the thread; nobody adds any more."""
        self._closed = True
        self._waits.set()
        if self._thread is not None:
            self._thread.join(_JOIN_TIMEOUT)

    def _run(self) -> None:
        while not self._closed:
            self._waits.wait()
            sleep(_LONGEST)
            self._waits.clear()  # first: what is added from here on sets it again
            if self._messages:
                self._let_out()
