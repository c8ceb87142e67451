"""One HTTP/1.1 connection: an asyncio protocol that joins a reader and a writer.

Responses leave in the order of the requests. `Answering` is what happens with the oldest request
that has no complete response yet; what arrives meanwhile waits unparsed, a little in memory, the
rest with the client.

A client whose sending side ends while its request still waits has left (as for nginx): it gets no
response, and its callback does not run.

Network side.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from time import monotonic
from typing import Final, cast

from ..fields import ResponseHead
from ..messages import ACK, BODY, GONE, HEADERS, REQUEST, WS_CLOSED, WS_OPEN
from . import answering, reading
from .exchange import Exchange, Reply
from .framing import RequestRefused, error_response
from .handshake import answer_handshake, asks_for_websocket
from .inflow import Inflow
from .listener import Listener, endpoint
from .pages import error_reply
from .reading import RequestReader
from .sources import BodySource
from .websocket import WebSocketConnection
from .writing import ResponseWriter, half_close, reset

__all__ = ["Connection"]

log = logging.getLogger("httpuv_kernel")

_EXTRA_HEADERS: Final = {503: {"Retry-After": "1", "Refresh": "2"}}
_CLIENT_LEFT: Final = 499  # in the access log, as nginx has it; no client is ever sent this


class Connection(asyncio.Protocol):
    """One client. Everything runs on the network thread."""

    __slots__ = (
        "_advancing",
        "_answering",
        "_deadline",
        "_ended",
        "_inflow",
        "_local",
        "_peer",
        "_queue",
        "_reader",
        "_transport",
        "listener",
        "writer",
    )

    _transport: asyncio.Transport
    writer: ResponseWriter

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._reader = RequestReader(self, listener.limits, listener.gate, listener.known_requests)
        self._queue: deque[Exchange] = deque()
        self._answering = answering.NOTHING
        self._advancing = self._ended = False  # _ended: no request is begun any more
        self._deadline = math.inf

    # -- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases
        listener = self.listener
        self._transport = transport
        self.writer = ResponseWriter(self, transport, listener.limits, listener.loop)
        self._inflow = Inflow(self._reader, transport, listener.loop, self._go_on)
        self._peer = endpoint(transport, "peername")
        self._local = listener.address or endpoint(transport, "sockname")
        self._deadline = monotonic() + listener.limits.header_timeout
        if not listener.admit(self):
            if listener.is_flooded:
                self.abort()
                return
            self._reader.refuse(RequestRefused(503, "too many connections, or none any more"))

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless an unanswered request stands before it."""
        # What waits goes first, also when only a client that does not read keeps it waiting.
        inflow = self._inflow
        waits = self._queue and self._answering is not answering.RECEIVING
        if waits or inflow.kept or inflow.rests:
            inflow.keep(data)
        else:
            inflow.feed(data)
            self._set_deadline()

    def eof_received(self) -> bool:
        """The client sends no more. A response on its way still goes out; nothing else does."""
        self._ended = True
        return self._answering is answering.STREAMING

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: the main side need not answer it."""
        self._deadline = math.inf
        if self._queue:
            self._give_up(self._queue[0])
        self._enter(answering.CLOSED)
        self.writer.close()
        self._drop_requests()
        self.listener.dismiss(self, exc)

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        self.writer.pause()

    def resume_writing(self) -> None:
        """It does again."""
        self.writer.resume()
        self._advance()
        self._set_deadline()

    # -- what the reader reads -----------------------------------------------------------------

    def head_begun(self) -> None:
        """The header block has one deadline, however its bytes trickle in."""
        self._deadline = monotonic() + self.listener.limits.header_timeout

    def request_read(self, exchange: Exchange) -> None:
        """A request came."""
        exchange.begun = monotonic()
        self.listener.journal.count(exchange)
        self._queue.append(exchange)
        self._advance()

    def body_read(self, exchange: Exchange) -> None:
        """The body of a request is whole; call the main side if it waits just for that."""
        if self._answering is answering.RECEIVING:
            self._call(exchange)

    def body_refused(self, exchange: Exchange) -> None:
        """The body of a request cannot be had; answer now if that is its turn."""
        if self._answering is answering.RECEIVING:
            self._refuse(exchange)

    # -- requests in order ---------------------------------------------------------------------

    def _go_on(self) -> None:
        """The others have had their turn."""
        if self._answering is not answering.CLOSED:
            self._advance()
            self._set_deadline()
            self._inflow.read_on()

    def _advance(self) -> None:
        """Begin requests until one must wait; then parse what came meanwhile."""
        if self._advancing:  # a request that is answered at once: the outer loop goes on
            return
        self._advancing = True
        try:
            while not (self.writer.paused or self._inflow.rests):
                if self._queue and self._answering is answering.NOTHING:
                    if self._transport.is_closing():  # it is lost, which we are told in a moment
                        break
                    self._begin(self._queue[0])
                elif self._inflow.kept and self._answering in answering.READS:
                    self._inflow.feed_kept()
                else:
                    break
        finally:
            self._advancing = False

    def _begin(self, exchange: Exchange) -> None:
        """The oldest request: refuse it, answer it from disk, or hand it to the main side."""
        listener = self.listener
        if exchange.refusal is not None:
            self._refuse(exchange)
        elif listener.gate.token and not exchange.facts.target.startswith(b"/"):
            # The token's segment, without the slash that relative links need.
            location = f"{listener.gate.token.decode()}/{exchange.facts.target.decode('latin-1')}"
            self._reply(exchange, error_reply(exchange, 308, {"Location": location}))
        elif (reply := listener.answer(exchange)) is not None:
            self._reply(exchange, reply)
        elif listener.handlers.on_headers:
            if self._register(exchange):
                self._enter(answering.ASKED)
                head = exchange.head(self._peer, self._local)
                listener.bridge.post((HEADERS, exchange.id, listener.id, head))
        else:
            self._receive_or_call(exchange)

    def _reply(self, exchange: Exchange, reply: Reply) -> None:
        self.writer.respond(exchange, reply.head, reply.body, reply.source)

    def _receive_or_call(self, exchange: Exchange) -> None:
        if asks_for_websocket(exchange):
            self._open_socket(exchange)
        elif not self.listener.handlers.call:
            self._answer(exchange, 404)
        elif exchange.complete:
            self._call(exchange)
        elif exchange.refusal is not None:
            self._refuse(exchange)
        else:
            self._enter(answering.RECEIVING)
            if exchange.facts.expects_continue and exchange.body is None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _call(self, exchange: Exchange) -> None:
        """The request is whole: hand it to the main side."""
        listener = self.listener
        if exchange.id:
            self._enter(answering.CALLED)
            listener.bridge.post((BODY, exchange.id, exchange.take_body()))
        elif self._register(exchange):
            self._enter(answering.CALLED)
            head = exchange.head(self._peer, self._local)
            listener.bridge.post((REQUEST, exchange.id, listener.id, head, exchange.take_body()))

    def _open_socket(self, exchange: Exchange) -> None:
        """Have the main side run `on_ws_open`; it accepts."""
        self._not_wanted(exchange)
        if exchange.id or self._register(exchange):
            self._enter(answering.UPGRADING)
            head = exchange.head(self._peer, self._local)
            self.listener.bridge.post((WS_OPEN, exchange.id, self.listener.id, head))

    def _register(self, exchange: Exchange) -> bool:
        """Give the request the id by which the main side answers it, unless too many wait."""
        exchange.id = self.listener.register(self)
        if not exchange.id:
            self._answer(exchange, 503, "the kernel is busy and too many requests wait")
        return bool(exchange.id)

    def _answer(self, exchange: Exchange, status: int, text: str = "") -> None:
        """An error from the network side itself; the connection may go on."""
        self._not_wanted(exchange)
        headers = _EXTRA_HEADERS.get(status)
        self._reply(exchange, error_reply(exchange, status, headers, text=text))

    def _not_wanted(self, exchange: Exchange) -> None:
        """If the main side was asked, it need not answer."""
        if exchange.id:
            self.listener.bridge.post((GONE, exchange.id))
            if self._answering in answering.OPENS and asks_for_websocket(exchange):
                self.listener.bridge.post((WS_CLOSED, exchange.id, 1006, ""))

    def _give_up(self, exchange: Exchange) -> None:
        """Its client has left before the end of the response."""
        if exchange.id:
            self.listener.forget(exchange.id)
            self._not_wanted(exchange)
        if self._answering is answering.STREAMING:
            self._record(exchange, self.writer.status, self.writer.sent)
        elif self._answering is not answering.CLOSED:
            self._record(exchange, _CLIENT_LEFT, 0)

    def _record(self, exchange: Exchange, status: int, size: int) -> None:
        self.listener.journal.record(self._peer[0], exchange, status, size)

    def _refuse(self, exchange: Exchange) -> None:
        """Answer a request that is not to be read on, and close."""
        refusal = exchange.refusal
        assert refusal is not None
        self._not_wanted(exchange)
        log.info("%s: refused with %d, %s", self._peer[0], refusal.status, refusal.text)
        head_only = exchange.method == b"HEAD"
        self._transport.write(error_response(refusal.status, refusal.text, head_only=head_only))
        self.response_written(keep=False)

    # -- what the main side says, by the exchange's id -------------------------------------------

    def proceed(self) -> None:
        """`on_headers` let the request pass: read its body."""
        if self._answering is answering.ASKED:
            self._receive_or_call(self._queue[0])
            self._advance()
            self._set_deadline()

    def accept(self, subprotocol: str | None) -> None:
        """Become a WebSocket."""
        if self._answering is not answering.UPGRADING:
            return
        exchange = self._queue[0]
        listener, transport = self.listener, self._transport
        handshake = answer_handshake(
            exchange, subprotocol, compress=listener.limits.compress_messages
        )
        if handshake.status != 101:  # a subprotocol that the client does not offer
            self._answer(exchange, handshake.status, handshake.text)
            return
        self._queue.popleft()
        self._record(exchange, 101, 0)
        successor = WebSocketConnection(listener, exchange.id, transport, handshake.extensions)
        self._enter(answering.CLOSED)
        self.writer.close()
        listener.replace(self, successor, exchange.id)
        transport.set_protocol(successor)
        transport.write(handshake.head)
        transport.resume_reading()
        if kept := self._inflow.take():
            successor.data_received(kept)

    def respond(
        self, waited: float, head: ResponseHead, body: bytes, source: BodySource | None = None
    ) -> None:
        """A whole response, from memory or from a file."""
        exchange = self._queue[0]
        exchange.waited = waited
        self.writer.respond(exchange, head, body, source)

    def fail(self, status: int = 500, text: str = "") -> None:
        """The response cannot be had."""
        self._answer(self._queue[0], status, text)

    def start(self, waited: float, head: ResponseHead, chunk: bytes, length: int | None) -> None:
        """The head and the first piece of a streamed response."""
        exchange = self._queue[0]
        exchange.waited = waited
        self.writer.start(exchange, head, chunk, length)
        if not (self._queue and self._queue[0] is exchange):  # it has no body: send no more of it
            self.listener.bridge.post((GONE, exchange.id))

    def fileno(self) -> int:
        """The descriptor of its socket; -1 when there is none any more."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    @property
    def unsent(self) -> int:
        """Bytes of responses that are still on this side."""
        return self.writer.unsent

    def finish(self, *, alone: bool) -> None:
        """Close, now or when the response on its way is out; `alone`: without the main side."""
        if self._answering in (answering.UNDER_WAY_HERE if alone else answering.UNDER_WAY):
            self._ended = True
            self._queue[0].keep_alive = False
        else:
            self.close()

    def abort(self) -> None:
        """Cut the connection, in a way that a client cannot take for an end."""
        reset(self._transport)

    def close(self) -> None:
        """Close the connection once what is written has gone out."""
        self._enter(answering.CLOSED)
        self._deadline = monotonic() + self.listener.limits.linger_timeout
        self._transport.close()

    # -- what the writer has written -----------------------------------------------------------

    def response_begun(self) -> None:
        """The response takes several writes; the request no longer waits for the main side."""
        self._enter(answering.STREAMING)
        self.listener.begun(self._queue[0].id)

    def stream_taken(self, count: int) -> None:
        """The main side may send more."""
        self.listener.bridge.post((ACK, self._queue[0].id, count))

    def response_written(self, keep: bool) -> None:
        """The oldest request has its whole response: go on, or close."""
        if self._answering is answering.CLOSED:  # the server stopped meanwhile
            return
        exchange = self._queue.popleft()
        if exchange.id:
            self.listener.forget(exchange.id)
        if exchange.body is not None:
            exchange.discard()
        writer = self.writer
        writer.close_stream()
        if exchange.refusal is None:
            self._record(exchange, writer.status, writer.sent)
        else:
            self._record(exchange, exchange.refusal.status, 0)
        if keep and not self._ended:
            self._deadline = math.inf
            self._enter(answering.NOTHING)
            if not self._advancing:  # else whoever advances goes on, and sets the deadline
                self._advance()
                self._set_deadline()
        else:
            self._enter(answering.CLOSED)
            self._hang_up(exchange)

    def _hang_up(self, exchange: Exchange) -> None:
        """Close; with a request half read, read on for a while first.

        Closing on unread bytes makes the system send a reset, which takes the response away from a
        client that is still sending (RFC 9112, section 9.6).
        """
        self._drop_requests()
        self._reader.discard()
        self._deadline = monotonic() + self.listener.limits.linger_timeout
        if exchange.complete or not half_close(self._transport):
            self._transport.close()
        else:
            self._transport.resume_reading()

    def _drop_requests(self) -> None:
        for exchange in self._queue:
            exchange.discard()
        self._queue.clear()
        self._inflow.take()

    # -- phases and deadlines ------------------------------------------------------------------

    def _enter(self, phase: answering.Answering) -> None:
        if phase not in answering.NEXT[self._answering]:
            raise RuntimeError(f"answering: {self._answering.name} cannot become {phase.name}")
        self._answering = phase

    def _set_deadline(self) -> None:
        """How long the client may keep us waiting; a busy kernel is no fault of the client."""
        limits = self.listener.limits
        if self._answering is answering.CLOSED:
            return
        if self._answering is answering.RECEIVING:
            self._deadline = monotonic() + limits.body_timeout
        elif self._queue:
            self._deadline = math.inf
        elif self._deadline == math.inf:  # else it has been waiting for what has not come yet
            idle = self._reader.phase is reading.IDLE
            self._deadline = monotonic() + (
                limits.keep_alive_timeout if idle else limits.header_timeout
            )

    def expire(self, now: float) -> None:
        """Called every second or so: end what takes too long."""
        if self.writer.has_stalled(now):
            log.info("%s: reads nothing any more, cut", self._peer[0])
            self.abort()
        elif now > self._deadline:
            if self._answering in answering.DONE and self.writer.is_flushing():
                self._deadline = now + self.listener.limits.write_timeout
                return
            self._deadline = math.inf
            if self._answering is answering.CLOSED:
                self.abort()
            elif self._answering is answering.RECEIVING or self._reader.phase is reading.HEAD:
                self._reader.refuse(RequestRefused(408, "the request did not arrive in time"))
            else:
                self.close()
