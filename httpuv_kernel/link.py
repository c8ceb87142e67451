"""Batches of messages between two processes, over a pair of packet sockets.

A packet arrives whole or not at all, so an interrupt between two lines can lose or repeat one, but
never tear it: each has a number, and what comes twice is dropped. A batch that is larger than a
packet is sent in pieces. A bell beside it wakes the reader only when it sleeps.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

import marshal
import mmap
import os
import socket
import struct
import tempfile
import threading
from collections import deque
from typing import Any, Final

from .bridge import WakeFd

__all__ = ["Bell", "Link", "LinkClosed", "socket_pair"]

_HEADER: Final = struct.Struct("!QI")  # the packet's number; how many follow in its batch
_PIECE: Final = 96 * 1024
_KEPT: Final = 32  # pieces: a larger batch has a buffer of its own, which is not kept
_BUFFER: Final = 4 * 1024 * 1024  # asked for; the system gives what it allows
# Version 4 writes once what occurs twice, as the fields of a request that clients repeat. It has to
# look for that, which pays from a few messages on.
_MARSHAL_FEW: Final = 2
_MARSHAL_MANY: Final = 4
_MANY: Final = 4


class LinkClosed(Exception):
    """The other process is gone."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected packet sockets, which no child inherits unasked.

    Raises:
        NotImplementedError: the system has none.
    """
    if not hasattr(socket, "SOCK_SEQPACKET") or not hasattr(socket, "AF_UNIX"):
        raise NotImplementedError("this system has no packet sockets between processes")
    try:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise NotImplementedError("this system has no packet sockets between processes") from error
    return pair


class Bell:
    """Wakes a reader in another process, by a flag that both can see, and only if it is to be.

    The reader raises the flag before it looks; so what it does not see is sent by one who sees the
    flag. Beside it is the level from which on the reader wants to be told what the writer logs.
    """

    def __init__(self, wake: WakeFd, fd: int = -1) -> None:
        """`fd`: what `share` gave, in the writer's process, which owns it from here on."""
        self._wake = wake
        self._fd = _shared_page() if fd == -1 else fd
        self._flag = mmap.mmap(self._fd, mmap.PAGESIZE)
        if fd != -1:
            os.close(fd)

    def share(self) -> int:
        """The descriptor by which a process that inherits it can ring."""
        return self._fd

    def answer(self, rings: bool) -> None:
        """Reader: whether the next `ring` is to wake us."""
        self._flag[0] = rings

    @property
    def log_level(self) -> int:
        """As the reader set it."""
        return self._flag[1]

    @log_level.setter
    def log_level(self, level: int) -> None:
        self._flag[1] = min(level, 255)

    def ring(self) -> None:
        """Writer: wake the reader once, if it is to be."""
        if self._flag[0]:
            self._flag[0] = 0
            self._wake.set()

    def close(self) -> None:
        """Reader: let go of it; the wake-up stays. What is told to it later is told to nobody."""
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1
            shared, self._flag = self._flag, mmap.mmap(-1, mmap.PAGESIZE)
            shared.close()  # it has a descriptor of its own


def _shared_page() -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("httpuv-bell")
    else:
        fd, path = tempfile.mkstemp(prefix="httpuv-bell-")
        os.unlink(path)
    os.ftruncate(fd, mmap.PAGESIZE)
    return fd


class Link:
    """One end. `put` in any thread; `flush` and `receive` in one thread at a time each."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self._sock = sock
        # Numbers of a batch's first and last packet, and the batch; with its header if that is one.
        self._out: deque[tuple[int, int, bytes]] = deque()
        self._numbers = threading.Lock()  # guards _next, and the order of _out
        self._next = 1
        self._sent = 0  # the number of the last packet that the system took
        self._received = 0
        self._packet = memoryview(bytearray(_HEADER.size + _PIECE))
        self._header, self._body = self._packet[: _HEADER.size], self._packet[_HEADER.size :]
        self._batch = memoryview(b"")  # where a batch of several packets is put together
        self._filled = 0

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._sock.fileno()

    def put(self, batch: list[Any]) -> None:
        """Queue messages, as they are now.

        Raises:
            ValueError: one has a value that is not plain.
        """
        data = marshal.dumps(batch, _MARSHAL_MANY if len(batch) >= _MANY else _MARSHAL_FEW)
        with self._numbers:
            first = last = self._next
            if len(data) <= _PIECE:
                data = _HEADER.pack(first, 0) + data
            else:
                last += (len(data) - 1) // _PIECE
            self._next = last + 1
            self._out.append((first, last, data))

    def flush(self) -> bool:
        """Send what is queued; False when the system takes no more now.

        Raises:
            LinkClosed: the other process is gone.
        """
        out = self._out
        try:
            while out:
                first, last, data = out[0]
                number = max(first, self._sent + 1)
                if number > last:
                    out.popleft()
                    continue
                if first == last:
                    self._sock.send(data)
                else:
                    start = (number - first) * _PIECE
                    header = _HEADER.pack(number, last - number)
                    self._sock.sendmsg((header, memoryview(data)[start : start + _PIECE]))
                self._sent = number
        except BlockingIOError:
            return False
        except OSError as error:
            raise LinkClosed from error
        return True

    def receive(self) -> list[Any] | None:
        """The next batch; None when no whole one is there.

        Raises:
            LinkClosed: the other process is gone.
        """
        while True:
            try:
                if self._filled:
                    room = self._batch[self._filled : self._filled + _PIECE]
                    size = self._sock.recvmsg_into([self._header, room])[0]
                else:
                    size = self._sock.recv_into(self._packet)
            except BlockingIOError:
                return None
            except OSError as error:
                raise LinkClosed from error
            if not size:
                raise LinkClosed
            number, left = _HEADER.unpack_from(self._packet)
            if number <= self._received:  # sent twice
                continue
            self._received = number
            if not left and not self._filled:
                batch: list[Any] = marshal.loads(self._body)  # which ignores what is behind
                return batch
            if not self._filled:
                self._begin_batch(left + 1)
            self._filled += size - _HEADER.size
            if not left:
                return self._end_batch()

    def _begin_batch(self, packets: int) -> None:
        """Make room for a batch, and put the packet there that was read as if it were alone."""
        if len(self._batch) < packets * _PIECE:
            try:
                self._batch = memoryview(bytearray(packets * _PIECE))
            except MemoryError as error:  # what follows would be taken for another batch
                raise LinkClosed from error
        self._batch[:_PIECE] = self._body

    def _end_batch(self) -> list[Any]:
        filled, self._filled = self._filled, 0
        batch: list[Any] = marshal.loads(self._batch[:filled])
        if len(self._batch) > _KEPT * _PIECE:
            self._batch = memoryview(b"")
        return batch

    def close(self) -> None:
        """Close this end; the other sees it."""
        self._sock.close()
