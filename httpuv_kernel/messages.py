"""What crosses the bridge: plain tuples, the first item naming the kind.

Everything in a message is an int, float, str, bytes, bool, None or a tuple, list or dict of those,
so that it could cross to another process as it is. Things are named by id: `server`, `exchange`
(one request and its response), `socket` (the exchange that became a WebSocket) and `call` (a
question of the main side that the network side answers).

To the main side::

    (REQUEST, exchange, server, head, body)   a whole request; run `call`
    (HEADERS, exchange, server, head)         its header block only; run `on_headers`
    (BODY, exchange, body)                    the body of a request that `on_headers` let pass
    (ACK, exchange, count)                    so many bytes of a stream were taken by the transport
    (GONE, exchange)                          the client has left; nothing more is wanted
    (WS_OPEN, socket, server, head)           a WebSocket handshake; run `on_ws_open`
    (WS_MESSAGE, socket, binary, message)     a message, str or bytes
    (WS_CLOSED, socket, code, reason)         it is closed; the last of this socket
    (WS_SENT, socket, count, flushed)         so many bytes were taken; all before that flush
    (STOPPED, server)                         a page of the notebook has closed it
    (NETWORK_GONE, network)                   a network process has ended unasked

From a network process only, where replies cannot be given directly::

    (REPLY, call, value)
    (REPLY_ERROR, call, number, text)
    (LOG, logger, level, text)                what it logs

To the network side::

    (RESPOND, exchange, waited, head, body)   a whole response
    (SEND_FILE, exchange, waited, head, path, owned)  a response whose body is a file
    (START, exchange, waited, head, chunk, length)    a streamed one; length None: not known
    (CHUNK, exchange, chunk)                  its next piece
    (END, exchange)                           its regular end
    (ABORT, exchange)                         cut the connection: the stream failed half-way
    (CONTINUE, exchange)                      `on_headers` agreed; read the body
    (WS_ACCEPT, socket, subprotocol)          complete the handshake
    (WS_SEND, socket, data, binary)           send a message; text as UTF-8
    (WS_BROADCAST, sockets, data, binary)     send it to all of them
    (WS_CLOSE, socket, code, reason)          begin to close
    (WS_HANDLED, socket, cost)                messages of this cost were handled
    (WS_FLUSH, socket, number)                report WS_SENT as soon as all is taken
    (ALARM, when)                             wake the main side at this time.monotonic()
    (LISTEN, call, server, place, settings)   place: (TCP, addresses) or (UNIX, path, mask)
    (STOP, call, server, timeout, alone)      see `Listener.close`
    (SET_APP, call, server, handlers, table)  handlers: which of the app's there are
    (ASK_STATUS, call, server)                the reply is a ServerStatus
    (ASK_JOURNAL, call, server, count)        the reply is a list of JournalEntry
    (ADD_KEY, server, key)                    a page of the notebook may claim the server with it
    (PUBLISH, server, path, head, body)       answer a path with this; head None: no longer
    (BEGUN, exchange)                         its handler runs; sent where there is a busy_timeout
    (QUIT, call)

A request's `head` is `(method, target, version, fields, peer, local)`: method and version as str,
target as the bytes of path and query, fields a list of `(lower-case name, value)` byte pairs, peer
and local `(host, port)` as str. Its `body` is bytes, or `(path, size)` of a spooled file. A
response's `head` is what `fields.response_head` makes; `waited` is how many seconds the request
waited for the main thread.

Shared ground: imported by both sides, imports neither.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

REQUEST: Final = "request"
HEADERS: Final = "headers"
BODY: Final = "body"
ACK: Final = "ack"
GONE: Final = "gone"

WS_OPEN: Final = "ws_open"
WS_MESSAGE: Final = "ws_message"
WS_CLOSED: Final = "ws_closed"
WS_SENT: Final = "ws_sent"
WS_MESSAGE_COST: Final = 128  # beside its bytes, what a message counts for in back-pressure

STOPPED: Final = "stopped"
NETWORK_GONE: Final = "network_gone"
REPLY: Final = "reply"
REPLY_ERROR: Final = "reply_error"
LOG: Final = "log"

RESPOND: Final = "respond"
SEND_FILE: Final = "send_file"
START: Final = "start"
CHUNK: Final = "chunk"
END: Final = "end"
ABORT: Final = "abort"
CONTINUE: Final = "continue"
WS_ACCEPT: Final = "ws_accept"
WS_SEND: Final = "ws_send"
WS_BROADCAST: Final = "ws_broadcast"
WS_CLOSE: Final = "ws_close"
WS_HANDLED: Final = "ws_handled"
WS_FLUSH: Final = "ws_flush"
ALARM: Final = "alarm"
LISTEN: Final = "listen"
TCP: Final = "tcp"
UNIX: Final = "unix"
STOP: Final = "stop"
SET_APP: Final = "set_app"
ASK_STATUS: Final = "ask_status"
ASK_JOURNAL: Final = "ask_journal"
ADD_KEY: Final = "add_key"
PUBLISH: Final = "publish"
BEGUN: Final = "begun"
QUIT: Final = "quit"

# The items after the kind differ by kind; each handler names and types its own.
Message: TypeAlias = tuple[Any, ...]

Fields: TypeAlias = list[tuple[bytes, bytes]]
Address: TypeAlias = tuple[str, str]
Place: TypeAlias = tuple[Any, ...]
RequestHead: TypeAlias = tuple[str, bytes, str, Fields, Address, Address]
RequestBody: TypeAlias = "bytes | tuple[str, int]"


class Limits(NamedTuple):
    """Bounds of one server; `config.HTTPUV` holds the defaults, with unit and reason.

    Sizes are bytes, times seconds. Crosses the bridge as a plain tuple.
    """

    header_bytes: int
    body_bytes: int
    spool_bytes: int
    connections: int
    pending: int
    header_timeout: float
    body_timeout: float
    keep_alive_timeout: float
    write_timeout: float
    linger_timeout: float
    gzip_bytes: int
    message_bytes: int
    ping_interval: float
    pong_timeout: float
    compress_messages: bool
    journal_entries: int
    busy_timeout: float
    stop_timeout: float


class Handlers(NamedTuple):
    """Which handlers an app has. Crosses the bridge as a plain tuple."""

    call: bool
    on_headers: bool
    on_ws_open: bool


class Settings(NamedTuple):
    """What the network side knows of a server. Crosses the bridge as a plain tuple."""

    limits: tuple[Any, ...]
    handlers: tuple[bool, bool, bool]
    allowed_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...] | None  # None: any Host is served (not a loopback bind)
    static_table: tuple[Any, ...]
    token: str  # the path segment under which everything is mounted; "" for none
    access_log: bool
    identity: str  # by which a page knows the server again; no secret
    control: str  # with which a page may stop it
    published: tuple[tuple[bytes, tuple[Any, ...], bytes], ...] = ()  # as in PUBLISH


class ServerStatus(NamedTuple):
    """Figures of one server. Crosses the bridge as a plain tuple."""

    requests: int
    """That came so far."""
    waiting: int
    """That wait for the main thread now."""
    connections: int
    """That are open, WebSockets included."""
    sockets: int
    """WebSockets that are open."""


# When it was answered as time.time(), client, method, target, status, bytes of the body, seconds
# from the request's arrival to the last byte written, and those of them waited for the main thread.
JournalEntry: TypeAlias = tuple[float, str, bytes, bytes, int, int, float, float]
