"""The bridge between the network side and the main side: two channels of plain values.

A channel is a queue and one file descriptor that is readable while the queue may hold something.
Any thread puts, one thread takes. The descriptor is written when the queue goes from looked-at to
not looked-at, so a batch costs one wake-up, and whatever loop the reader runs (asyncio, libuv, Qt,
Tk, a poll) can watch it.

Both ends live here; neither side's objects do. With `check_plain` every message is marshalled both
ways, which proves that it could cross to another process.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

import asyncio
import itertools
import marshal
import os
import socket
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import Any, Final, Protocol

from .errors import NetworkError
from .messages import Message

__all__ = ["Bridge", "Channel", "Gathering", "NetworkEnd", "Questions", "WakeFd"]

_FEW: Final = 3
_TOGETHER: Final = 500e-6  # a message waits for others so long, and until its turn is over


class WakeFd:
    """A descriptor that is readable from `set` to `clear`; both never block, in any thread."""

    def __init__(self, fd: int = -1) -> None:
        """`fd`: what `share` gave in another process; such a one can only be set."""
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        if sys.platform == "linux" and fd != -1:
            self._fd = fd
        elif fd != -1:
            self._writer = socket.socket(fileno=fd)
            self._fd = fd
        elif sys.platform == "linux":
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._reader, self._writer = socket.socketpair()
            for end in (self._reader, self._writer):
                end.setblocking(False)
            self._fd = self._reader.fileno()

    def fileno(self) -> int:
        """The descriptor to watch for reading; -1 once closed."""
        return self._fd

    def share(self) -> int:
        """The descriptor by which a child process that inherits it can set it."""
        return self._fd if self._writer is None else self._writer.fileno()

    def set(self) -> None:
        """Make it readable."""
        try:
            if self._writer is None:
                os.eventfd_write(self._fd, 1)
            else:
                self._writer.send(b"\0")
        except BlockingIOError:  # full: readable already
            pass
        except (OSError, ValueError):  # ValueError: -1 is no descriptor
            if self._fd != -1:
                raise

    def clear(self) -> None:
        """Make it unreadable."""
        try:
            if self._reader is None:
                os.eventfd_read(self._fd)
            else:
                while len(self._reader.recv(4096)) == 4096:
                    pass
        except BlockingIOError:  # not readable already
            pass

    def close(self) -> None:
        """Close it; a later `set` does nothing. Call it when nobody watches any more."""
        fd, self._fd = self._fd, -1
        if fd == -1:
            return
        if self._reader is None or self._writer is None:
            os.close(fd)
        else:
            self._reader.close()
            self._writer.close()


class Channel:
    """One direction of the bridge."""

    __slots__ = ("_armed", "_queue", "wake")

    def __init__(self) -> None:
        self._queue: deque[Any] = deque()
        self._armed = False
        self.wake = WakeFd()

    def put(self, item: object) -> None:
        """Queue an item and wake the reader if it sleeps. Any thread."""
        self._queue.append(item)
        # The reader lowers `_armed` before it looks at the queue, so an item it does not see is one
        # whose writer sees `_armed` lowered, and wakes it.
        if not self._armed:
            self._armed = True
            self.wake.set()

    def put_quietly(self, item: object) -> bool:
        """Queue an item; True when the caller is to set `wake`, soon."""
        self._queue.append(item)
        if self._armed:
            return False
        self._armed = True
        return True

    def take(self) -> Iterator[Any]:
        """What is queued, until the queue is empty. The reader's thread only."""
        self._armed = False
        queue = self._queue
        while queue:
            yield queue.popleft()

    def nudge(self) -> None:
        """Wake the reader whatever the state says. Any thread.

        An interrupt may cut `put` between its lines; a spurious wake-up mends that and costs
        nothing.
        """
        self._armed = True
        self.wake.set()

    def disarm(self) -> None:
        """Have the next `put` wake the reader; the reader looks at the queue after this."""
        self._armed = False

    def hold(self) -> None:
        """Wake the reader for nothing but `nudge` until it takes again."""
        self._armed = True
        self.wake.clear()

    def __len__(self) -> int:
        return len(self._queue)


class Questions(ABC):
    """The main side's questions to one network side, each of which blocks until it is answered."""

    def __init__(self) -> None:
        self._calls: dict[int, Future[Any]] = {}
        self._call_ids = itertools.count(1)

    @abstractmethod
    def send(self, message: Message) -> None:
        """Hand a message to the network side. Any thread of the main side's process."""

    def send_soon(self, message: Message) -> None:
        """The same for one that may wait for the next ones while there is a cork. Main thread."""
        self.send(message)

    def cork(self) -> None:  # noqa: B027
        """From now until `uncork`, some messages may wait for each other, a moment. Main thread."""

    def uncork(self) -> None:  # noqa: B027
        """Send what waits. Main thread."""

    @abstractmethod
    def nudge(self) -> None:
        """Wake the network side, whatever the state says. Any thread, and a signal's handler."""

    def ask(self, kind: str, *arguments: object, timeout: float = 10.0) -> Any:
        """Send `(kind, call, *arguments)` and block until the network side replies.

        Any thread but the network side's. Runs no callback while it waits.

        Raises:
            OSError: the network side's own error, number and text.
            NetworkError: no reply within `timeout` seconds.
        """
        call = next(self._call_ids)
        future: Future[Any] = Future()
        self._calls[call] = future
        try:
            self.send((kind, call, *arguments))
            try:
                return self._wait(future, timeout)
            except (TimeoutError, FutureTimeoutError) as error:
                if future.done():  # the reply itself was a timeout of the system
                    raise
                raise NetworkError(
                    f"the network side did not answer {kind!r} within {timeout:g} s"
                ) from error
        finally:
            self._calls.pop(call, None)

    def _wait(self, future: Future[Any], timeout: float) -> Any:
        return future.result(timeout)

    def reply(self, call: int, value: Any = None) -> None:
        """Answer a question of the main side."""
        future = self._calls.get(call)
        if future is not None and not future.done():
            future.set_result(value)

    def reply_error(self, call: int, number: int, text: str) -> None:
        """Answer it with an error of the system."""
        future = self._calls.get(call)
        if future is not None and not future.done():
            future.set_exception(OSError(number, text))


class NetworkEnd(Protocol):
    """The bridge as the network side sees it. Network side's thread."""

    def post(self, message: Message) -> None:
        """Hand a message to the main side, with the time, by which callbacks are ordered."""

    def reply(self, call: int, value: Any = None) -> None:
        """Answer a question of the main side."""

    def reply_error(self, call: int, number: int, text: str) -> None:
        """Answer it with an error of the system."""

    def wake_main(self) -> None:
        """Have the main side look at what is due."""

    def watch(self, loop: asyncio.AbstractEventLoop, handle: Callable[[Message], None]) -> None:
        """Call `handle` from this loop with what the main side sends."""

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do so no longer."""

    def mend(self) -> None:
        """Look whether a wake-up was lost; an interrupt may cut one in two."""


class Gathering:
    """Whether messages to the main side wait one more turn of the network side's loop.

    To wake the main side costs as much as several messages. So while clients are many, and each
    turn brings more of them, one wake-up is to do for all; a few never wait.
    """

    __slots__ = ("_before", "_until")

    def begin(self, now: float) -> None:
        """The first has come."""
        self._before = _FEW
        self._until = now + _TOGETHER

    def goes_on(self, count: int) -> bool:
        """At the end of a turn, with so many that wait."""
        grows = count > self._before
        self._before = count
        return grows and monotonic() < self._until


class Bridge(Questions):
    """The bridge to a network side in a thread: both ends of it."""

    def __init__(self, inbox: Channel | None = None, *, check_plain: bool = False) -> None:
        """`inbox`: where the main side gets its messages, those of other bridges too."""
        super().__init__()
        self.to_main = Channel() if inbox is None else inbox  # an empty one is false
        self.to_network = Channel()
        self._check_plain = check_plain
        self._handle: Callable[[Message], None] | None = None
        self._call_soon: Callable[[Callable[[], None]], object] = _call_now
        self._gathering = Gathering()

    # -- main side -----------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Hand a message to the network side. Any thread of the main side's process."""
        if self._check_plain:
            message = marshal.loads(marshal.dumps(message))
        self.to_network.put(message)

    send_soon = send  # to wake a thread is cheap: nothing is gained by waiting

    def nudge(self) -> None:
        """Wake the network side, whatever the state says. Any thread, and a signal's handler."""
        self.to_network.nudge()

    def close(self) -> None:
        """Close the descriptor; nobody may watch it any more."""
        self.to_network.wake.close()

    # -- network side --------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Hand a message to the main side, with the time, by which callbacks are ordered."""
        if self._check_plain:
            message = marshal.loads(marshal.dumps(message))
        # Written at once, the descriptor would wake the main thread in the middle of this one's
        # work, and it would find a message or two where it could have had them all.
        now = monotonic()
        if self.to_main.put_quietly((now, message)):
            self._gathering.begin(now)
            self._call_soon(self._wake)

    def reply(self, call: int, value: Any = None) -> None:
        """Answer a question of the main side."""
        super().reply(call, marshal.loads(marshal.dumps(value)) if self._check_plain else value)

    def wake_main(self) -> None:
        """Have the main side look at what is due."""
        self.to_main.nudge()

    def watch(self, loop: asyncio.AbstractEventLoop, handle: Callable[[Message], None]) -> None:
        """Call `handle` from this loop with what the main side sends."""
        self._handle = handle
        self._call_soon = loop.call_soon
        loop.add_reader(self.to_network.wake.fileno(), self._drain)

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do so no longer."""
        loop.remove_reader(self.to_network.wake.fileno())
        self._handle = None
        # The loop ends, and nothing that it was to call is called: not the wake-up either on which
        # `put` counts, though what it was for may have been taken.
        self._call_soon = _call_now
        self.to_main.nudge()

    def mend(self) -> None:
        """Look whether a wake-up was lost; an interrupt may cut one in two."""
        self._drain()
        if self.to_main:
            self.to_main.nudge()

    def _wake(self) -> None:
        if self._gathering.goes_on(len(self.to_main)):
            self._call_soon(self._wake)
        else:
            self.to_main.wake.set()

    def _drain(self) -> None:
        handle = self._handle
        assert handle is not None
        self.to_network.wake.clear()
        for message in self.to_network.take():
            handle(message)


def _call_now(function: Callable[[], None]) -> None:
    function()
