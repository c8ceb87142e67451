"""One WebSocket after its handshake: frames in and out, keepalive, back-pressure (RFC 6455).

Frames are websockets' Sans-I/O protocol; here are the transport, the clock and the bridge.

Network side.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from time import monotonic
from typing import cast

from websockets.extensions.base import Extension
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, SERVER
from websockets.protocol import Protocol as FrameProtocol

from ..messages import WS_CLOSED, WS_MESSAGE, WS_MESSAGE_COST, WS_SENT
from .listener import Listener

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was built without
    from websockets.utils import apply_mask

__all__ = ["WebSocketConnection", "broadcast"]

log = logging.getLogger("httpuv_kernel")

# What the main side may have on its table of one socket before its client must wait.
_WINDOW_BYTES = 1024 * 1024
_SENT_BYTES = 64 * 1024  # how much is sent before the main side is told, unless it asks

# Deflate makes a thousand bytes of one at most: of what came, so much is inflated before what it
# became is counted. A socket then holds the window, one largest message and 4 MiB; a whole read
# would become 256 MiB.
_INFLATE_BYTES = 4 * 1024

# Frames of less than 126 bytes have their length in one byte (section 5.2). Most messages are such
# a frame, whole and in a read of its own; the library needs four times as long for one.
_SHORT_BYTES = 125
_TEXT, _BINARY = 0x80 | Opcode.TEXT, 0x80 | Opcode.BINARY  # whole, and not compressed
_MASKED = 0x80
_SHORT_HEAD, _KEY = 2, 4


class _Frames(FrameProtocol):
    """The library's, but that a close frame may stand between the fragments of a message."""

    def fail(self, code: int, reason: str = "") -> None:
        """End the connection; a close frame that is right gets its own code back (section 5.4)."""
        received = self.close_rcvd
        if received is not None and self.state is OPEN:
            code, reason = received.code, received.reason
            if code == CloseCode.NO_STATUS_RCVD:
                code = CloseCode.NORMAL_CLOSURE
        elif self.state is OPEN and code != CloseCode.ABNORMAL_CLOSURE:
            log.info("a WebSocket was closed with %d: %s", code, reason)
        super().fail(code, reason)


class WebSocketConnection(asyncio.Protocol):
    """A socket that is open, or closing. Everything runs on the network thread."""

    __slots__ = (
        "_deadline",
        "_failed",
        "_frames",
        "_heard_at",
        "_in_flight",
        "_is_text",
        "_left",
        "_listener",
        "_message",
        "_over_since",
        "_paused",
        "_pinged_at",
        "_reading_paused",
        "_takes_short",
        "_transport",
        "_unframed",
        "_unread",
        "_unreported",
        "_wants_flush",
        "compression",
        "id",
        "kind",
    )

    def __init__(
        self,
        listener: Listener,
        number: int,
        transport: asyncio.Transport,
        extensions: Sequence[Extension],
    ) -> None:
        self.id = number
        self._listener = listener
        self._transport = transport
        self._frames = _Frames(
            SERVER, state=OPEN, max_size=listener.limits.message_bytes, logger=_frame_log
        )
        self._frames.extensions = list(extensions)
        self.compression = extensions[0] if extensions else None
        """What its messages are compressed with."""
        self.kind = repr(self.compression)
        """Equal for those whose messages are compressed alike."""
        self._takes_short = not extensions and listener.limits.message_bytes >= _SHORT_BYTES
        self._message: bytearray | None = None  # its fragments so far, once there is one
        self._is_text = False
        self._in_flight = 0
        self._reading_paused = False
        self._unread = b""  # waits while reading is paused
        self._unframed = 0  # what came, less the frames that were seen in it at their least size
        self._paused = False
        self._over_since = math.inf
        self._left = 0
        self._failed = False
        self._unreported = 0
        self._wants_flush = 0
        self._heard_at = self._pinged_at = monotonic()
        self._deadline = math.inf

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take frames apart."""
        self._heard_at = monotonic()
        if self._is_short_message(data):
            self._is_text = data[0] == _TEXT
            start = _SHORT_HEAD + _KEY
            self._deliver(apply_mask(data[start:], data[_SHORT_HEAD:start]))
        else:
            self._unframed += len(data)
            self._read(data)

    def eof_received(self) -> bool:
        """The client has gone, with a close frame or without."""
        self._frames.receive_eof()
        self._advance()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The main side runs its on_close."""
        received = self._frames.close_rcvd
        code, reason = (1006, "") if received is None else (received.code, received.reason)
        self._listener.bridge.post((WS_CLOSED, self.id, int(code), reason))
        self._listener.forget(self.id)
        self._listener.dismiss(self)
        self._message = None
        self._unread = b""

    def pause_writing(self) -> None:
        """The client does not take what is written; what it sends might call for more."""
        self._paused = True
        self._over_since = monotonic()
        self._left = self._transport.get_write_buffer_size()
        self._regulate()

    def resume_writing(self) -> None:
        """It does again."""
        self._paused = False
        self._over_since = math.inf
        self._regulate()
        self._report()

    # -- frames in -------------------------------------------------------------------------------

    def _is_short_message(self, data: bytes) -> bool:
        """Whether this is a short message in one frame, and the library need not see it.

        It may begin in the middle of another frame, part of which the library has. `_unframed` is
        never less than that part, so it is 0 only between two frames. It stays above after a length
        in more bytes than it needs, which costs that socket nothing but speed.
        """
        size = len(data) - _SHORT_HEAD - _KEY
        return (
            0 <= size <= _SHORT_BYTES
            and data[1] == _MASKED | size
            and data[0] in (_TEXT, _BINARY)
            and self._takes_short
            and self._unframed == 0
            and self._message is None
            and not self._reading_paused
            and self._frames.state is OPEN
        )

    def _read(self, data: bytes) -> None:
        """Take frames apart until the main side has enough; the rest waits."""
        data = self._unread + data
        self._unread = b""
        step = _INFLATE_BYTES if self.compression is not None else max(1, len(data))
        for start in range(0, len(data), step):
            if self._reading_paused:
                self._unread = data[start:]
                break
            self._frames.receive_data(data[start : start + step])
            self._advance()

    def _advance(self) -> None:
        """Handle what has come, and write what that calls for."""
        for event in self._frames.events_received():
            if self._failed:  # what follows a failure is not looked at (section 7.1.7)
                break
            self._on_frame(cast(Frame, event))
        self._write()

    def _on_frame(self, frame: Frame) -> None:
        self._unframed -= _least_size(frame)
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                self._deliver(frame.data)
            else:
                self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT:
            assert self._message is not None  # else the library has failed the connection
            self._message += frame.data
            if frame.fin:
                whole, self._message = self._message, None
                self._deliver(whole)

    def _deliver(self, data: bytes | bytearray | memoryview) -> None:
        """Hand a whole message to the main side."""
        try:
            message = str(data, "utf-8") if self._is_text else bytes(data)
        except UnicodeDecodeError:
            self._failed = True
            if self._frames.state is OPEN:
                self._frames.fail(1007, "the text is not UTF-8")
                self._write()
            return
        self._listener.bridge.post((WS_MESSAGE, self.id, not self._is_text, message))
        self._in_flight += len(data) + WS_MESSAGE_COST
        self._regulate()

    def handled(self, cost: int) -> None:
        """The main side has run the handlers of messages that cost so much."""
        self._in_flight -= cost
        self._regulate()

    def _regulate(self) -> None:
        """Read on, unless the main side is behind or the client itself does not read."""
        window = _WINDOW_BYTES // 2 if self._reading_paused else _WINDOW_BYTES
        hold = self._paused or self._in_flight > window
        if hold != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = hold
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
                if self._unread:
                    self._read(b"")

    # -- frames out ------------------------------------------------------------------------------

    def _put(self, data: bytes) -> None:
        """Write it, unless the client is lost; asyncio's transport would warn of that."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def _write(self) -> None:
        for data in self._frames.data_to_send():
            if data:
                self._put(data)
            else:  # both close frames are out: the server closes first (section 7.1.1)
                self._transport.close()
                self._deadline = monotonic() + self._listener.limits.linger_timeout

    def send(self, data: bytes, binary: bool) -> None:
        """Send a message; nothing once the socket is closing."""
        size = len(data)
        if self._frames.state is OPEN:
            if self.compression is None and size <= _SHORT_BYTES:
                self._put(bytes((_BINARY if binary else _TEXT, size)) + data)
            else:
                if binary:
                    self._frames.send_binary(data)
                else:
                    self._frames.send_text(data)
                self._write()
        self._sent(size)

    def send_frame(self, wire: bytes, size: int) -> None:
        """Send a message that is a frame already."""
        if self._frames.state is OPEN:
            self._put(wire)
        self._sent(size)

    def _sent(self, size: int) -> None:
        self._unreported += size
        if not self._paused and self._unreported >= _SENT_BYTES:
            self._report()

    def flush(self, number: int) -> None:
        """Tell the main side as soon as the transport has taken what was sent so far."""
        self._wants_flush = number
        if not self._paused:
            self._report()

    def _report(self) -> None:
        if self._unreported or self._wants_flush:
            flushed, self._wants_flush = self._wants_flush, 0
            self._listener.bridge.post((WS_SENT, self.id, self._unreported, flushed))
            self._unreported = 0

    def close_with(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if self._frames.state is OPEN:
            self._frames.send_close(code, reason)
            self._deadline = monotonic() + self._listener.limits.linger_timeout
            self._write()

    @property
    def unsent(self) -> int:
        """Bytes of responses on their way: none; a message is no response."""
        return 0

    def finish(self, *, alone: bool) -> None:
        """The server stops."""
        self.close()

    def close(self) -> None:
        """The server stops."""
        self.close_with(1001, "the server stops")

    # -- time and descriptors ----------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Called every second or so: keep alive, and end what is dead or does not read."""
        limits = self._listener.limits
        if now > self._deadline:
            self._transport.abort()
        elif self._frames.state is not OPEN:
            return
        elif self._has_stalled(now):
            log.warning("a WebSocket was closed with 1013: its client reads too slowly")
            self.close_with(1013, "too slow")
        elif self._reading_paused:  # it may have answered, for all that is known here
            self._heard_at = now
        elif now > self._heard_at + limits.ping_interval + limits.pong_timeout:
            log.info("a WebSocket was closed: its client does not answer")
            self._transport.abort()
        elif now > max(self._heard_at, self._pinged_at) + limits.ping_interval:
            self._pinged_at = now
            self._frames.send_ping(b"")
            self._write()

    def _has_stalled(self, now: float) -> bool:
        """Whether the client has taken nothing for the whole write timeout."""
        if now <= self._over_since + self._listener.limits.write_timeout:
            return False
        before, self._left = self._left, self._transport.get_write_buffer_size()
        self._over_since = now
        return self._left >= before

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def fileno(self) -> int:
        """The descriptor of its socket; -1 when there is none any more."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())


_frame_log = logging.getLogger("httpuv_kernel.websocket")


def _least_size(frame: Frame) -> int:
    """How many bytes a client needs for a frame that is not compressed (section 5.2)."""
    size = len(frame.data)
    long = 0 if size <= _SHORT_BYTES else 2 if size < 65536 else 8
    return _SHORT_HEAD + long + _KEY + size


def broadcast(connections: list[WebSocketConnection], data: bytes, binary: bool) -> None:
    """Send one message to many; framed once, and compressed once for all that compress alike."""
    frame = Frame(Opcode.BINARY if binary else Opcode.TEXT, data)
    wires: dict[str, bytes] = {}
    size = len(data)
    for connection in connections:
        wire = wires.get(connection.kind)
        if wire is None:
            compression = connection.compression
            extensions = [compression] if compression is not None else []
            wire = wires[connection.kind] = frame.serialize(mask=False, extensions=extensions)
        connection.send_frame(wire, size)
