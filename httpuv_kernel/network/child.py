"""The network side in a process of its own, where no cell can hold it up.

Started by the main side as a fresh interpreter, never by a fork. It ends when the link does: with
the kernel, however that ends.

Network side.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from time import monotonic
from typing import Any

from .. import messages
from ..bridge import Gathering, WakeFd
from ..link import Bell, Link, LinkClosed
from ..memory import reuse_freed_blocks
from .listener import begin_ids_at
from .loop import HEARTBEAT, NetworkSide

__all__ = ["ChildEnd", "main"]

_LOGGERS = ("httpuv_kernel", "httpuv_kernel.access", "httpuv_kernel.websocket")


class ChildEnd:
    """The bridge as the network side sees it, over a link.

    What is posted in a turn of the loop, or a few, goes out as one batch; while the link is full,
    all that comes is the next one.
    """

    def __init__(self, link: Link, wake: WakeFd, bell: Bell) -> None:
        self._link = link
        self._wake = wake
        self._bell = bell
        self._out: list[tuple[float, messages.Message]] = []
        self._scheduled = False
        self._gathering = Gathering()
        self._parent = os.getppid()
        self._loop: asyncio.AbstractEventLoop
        self._handle: Callable[[messages.Message], None]
        self.is_full = False
        """Whether the main side has not taken what was sent."""
        self.on_closed: Callable[[], None] = lambda: None
        """Called when the main side is gone."""

    def post(self, message: messages.Message) -> None:
        """Hand a message to the main side, with the time, by which callbacks are ordered."""
        now = monotonic()
        self._out.append((now, message))
        if not self._scheduled:
            self._scheduled = True
            self._gathering.begin(now)
            self._loop.call_soon(self._send_soon)

    def reply(self, call: int, value: Any = None) -> None:
        """Answer a question; whoever asked reads all that comes before."""
        self._out.append((monotonic(), (messages.REPLY, call, value)))
        self._send()

    def reply_error(self, call: int, number: int, text: str) -> None:
        """Answer it with an error of the system."""
        self._out.append((monotonic(), (messages.REPLY_ERROR, call, number, text)))
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
        """Do so no longer."""
        loop.remove_reader(self._link.fileno())
        loop.remove_writer(self._link.fileno())

    def mend(self) -> None:
        """Notice that the main side is gone though a process that it forked has its link."""
        if os.getppid() != self._parent:
            self.on_closed()

    def _send_soon(self) -> None:
        if self._gathering.goes_on(len(self._out)):
            self._loop.call_soon(self._send_soon)
        else:
            self._send()

    def _send(self) -> None:
        self._scheduled = False
        if self.is_full or not self._out:
            return
        batch, self._out = self._out, []
        self._link.put(batch)
        self._flush()

    def _flush(self) -> None:
        try:
            done = self._link.flush()
        except LinkClosed:
            self.on_closed()
            return
        self._bell.ring()
        if done and self.is_full:
            self._loop.remove_writer(self._link.fileno())
            self.is_full = False
            self._send()
        elif not done and not self.is_full:
            self.is_full = True
            self._loop.add_writer(self._link.fileno(), self._flush)

    def _receive(self) -> None:
        handle, receive = self._handle, self._link.receive
        try:
            while (batch := receive()) is not None:
                for message in batch:
                    handle(message)
        except LinkClosed:
            self.on_closed()


class _Forward(logging.Handler):
    """Has the main side log what this one logs, where the user has set up logging."""

    def __init__(self, end: ChildEnd) -> None:
        super().__init__()
        self._end = end

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, unless the main side has long not listened."""
        if not self._end.is_full:
            text = self.format(record)
            self._end.post((messages.LOG, record.name, record.levelno, text))


def _forward_logs(handler: logging.Handler, bell: Bell) -> None:
    """Give it what the main side wants now; other records are not even made."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(handler)
        logger.isEnabledFor = lambda level: level >= bell.log_level  # type: ignore[method-assign]


def _fill_standard_streams() -> None:
    """Where the program has closed some, no descriptor of ours is to be taken for one."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one


def main(link_fd: int, wake_fd: int, bell_fd: int, first_id: int, directory: str) -> None:
    """Serve until the main side asks for the end, or is gone; ends the process.

    Args:
        link_fd: descriptor of our end of the link.
        wake_fd: descriptor by which the main side is woken, see `WakeFd.share`.
        bell_fd: that of its bell, see `Bell.share`.
        first_id: the first id of an exchange; those of other processes are not to meet ours.
        directory: where bodies of requests are spooled; removed at the end. "": where
            others are.
    """
    _fill_standard_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main side
    begin_ids_at(first_id)
    reuse_freed_blocks()
    if directory:
        tempfile.tempdir = directory
    wake = WakeFd(wake_fd)
    bell = Bell(wake, bell_fd)
    end = ChildEnd(Link(socket.socket(fileno=link_fd)), wake, bell)
    side = NetworkSide(end, HEARTBEAT)
    end.on_closed = side.stop
    _forward_logs(_Forward(end), bell)
    try:
        side.run(lambda: end.post((messages.REPLY, 0, None)))
    finally:
        if directory:
            shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)  # a thread that reads from a dead disk is not waited for
