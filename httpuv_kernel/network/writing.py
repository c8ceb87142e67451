"""The writing half of a connection: one response at a time, framed and under back-pressure.

A small response is one write. A large one, and one that the main side streams, is a
`ResponseStream`: its pieces go out as the client takes them.

Network side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import struct
from time import monotonic
from typing import Final, Protocol

from ..fields import ResponseHead
from ..messages import Limits
from .exchange import Exchange, ResponseStream
from .framing import BodyEncoder, date_line, weak_etag
from .sources import BodySource, MemorySource

__all__ = ["ResponseSink", "ResponseWriter", "half_close", "reset"]

log = logging.getLogger("httpuv_kernel")

# Below, to copy head and body together costs less than a second buffer. asyncio's writelines() is
# not used at all: that of 3.12 and 3.13 watches the descriptor of a connection that is lost, which
# then is the next one's, and has a client that takes nothing go unnoticed.
_JOIN_BYTES = 16 * 1024
_ACK_BYTES = 64 * 1024  # a quarter of the main side's window: its stream never waits for a rest
# Linux: the head waits for the file's first bytes, so that both leave in one packet.
_MSG_MORE = getattr(socket, "MSG_MORE", 0)
_CAN_SEND_FILES = bool(_MSG_MORE) and hasattr(os, "sendfile")
_NO_BODY: Final = frozenset({204, 304})
_NO_GZIP: Final = frozenset({204, 206, 304})
_END_OF_HEAD: Final = {  # by (keep the connection, HTTP/1.1)
    (True, True): b"\r\n",
    (True, False): b"Connection: keep-alive\r\n\r\n",
    (False, True): b"Connection: close\r\n\r\n",
    (False, False): b"Connection: close\r\n\r\n",
}


_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


def reset(transport: asyncio.Transport) -> None:
    """Cut a connection in a way that the client cannot take for an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def half_close(transport: asyncio.Transport) -> bool:
    """End what we send, behind what is written; False when the client is gone already."""
    try:
        transport.write_eof()
    except OSError:  # of asyncio's, when the client has reset the connection a moment ago
        return False
    return True


class ResponseSink(Protocol):
    """What a connection does when a response has got somewhere."""

    def response_begun(self) -> None:
        """A response was begun that will take several writes."""

    def response_written(self, keep: bool) -> None:
        """The response is whole; `keep` says whether the connection may go on."""

    def stream_taken(self, count: int) -> None:
        """The transport took so many bytes of what the main side streams."""

    def abort(self) -> None:
        """Cut the connection."""


class ResponseWriter:
    """Writes one connection's responses."""

    __slots__ = (
        "_direct",
        "_join_bytes",
        "_left",
        "_limits",
        "_loop",
        "_sink",
        "_stall",
        "_stream",
        "_transport",
        "paused",
        "sent",
        "status",
    )

    def __init__(
        self,
        sink: ResponseSink,
        transport: asyncio.Transport,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._sink = sink
        self._transport = transport
        self._limits = limits
        self._loop = loop
        self._join_bytes = math.inf if isinstance(loop, asyncio.BaseEventLoop) else _JOIN_BYTES
        self._stream: ResponseStream | None = None
        self._direct: socket.socket | None = None
        self._stall = (math.inf, 0)  # when the client must have taken something, bytes left then
        self._left = 0
        self.paused = False
        self.status = 0
        """Of the last response."""
        self.sent = 0
        """Bytes of its body so far, before compression."""

    def respond(
        self,
        exchange: Exchange,
        head: ResponseHead,
        body: bytes,
        source: BodySource | None = None,
    ) -> None:
        """Write a response of known length, from memory or from `source`."""
        status, line, block, close, dated, compressible, length = head
        self.status = status
        size = len(body) if source is None else source.left
        gzip = False
        if compressible and size >= self._limits.gzip_bytes and status not in _NO_GZIP:
            block += b"Vary: Accept-Encoding\r\n"
            gzip = exchange.wants_gzip()
        if gzip or source is not None:
            source = source or MemorySource(body)
            self._begin(exchange, head, block, size, gzip=gzip, source=source)
            return
        keep = exchange.keep_alive and exchange.complete and not close
        length_line = b"Content-Length: %d\r\n" % size
        if status in _NO_BODY:
            body = length_line = b""
        elif exchange.method == b"HEAD":
            if length is not None and not body:
                length_line = b"Content-Length: %d\r\n" % length
            body = b""
        self.sent = len(body)
        date = b"" if dated else date_line()
        parts = (line, date, block, length_line, _END_OF_HEAD[keep, exchange.http11])
        if size < self._join_bytes or not body:
            self._transport.write(b"".join((*parts, body)))
        else:
            self._transport.writelines([b"".join(parts), body])
        self._sink.response_written(keep)

    def start(
        self, exchange: Exchange, head: ResponseHead, chunk: bytes, length: int | None
    ) -> None:
        """Write the head and the first piece of a response that the main side streams."""
        status, _, block, _, _, compressible, _ = head
        gzip = False
        if compressible and status not in _NO_GZIP:
            block += b"Vary: Accept-Encoding\r\n"
            gzip = exchange.wants_gzip()
        self._begin(exchange, head, block, length, gzip=gzip, chunk=chunk)

    def _begin(
        self,
        exchange: Exchange,
        head: ResponseHead,
        block: bytes,
        length: int | None,
        *,
        gzip: bool,
        source: BodySource | None = None,
        chunk: bytes = b"",
    ) -> None:
        status, line, _, close, dated, _, _ = head
        self.status, self.sent = status, 0
        if gzip:
            block = weak_etag(block) + b"Content-Encoding: gzip\r\n"
        encoder = BodyEncoder(
            bodiless=status in _NO_BODY or exchange.method == b"HEAD",
            length=None if status in _NO_BODY else length,
            http11=exchange.http11,
            gzip=gzip,
        )
        keep = exchange.keep_alive and exchange.complete and not close and not encoder.until_close
        self._stream = stream = ResponseStream(encoder, keep_alive=keep, source=source)
        self._sink.response_begun()
        head_bytes = b"".join(
            (
                line,
                b"" if dated else date_line(),
                block,
                encoder.head_lines(),
                _END_OF_HEAD[keep, exchange.http11],
            )
        )
        if source is not None:
            self._send_piece(self._send_directly(head_bytes, source))
        elif self._write(head_bytes, chunk):
            stream.unacknowledged += len(chunk)
            self._acknowledge()
            if encoder.bodiless:
                self._sink.response_written(keep)

    def _send_directly(self, head: bytes, source: BodySource) -> bytes:
        """Send the head and what the socket takes of a file; returns what is left of the head.

        The system copies from the file to the socket. This goes past the transport, so only while
        nothing waits in that.
        """
        assert self._stream is not None
        encoder = self._stream.encoder
        if not source.left or not encoder.is_plain or self._transport.get_write_buffer_size():
            return head
        try:
            sock = self._direct_socket()
            if sock is None:
                return head
            head = head[sock.send(head, _MSG_MORE) :]
            if not head:
                before = source.left
                source.send_to(sock.fileno())
                encoder.skip(before - source.left)
                self.sent += before - source.left
        except OSError:  # it takes no more, is broken, which the transport will see, or no dup()
            pass
        return head

    def _direct_socket(self) -> socket.socket | None:
        """The transport's socket where the system can send files to it."""
        if self._direct is None and _CAN_SEND_FILES and not self._transport.is_closing():
            owner = self._transport.get_extra_info("socket")
            if owner is not None:
                # A descriptor of our own: the transport closes its one when it likes.
                self._direct = socket.socket(fileno=os.dup(owner.fileno()))
                self._direct.setblocking(False)  # socket.setdefaulttimeout() holds for it, too
        return self._direct

    def close(self) -> None:
        """The connection is gone."""
        self.close_stream()
        if self._direct is not None:
            self._direct.close()
            self._direct = None

    def _write(self, prefix: bytes, chunk: bytes, *, last: bool = False) -> bool:
        """Encode and write a piece; False when the response had to be cut."""
        piece = self._encode(chunk, last=last)
        if piece is None:
            return False
        if prefix or piece:
            self._transport.write(prefix + piece if prefix else piece)
        return True

    def _encode(self, chunk: bytes, *, last: bool = False) -> bytes | None:
        """A piece as it goes out; None when the response had to be cut."""
        assert self._stream is not None
        encoder = self._stream.encoder
        self.sent += len(chunk)
        try:
            piece = encoder.encode(chunk)
            return piece + encoder.finish() if last else piece
        except ValueError as error:
            self._cut(error)
            return None

    def _send_piece(self, prefix: bytes = b"") -> None:
        """Write the next piece of a body that this side reads, then let others have a turn."""
        stream = self._stream
        if stream is None or stream.source is None or (self.paused and not prefix):
            return
        if self._transport.is_closing():
            return
        source = stream.source
        chunk = b""
        if not stream.encoder.bodiless and source.left:
            try:
                chunk = source.read()
            except OSError as error:
                self._cut(error)
                return
            if not chunk:
                self._cut(ValueError("the file became shorter while it was sent"))
                return
        last = not source.left or stream.encoder.bodiless
        if not self._write(prefix, chunk, last=last):
            return
        if last:
            self._sink.response_written(stream.keep_alive)
        elif not self.paused:
            self._loop.call_soon(self._send_piece)

    def chunk(self, chunk: bytes) -> None:
        """Write the next piece that the main side streams, with the others of this turn."""
        stream = self._stream
        piece = None if stream is None else self._encode(chunk)
        if stream is None or piece is None:
            return
        stream.unacknowledged += len(chunk)
        if not stream.pieces:
            self._loop.call_soon(self._write_pieces, stream)
        stream.pieces.append(piece)

    def _write_pieces(self, stream: ResponseStream) -> None:
        data = b"".join(stream.pieces)
        stream.pieces.clear()
        if self._stream is stream:
            if data:
                self._transport.write(data)
            self._acknowledge()

    def abort(self) -> None:
        """The main side's stream has failed: cut the connection, behind the pieces of this turn."""
        self._loop.call_soon(self._sink.abort)

    def end(self) -> None:
        """Write the regular end of a response that the main side streams."""
        stream = self._stream
        if stream is not None and self._write(b"".join(stream.pieces), b"", last=True):
            stream.pieces.clear()
            self._sink.response_written(stream.keep_alive)

    def _acknowledge(self) -> None:
        """Let the main side send more, unless the client is behind."""
        stream = self._stream
        if stream is not None and not self.paused and stream.unacknowledged >= _ACK_BYTES:
            self._sink.stream_taken(stream.unacknowledged)
            stream.unacknowledged = 0

    def _cut(self, error: Exception) -> None:
        """A response that cannot be completed: only a cut connection tells the client so."""
        log.error("a response was cut: %s", error)
        self._sink.abort()

    def close_stream(self) -> None:
        """Let go of what the last response held."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @property
    def unsent(self) -> int:
        """Bytes of responses that are on this side; not those that the main side has."""
        left = self._transport.get_write_buffer_size()
        if self._stream is not None:
            source = self._stream.source
            left += sum(map(len, self._stream.pieces)) + (0 if source is None else source.left)
        return left

    # -- back-pressure -------------------------------------------------------------------------

    def pause(self) -> None:
        """The client does not take what is written."""
        self.paused = True
        self._stall = (
            monotonic() + self._limits.write_timeout,
            self._transport.get_write_buffer_size(),
        )

    def resume(self) -> None:
        """It does again: go on with the stream."""
        self.paused = False
        self._stall = (math.inf, 0)
        if self._stream is None:
            return
        if self._stream.source is not None:
            self._send_piece()
        else:
            self._acknowledge()

    def is_flushing(self) -> bool:
        """Whether what is written is on its way to a client that took some since the last call."""
        left = self._transport.get_write_buffer_size()
        before, self._left = self._left, left
        return left > 0 and left != before

    def has_stalled(self, now: float) -> bool:
        """Whether the client has taken nothing for the whole write timeout."""
        due, before = self._stall
        if now <= due:
            return False
        left = self._transport.get_write_buffer_size()
        self._stall = (now + self._limits.write_timeout, left)
        return left >= before
