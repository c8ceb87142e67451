"""What a client has sent and nobody has parsed yet.

It waits behind an unanswered request, a little in memory, the rest with the client. And it waits
for its turn: a client that sends thousands of requests at once is served a slice at a time.

Network side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .reading import BODY, DISCARD, RequestReader

__all__ = ["Inflow"]

_KEPT_BYTES = 64 * 1024
_SLICE_BYTES = 16 * 1024  # some hundred requests, each of which takes memory and time
_REST_BYTES = 64 * 1024  # after so much others have a turn; libuv alone would read on, 32 times


class Inflow:
    """Feeds one connection's reader."""

    __slots__ = ("_go_on", "_loop", "_reader", "_transport", "kept", "rests")

    def __init__(
        self,
        reader: RequestReader,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        go_on: Callable[[], None],
    ) -> None:
        """`go_on` is called when it is the connection's turn again."""
        self._reader = reader
        self._transport = transport
        self._loop = loop
        self._go_on = go_on
        self.kept = b""
        """What waits."""
        self.rests = False
        """The others have their turn: nothing is read, parsed or begun."""

    def keep(self, data: bytes) -> None:
        """Let this wait, unless nothing more is wanted."""
        if self._reader.phase is not DISCARD:
            self.kept += data
            if len(self.kept) > _KEPT_BYTES:
                self._transport.pause_reading()

    def feed(self, data: bytes) -> None:
        """Parse a slice, or all slices of one body; keep what is left."""
        start, size = 0, len(data)
        while start < size:
            piece = data[start : start + max(_SLICE_BYTES, self._reader.body_left)]
            start += len(piece) - len(self._reader.feed(piece))
            phase = self._reader.phase
            if phase is DISCARD:
                return
            if phase is not BODY and start < size:
                self.kept = data[start:]
                self._rest()
                return
        if size >= _REST_BYTES:
            self._rest()

    def feed_kept(self) -> None:
        """Parse what waits."""
        kept, self.kept = self.kept, b""
        self._transport.resume_reading()
        self.feed(kept)

    def take(self) -> bytes:
        """What waits; it is another's from here on."""
        kept, self.kept = self.kept, b""
        return kept

    def _rest(self) -> None:
        if not self.rests:
            self.rests = True
            self._transport.pause_reading()
            self._loop.call_soon(self._end_rest)

    def _end_rest(self) -> None:
        self.rests = False
        self._go_on()

    def read_on(self) -> None:
        """Read, unless it rests or enough waits."""
        if not self.rests and len(self.kept) <= _KEPT_BYTES:
            self._transport.resume_reading()
