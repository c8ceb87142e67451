"""The network side in a process of its own, where no cell can hold it up.

Started by the main side as a fresh interpreter, never by a fork. It ends when the link does: with
the kernel, however that ends.

Network side.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from .. import messages
from ..bridge import WakeFd
from ..link import Link, LinkClosed
from .listener import begin_ids_at
from .loop import HEARTBEAT, NetworkSide

__all__ = ["ChildEnd", "main"]


class ChildEnd:
    """The bridge as the network side sees it, over a link.

    What is posted goes out as one batch when the main side has taken the one before: however busy
    that is, it is woken once.
    """

    def __init__(self, link: Link, wake: WakeFd) -> None:
        self._link = link
        self._wake = wake
        self._out: list[tuple[float, messages.Message]] = []
        self._may_send = True
        self._scheduled = False
        self._writing = False
        self._parent = os.getppid()
        self._loop: asyncio.AbstractEventLoop
        self._handle: Callable[[messages.Message], None]
        self.on_closed: Callable[[], None] = lambda: None
        """Called when the main side is gone."""

    def post(self, message: messages.Message) -> None:
        """Hand a message to the main side, with the time, by which callbacks are ordered."""
        self._out.append((monotonic(), message))
        if self._may_send and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def reply(self, call: int, value: Any = None) -> None:
        """Answer a question; whoever asked reads all that comes before."""
        self._out.append((0.0, (messages.REPLY, call, value)))
        self._send()

    def reply_error(self, call: int, number: int, text: str) -> None:
        """Answer it with an error of the system."""
        self._out.append((0.0, (messages.REPLY_ERROR, call, number, text)))
        self._send()

    def wake_main(self) -> None:
        """Have the main side look at what is due."""
        self._wake.set()

    def watch(self, loop: asyncio.AbstractEventLoop, handle: Callable[..., None]) -> None:
        """Call `handle` from this loop with what the main side sends."""
        self._loop = loop
        self._handle = handle
        loop.add_reader(self._link.fileno(), self._receive)

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do so no longer; what is queued still goes out."""
        loop.remove_reader(self._link.fileno())
        loop.remove_writer(self._link.fileno())

    def mend(self) -> None:
        """Wake the main side again, in case it missed it; notice that it is gone."""
        if os.getppid() != self._parent:  # a process it forked may hold its end of the link
            self.on_closed()
        elif not self._may_send:
            self._wake.set()

    def _send(self) -> None:
        self._scheduled = False
        if not self._out:
            return
        batch, self._out = self._out, []
        self._may_send = False
        self._link.put(batch)
        self._flush()

    def _flush(self) -> None:
        try:
            done = self._link.flush()
        except LinkClosed:
            self.on_closed()
            return
        self._wake.set()
        if done and self._writing:
            self._loop.remove_writer(self._link.fileno())
        elif not done and not self._writing:
            self._loop.add_writer(self._link.fileno(), self._flush)
        self._writing = not done

    def _receive(self) -> None:
        try:
            while (batch := self._link.receive()) is not None:
                for message in batch:
                    if message[0] == messages.CREDIT:
                        self._may_send = True
                    else:
                        self._handle(message)
        except LinkClosed:
            self.on_closed()
            return
        if self._may_send:
            self._send()


class _Forward(logging.Handler):
    """Has the main side log what this one logs, where the user has set up logging."""

    def __init__(self, end: ChildEnd) -> None:
        super().__init__()
        self._end = end

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        text = self.format(record)
        self._end.post((messages.LOG, record.name, record.levelno, text))


def main(link_fd: int, wake_fd: int, first_id: int) -> None:
    """Serve until the main side asks for the end, or is gone.

    Args:
        link_fd: descriptor of our end of the link.
        wake_fd: descriptor by which the main side is woken, see `WakeFd.share`.
        first_id: the first id of an exchange; those of other processes are not to meet ours.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main side
    begin_ids_at(first_id)
    link = Link(socket.socket(fileno=link_fd))
    end = ChildEnd(link, WakeFd(wake_fd))
    side = NetworkSide(end, HEARTBEAT)
    end.on_closed = side.stop
    logger = logging.getLogger("httpuv_kernel")
    logger.addHandler(_Forward(end))
    logger.propagate = False
    logger.setLevel(logging.DEBUG)  # the main side decides what is shown
    side.run(lambda: end.post((messages.REPLY, 0, None)))
