"""The reading half of a connection: bytes in, requests out.

`RequestReader` is the protocol object of an httptools parser. It builds `Exchange` objects, checks
what RFC 9112 and the limits demand, and hands them to its connection in order.

Network side.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Final, Protocol

import httptools

from ..messages import Limits
from .body import BodyBuffer
from .exchange import Exchange
from .files import failure_status
from .framing import RequestRefused, examine_request, parser_refusal
from .gate import Gate
from .known import KnownRequests

__all__ = ["BODY", "DISCARD", "HEAD", "IDLE", "Reading", "RequestReader", "RequestSink"]

log = logging.getLogger("httpuv_kernel")


class Reading(Enum):
    """Where the parser stands."""

    IDLE = "between two requests"
    HEAD = "in a header block"
    BODY = "in a body"
    DISCARD = "what still comes is thrown away"

    __hash__ = object.__hash__  # Enum's own is a Python function, and the table is asked often


# Before Python 3.12 to find a member in its class takes as long as a call.
IDLE, HEAD, BODY, DISCARD = Reading

_NEXT: Final = {
    IDLE: frozenset({HEAD, DISCARD}),
    HEAD: frozenset({BODY, IDLE, DISCARD}),
    BODY: frozenset({IDLE, DISCARD}),
    DISCARD: frozenset({DISCARD}),
}


class RequestSink(Protocol):
    """What a connection does with what was read."""

    def head_begun(self) -> None:
        """The first byte of a request came."""

    def request_read(self, exchange: Exchange) -> None:
        """A request came: whole, or its header block with a body to follow, or refused."""

    def body_read(self, exchange: Exchange) -> None:
        """The body of an announced request is whole."""

    def body_refused(self, exchange: Exchange) -> None:
        """The body of an announced request is refused."""


class _StopParsing(Exception):
    """Raised in a parser callback to leave the parser: nothing after this is wanted."""


class RequestReader:
    """Feeds one connection's bytes to the parser; after `discard` it wants no more."""

    __slots__ = (
        "_chunk",
        "_exchange",
        "_gate",
        "_head_fed",
        "_known",
        "_last",
        "_limits",
        "_no_body",
        "_parser",
        "_sink",
        "_skips_head",
        "_target",
        "_whole",
        "phase",
    )

    def __init__(self, sink: RequestSink, limits: Limits, gate: Gate, known: KnownRequests) -> None:
        """`known` is shared by the connections of a server."""
        self._sink = sink
        self._limits = limits
        self._gate = gate
        self._known = known
        self._no_body = 0  # bytes of a chunked body since the last that was one of the body
        self._skips_head = False  # from an upgrade with a body until its second header block
        self._whole = 0  # requests that ended in this chunk
        self._last: Exchange | None = None  # the last of them, if it has no body
        self._parser: httptools.HttpRequestParser | None = None  # from the first to be parsed on
        self._exchange: Exchange | None = None
        self._target = b""
        self._chunk = 0  # size of the chunk that is parsed
        self._head_fed = 0  # bytes of the chunks that the header block is in, as far as is known
        self.phase = IDLE

    def feed(self, data: bytes) -> bytes:
        """Parse a chunk. Returns its end, which is to be fed again: at once when a body is read,
        else when the requests before it are answered.
        """
        if self.phase is DISCARD:
            return b""
        if self.phase is IDLE:
            exchange = self._known.recall(data, self._gate)
            if exchange is not None:
                if not exchange.keep_alive:
                    self._enter(DISCARD)
                self._sink.request_read(exchange)
                return b""
            rest = self._parse(data)
            if not rest and self._has_read_one():
                assert self._last is not None
                self._known.remember(data, self._last)
            return rest
        return self._parse(data)

    @property
    def body_left(self) -> int:
        """Bytes that are missing of a body of known length; 0 for others."""
        exchange = self._exchange
        if self.phase is not BODY or exchange is None:
            return 0
        length = exchange.facts.content_length or 0
        return length - (0 if exchange.body is None else exchange.body.size)

    def _parse(self, data: bytes) -> bytes:
        self._chunk = len(data)
        self._whole = 0
        if self.phase is HEAD:
            self._head_fed += len(data)
        elif self.phase is BODY:
            self._no_body += len(data)
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, RequestRefused):
                self.refuse(cause)
            elif not isinstance(cause, _StopParsing):
                raise
        except httptools.HttpParserUpgrade as error:
            return self._ignore_upgrade(data[error.args[0] :])
        except httptools.HttpParserError as error:
            self.refuse(parser_refusal(error))
        else:
            if self.phase is BODY and self._no_body > self._limits.header_bytes:
                self.refuse(RequestRefused(431, "too much beside the body: trailers, extensions"))
            # A field that never ends is seen by the bytes it took.
            if self.phase is HEAD and (
                self._head_fed > self._limits.header_bytes or self._fields_are_oversized()
            ):
                self.refuse(self._oversized_head())
        return b""

    def _ignore_upgrade(self, rest: bytes) -> bytes:
        """Go on as if an upgrade had not been asked for; `curl --http2` asks with every request.

        The parser takes what follows the header block for another protocol, so there is a new one;
        that one is told of a body by a header block of ours.
        """
        self._parser = httptools.HttpRequestParser(self)
        exchange = self._exchange
        if not self._skips_head or exchange is None:
            return rest
        length = exchange.facts.content_length
        framing = (
            b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        )
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing)
        self._skips_head = False
        return rest

    def _has_read_one(self) -> bool:
        """Whether a chunk was just one request without a body, whose connection goes as it asks."""
        if self._whole != 1 or self._last is None:
            return False
        return self.phase is (IDLE if self._last.keep_alive else DISCARD)

    def discard(self) -> None:
        """Throw away whatever still comes."""
        self._enter(DISCARD)

    def refuse(self, refusal: RequestRefused) -> None:
        """What is being read gets an error response, after the requests before it; reading ends."""
        if self.phase is DISCARD:
            return
        announced = self.phase is BODY
        self._enter(DISCARD)
        exchange, self._exchange = self._exchange or Exchange([]), None
        exchange.refusal = refusal
        if announced:
            self._sink.body_refused(exchange)
        else:
            self._sink.request_read(exchange)

    # -- the parser's callbacks ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._skips_head:
            return
        if self.phase is DISCARD:
            raise _StopParsing
        self._enter(HEAD)
        self._exchange = Exchange([])
        self._target = b""
        # Behind another request in the same chunk, its share of the chunk is not known.
        self._head_fed = 0 if self._whole else self._chunk
        self._sink.head_begun()

    def on_url(self, url: bytes) -> None:
        """A piece of the target; it comes in pieces when the packets split it."""
        if not self._skips_head:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole field. After the body it is a trailer, which nobody asked for."""
        if self.phase is HEAD:
            assert self._exchange is not None
            self._exchange.fields.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """The header block is whole."""
        if self._skips_head:
            return
        exchange = self._exchange
        assert exchange is not None
        parser = self._parser
        assert parser is not None
        exchange.method = parser.get_method()
        exchange.version = version = parser.get_http_version()
        exchange.http11 = version == "1.1"
        if self._fields_are_oversized():
            raise self._oversized_head()
        facts = examine_request(exchange.method, self._target, version, exchange.fields)
        exchange.facts = facts = self._gate.admit(facts)
        if facts.has_body:
            if (facts.content_length or 0) > self._limits.body_bytes:
                raise self._oversized_body()
            self._enter(BODY)
            self._no_body = 0
            exchange.keep_alive = parser.should_keep_alive()
            self._skips_head = parser.should_upgrade()
            self._sink.request_read(exchange)

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body."""
        exchange = self._exchange
        if exchange is None or self.phase is DISCARD:
            raise _StopParsing
        self._no_body = 0
        if exchange.body is None:
            exchange.body = BodyBuffer(self._limits.spool_bytes)
        if exchange.body.size + len(chunk) > self._limits.body_bytes:
            raise self._oversized_body()
        try:
            exchange.body.append(chunk)
        except OSError as error:
            raise _not_stored(error) from error

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._skips_head:  # so says a parser that leaves the body to another protocol
            return
        exchange = self._exchange
        if exchange is None or self.phase is DISCARD:
            raise _StopParsing
        if exchange.body is not None:
            try:
                exchange.body.end()
            except OSError as error:
                raise _not_stored(error) from error
        self._exchange = None
        exchange.complete = True
        announced = self.phase is BODY
        if not announced:
            assert self._parser is not None
            exchange.keep_alive = self._parser.should_keep_alive()
        # Bytes after a request that asks to close are no request.
        self._enter(IDLE if exchange.keep_alive else DISCARD)
        self._whole += 1
        self._last = None if announced else exchange
        if announced:
            self._sink.body_read(exchange)
        else:
            self._sink.request_read(exchange)
        if not exchange.keep_alive:
            raise _StopParsing

    # -- limits and phases ---------------------------------------------------------------------

    def _fields_are_oversized(self) -> bool:
        """Whether the target and the whole fields so far are larger than the limit."""
        if self._head_fed + self._chunk <= self._limits.header_bytes:
            return False
        assert self._exchange is not None
        size = len(self._target)
        for name, value in self._exchange.fields:
            size += len(name) + len(value) + 4
        return size > self._limits.header_bytes

    def _oversized_head(self) -> RequestRefused:
        return RequestRefused(
            431, f"the header block is larger than {self._limits.header_bytes} bytes"
        )

    def _oversized_body(self) -> RequestRefused:
        return RequestRefused(413, f"the body is larger than {self._limits.body_bytes} bytes")

    def _enter(self, phase: Reading) -> None:
        if phase not in _NEXT[self.phase]:
            raise RuntimeError(f"reading: {self.phase.name} cannot become {phase.name}")
        self.phase = phase


def _not_stored(error: OSError) -> RequestRefused:
    log.error("a request body could not be stored: %s", error)
    if failure_status(error) == 503:
        return RequestRefused(503, "the request body cannot be stored now")
    return RequestRefused(507, "no room to store the request body")
