"""Response bodies that an app makes piece by piece, under back-pressure.

The first piece is asked for before anything is sent, so that a generator that fails at once still
gives a 500, and head and first piece leave in one write. From then on at most `_WINDOW` bytes are
on their way that the client has not taken.

Main side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from time import monotonic
from typing import Any, Final, Protocol

from .. import messages
from ..bridge import Questions
from .later import Entry

__all__ = ["AsyncBodyStream", "BodyStream"]

_WINDOW: Final = 256 * 1024
_TURN: Final = 200e-6  # seconds of pieces in one callback
_MANY: Final = 8  # pieces of a turn after which those of the next one wait for each other
_END: Final = object()


class StreamedAnswer(Protocol):
    """What a stream needs of the answer that it is the body of."""

    id: int
    entry: Entry | None
    waited: float

    @property
    def is_live(self) -> bool:
        """Whether the client is there and the answer not complete."""

    @property
    def network(self) -> Questions:
        """Where the answer goes."""

    def send(self, message: messages.Message) -> None:
        """Send what is not the end of the answer."""

    def finish(self) -> None:
        """The answer is complete."""

    def fail(self, error: BaseException) -> None:
        """The answer cannot be completed."""

    def call_user(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call user code."""

    def push(self, function: Callable[..., None]) -> None:
        """Queue a callback."""

    def start_task(
        self,
        coroutine: Coroutine[Any, Any, Any],
        on_done: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        """Run a coroutine of user code."""


def _encode(chunk: object) -> bytes:
    """A piece as bytes.

    Raises:
        TypeError: it is neither text nor bytes.
    """
    if isinstance(chunk, str):
        return chunk.encode()
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, (bytearray, memoryview)):
        return bytes(chunk)
    raise TypeError(f"a piece of a streamed body is str or bytes, not {chunk!r}")


class _Stream:
    """What both kinds share: the head before the first piece, and the window."""

    def __init__(self, answer: StreamedAnswer, head: tuple[Any, ...], length: int | None) -> None:
        self._answer = answer
        self._head = head
        self._length = length
        self._in_flight = 0
        self.begun = False
        """Whether the client has got something."""

    def _send(self, chunk: bytes) -> None:
        """Send a piece; an empty one at the beginning sends the head, later it sends nothing."""
        answer = self._answer
        if not self.begun:
            self.begun = True
            answer.send((messages.START, answer.id, answer.waited, self._head, chunk, self._length))
        elif chunk:
            answer.network.send_soon((messages.CHUNK, answer.id, chunk))
        self._in_flight += len(chunk)

    def _end(self) -> None:
        if not self.begun:  # a stream without a piece
            self._send(b"")
        self._answer.send((messages.END, self._answer.id))
        self._answer.finish()

    @property
    def _has_room(self) -> bool:
        return self._in_flight < _WINDOW


class BodyStream(_Stream):
    """A body from an iterator: a slow piece is a callback of its own, so others get a turn."""

    def __init__(
        self, answer: StreamedAnswer, head: tuple[Any, ...], length: int | None, body: Iterator[Any]
    ) -> None:
        super().__init__(answer, head, length)
        self._body = body
        self._waits = False
        self._is_quick = False  # in its last turn

    def begin(self) -> None:
        """Ask for the first piece."""
        self._pull()

    def _pull(self) -> None:
        """Send what comes quickly, at least a piece; then others have a turn."""
        self._answer.entry = None
        if self._is_quick:
            self._answer.network.cork()
            try:
                self._send_turn()
            finally:
                self._answer.network.uncork()
        else:
            self._send_turn()

    def _send_turn(self) -> None:
        count, until = 0, monotonic() + _TURN
        while self._send_next():
            count += 1
            self._waits = not self._has_room
            now = monotonic()
            if now > until or self._waits:
                # A piece that took long may keep the GIL the next time, and with it what waits.
                self._is_quick = count >= _MANY and now < until + _TURN
                if not self._waits:
                    self._answer.push(self._pull)
                return

    def _send_next(self) -> bool:
        """Send the next piece; False when it was the last, or there is nobody to send it to."""
        answer = self._answer
        try:
            piece = answer.call_user(next, self._body, _END)
            if not answer.is_live:  # the client has left while user code ran
                self._close()
                return False
            if piece is _END:
                self._end()
                return False
            self._send(_encode(piece))
        except BaseException as error:
            answer.fail(error)
            self._close()
            return False
        return True

    def acknowledge(self, count: int) -> None:
        """The client has taken so many bytes."""
        self._in_flight -= count
        if self._waits and self._has_room:
            self._waits = False
            self._answer.push(self._pull)

    def abandon(self) -> None:
        """The client has left: close the generator, in a callback, for that runs user code."""
        self._answer.push(self._close)

    def _close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is None:
            return
        try:
            self._answer.call_user(close)
        except BaseException as error:
            self._answer.fail(error)


class AsyncBodyStream(_Stream):
    """A body from an async iterator: one task that goes through it."""

    def __init__(
        self,
        answer: StreamedAnswer,
        head: tuple[Any, ...],
        length: int | None,
        body: AsyncIterator[Any],
    ) -> None:
        super().__init__(answer, head, length)
        self._body = body
        self._room: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Start the task."""
        self._answer.start_task(self._run(), self._done)

    async def _run(self) -> None:
        try:
            async for piece in self._body:
                self._send(_encode(piece))
                if not self._has_room:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
        finally:
            close = getattr(self._body, "aclose", None)
            if close is not None:
                await close()

    def _done(self, task: asyncio.Task[None]) -> None:
        if not self._answer.is_live:
            if not task.cancelled() and task.exception() is not None:
                self._answer.fail(task.exception())  # type: ignore[arg-type]
        elif task.cancelled():
            self._answer.fail(asyncio.CancelledError("the stream was cancelled"))
        elif task.exception() is not None:
            self._answer.fail(task.exception())  # type: ignore[arg-type]
        else:
            self._end()

    def acknowledge(self, count: int) -> None:
        """The client has taken so many bytes."""
        self._in_flight -= count
        if self._room is not None and not self._room.done() and self._has_room:
            self._room.set_result(None)

    def abandon(self) -> None:
        """The client has left; the task is cancelled, which closes the generator."""
