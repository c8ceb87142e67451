"""WebSockets as the user holds them (manual: WebSocket), and their way to and from the bridge.

Main side.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from .. import messages
from ..messages import RequestHead
from .exchange import AppServer
from .later import Entry, cancel
from .loop import MainLoop
from .request import Request

__all__ = ["Sockets", "WebSocket", "broadcast"]

_HANDLED_BYTES = 64 * 1024  # how much is handled before the network side is told

# What an endpoint may send (RFC 6455, section 7.4); 1005, 1006 and 1015 are never on the wire.
_CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


class WebSocket:
    """A connection to one client, given to the app's `on_ws_open`; never made directly.

    Callbacks run on the main thread. `send`, `close` and `drain` may be called in any thread,
    `drain` in a running asyncio loop; they do nothing once the socket is closed.

    Attributes:
        handle: a number that no other socket of the process has.
        request: the request that opened it.
        message_callbacks: what `on_message` registered.
        close_callbacks: what `on_close` registered.
        subprotocol: the one spoken. `on_ws_open` may set it, before it sends, to one of
            `offered_subprotocols`; by default the first of them that the app names.
        close_code: the code of the client's close frame, 1006 when it left without one, None while
            it is open.
        close_reason: its reason.
    """

    def __init__(self, handle: int, server: AppServer, request: Request) -> None:
        self.handle = handle
        self.request = request
        self.message_callbacks: list[Callable[[bool, Any], object]] = []
        self.close_callbacks: list[Callable[[], object]] = []
        self.offered_subprotocols = [
            name.strip()
            for name in request.headers.get("sec-websocket-protocol", "").split(",")
            if name.strip()
        ]
        known = server.app.subprotocols
        self.subprotocol = next((p for p in self.offered_subprotocols if p in known), None)
        self.close_code: int | None = None
        self.close_reason = ""
        self._network = server.network
        self._accepted = False
        self._closing = False
        self._in_flight = 0
        self._flushes = 0
        self._drains: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()  # guards _accepted, _in_flight, _flushes and _drains

    def on_message(self, func: Callable[[bool, Any], object]) -> Callable[[bool, Any], object]:
        """Call `func(binary, message)` for each message: bytes when binary, else str.

        Usable as a decorator. `func` may be a coroutine function; the next message waits for it.
        """
        self.message_callbacks.append(func)
        return func

    def on_close(self, func: Callable[[], object]) -> Callable[[], object]:
        """Call `func()` once the socket is closed, by whomever. Usable as a decorator."""
        self.close_callbacks.append(func)
        return func

    def send(self, message: str | bytes) -> None:
        """Send text or bytes. Does not wait for the client; see `buffered_amount` and `drain`.

        Raises:
            TypeError: neither str nor bytes-like.
        """
        data, binary = _encoded_message(message)
        if self.is_open:
            self.accept()
            with self._lock:
                self._in_flight += len(data)
            self._network.send((messages.WS_SEND, self.handle, data, binary))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin to close; `on_close` runs when it is done.

        Raises:
            ValueError: a code that no endpoint may send, or a reason above 123 bytes.
        """
        if code not in _CLOSE_CODES:
            raise ValueError(
                f"close code {code!r} is not one that may be sent; use 1000 for a normal end, "
                "3000 to 4999 for your own"
            )
        if len(reason.encode()) > 123:
            raise ValueError("the reason of a close is at most 123 bytes of UTF-8")
        if self.is_open:
            self.accept()
            self._closing = True
            self._network.send((messages.WS_CLOSE, self.handle, int(code), reason))

    @property
    def is_open(self) -> bool:
        """Neither closed nor closing from this side."""
        return self.close_code is None and not self._closing

    @property
    def buffered_amount(self) -> int:
        """Bytes sent that the client's connection has not been seen to take, exact to 64 KiB."""
        return self._in_flight

    async def drain(self) -> None:
        """Return once the connection has taken what was sent so far, or is closed."""
        loop = asyncio.get_running_loop()
        taken = loop.create_future()
        if self.close_code is None:
            self.accept()
        with self._lock:
            if self.close_code is not None:  # set before the last `taken`, which has the lock, too
                return
            self._flushes += 1
            self._drains.append((self._flushes, loop, taken))
            self._network.send((messages.WS_FLUSH, self.handle, self._flushes))
        await taken

    def accept(self) -> None:
        """Answer the handshake, once; done by the first send and when `on_ws_open` returns."""
        if not self._accepted:
            with self._lock:
                self._answer_handshake()

    def _answer_handshake(self) -> None:
        """The same, for who holds the lock."""
        if self._accepted:
            return
        chosen = self.subprotocol
        if chosen is not None and chosen not in self.offered_subprotocols:
            self.subprotocol = None  # so that it can be closed
            raise ValueError(f"the client does not offer the subprotocol {chosen!r}")
        self._network.send((messages.WS_ACCEPT, self.handle, chosen))
        self._accepted = True  # last: who sees it without the lock goes on to send

    def taken(self, count: int, flushed: int | None = None) -> None:
        """The connection took so many bytes, and all before this flush; None: no more is coming.

        Wakes who waits for that in `drain`.
        """
        with self._lock:
            self._in_flight = max(0, self._in_flight - count)
            done = [drain for drain in self._drains if flushed is None or drain[0] <= flushed]
            self._drains = [drain for drain in self._drains if drain not in done]
        for _, loop, future in done:
            with contextlib.suppress(RuntimeError):  # nobody waits in a loop that is closed
                loop.call_soon_threadsafe(_resolve, future)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<WebSocket {self.handle} {state} {self.request.raw_path}>"


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _encoded_message(message: object) -> tuple[bytes, bool]:
    """The bytes of a message, and whether it is binary."""
    if isinstance(message, str):
        return message.encode(), False
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message), True
    raise TypeError(f"a WebSocket message is str or bytes, not {type(message).__name__}")


def broadcast(sockets: Iterable[WebSocket], message: str | bytes) -> None:
    """Send one message to many sockets; it is framed and compressed once. Any thread.

    Raises:
        TypeError: neither str nor bytes-like.
    """
    data, binary = _encoded_message(message)
    size = len(data)
    targets = [socket for socket in sockets if socket.is_open]
    for socket in targets:
        socket.accept()
        with socket._lock:
            socket._in_flight += size
    for network in {socket._network for socket in targets}:
        handles = tuple(socket.handle for socket in targets if socket._network is network)
        network.send((messages.WS_BROADCAST, handles, data, binary))


class _Dispatch:
    """Runs one socket's callbacks in order; what comes waits for a coroutine that is under way."""

    __slots__ = (
        "_backlog",
        "_busy",
        "_failed",
        "_handled",
        "_sockets",
        "entry",
        "server",
        "socket",
    )

    def __init__(self, sockets: Sockets, socket: WebSocket, server: AppServer) -> None:
        self._sockets = sockets
        self._backlog: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._busy = False
        self._failed = False
        self._handled = 0
        self.socket = socket
        self.server = server
        self.entry: Entry | None = None

    def run(self, function: Callable[..., None], *arguments: object) -> None:
        """A queued callback: now, or after the coroutine that is under way."""
        if self._busy or self._backlog:
            self._backlog.append((function, arguments))
        else:
            function(*arguments)

    def open(self) -> None:
        """Run `on_ws_open`."""
        self.entry = None
        if self.server.tells_begin:
            self.server.network.send((messages.BEGUN, self.socket.handle))
        handler = self.server.app.on_ws_open
        assert handler is not None
        self._call([handler], (self.socket,), self._accept)

    def _accept(self) -> None:
        if self.socket.close_code is None:
            try:
                self.socket.accept()
            except ValueError as error:
                self._fail(error)

    def message(self, binary: bool, message: str | bytes) -> None:
        """Run the message callbacks, and tell the network side what is handled."""
        if isinstance(message, bytes) or message.isascii():
            size = len(message)
        else:
            size = len(message.encode())
        self._handled += size + messages.WS_MESSAGE_COST
        # After a failure it is being closed with 1011.
        callbacks = [] if self._failed else list(self.socket.message_callbacks)
        self._call(callbacks, (binary, message), self._report)

    def _report(self) -> None:
        if self._handled >= _HANDLED_BYTES:
            self.server.network.send((messages.WS_HANDLED, self.socket.handle, self._handled))
            self._handled = 0

    def closed(self) -> None:
        """Run the close callbacks."""
        self._call(list(self.socket.close_callbacks), (), self.socket.request.close)

    def _call(
        self,
        functions: list[Callable[..., object]],
        arguments: tuple[object, ...],
        then: Callable[[], None],
    ) -> None:
        """Call the functions one after another, then do `then`."""
        loop = self._sockets.loop
        for i, function in enumerate(functions):
            try:
                result = loop.call(self.server.output, function, *arguments)
            except BaseException as error:
                self._fail(error)
                continue
            if result is not None and asyncio.iscoroutine(result):  # the test is slow
                self._busy = True
                output = self.server.output
                task = loop.host.create_task(loop.guarded(result, output), output.context.copy())
                rest = functions[i + 1 :]
                task.add_done_callback(
                    functools.partial(self._go_on, rest=rest, arguments=arguments, then=then)
                )
                return
        then()

    def _go_on(
        self,
        task: asyncio.Task[Any],
        *,
        rest: list[Callable[..., object]],
        arguments: tuple[object, ...],
        then: Callable[[], None],
    ) -> None:
        """The coroutine is done: on with the other functions, then with what waits."""
        self._busy = False
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)
        self._call(rest, arguments, then)
        if self._backlog and not self._busy:
            self._sockets.loop.push(self.server.queue, self._next)

    def _next(self) -> None:
        if self._backlog and not self._busy:
            function, arguments = self._backlog.popleft()
            function(*arguments)
            if self._backlog and not self._busy:
                self._sockets.loop.push(self.server.queue, self._next)

    def _fail(self, error: BaseException) -> None:
        """1011 for the client, the traceback for the user."""
        self._failed = True
        self._sockets.loop.show_error(self.server.output, error, f"{self.socket!r} failed")
        self.socket.close(1011)


class Sockets:
    """Every socket of this side, by its handle. Main thread."""

    def __init__(self, loop: MainLoop, servers: dict[int, AppServer]) -> None:
        self.loop = loop
        self._servers = servers
        self._open: dict[int, _Dispatch] = {}
        loop.handlers.update(
            {
                messages.WS_OPEN: self._on_open,
                messages.WS_MESSAGE: self._on_message,
                messages.WS_CLOSED: self._on_closed,
                messages.WS_SENT: self._on_sent,
            }
        )

    def close_all(self, server: AppServer, code: int, reason: str) -> None:
        """Begin to close every socket of a server. Any thread."""
        for dispatch in list(self._open.values()):
            if dispatch.server is server:
                dispatch.socket.close(code, reason)

    def abandon(self, when: float, whether: Callable[[int], bool]) -> None:
        """The sockets of which this is true are gone. Main thread."""
        for handle in list(filter(whether, self._open)):
            self._on_closed(when, handle, 1006, "")

    def _on_open(self, when: float, handle: int, server: int, head: RequestHead) -> None:
        if server not in self._servers:
            return
        owner = self._servers[server]
        socket = WebSocket(handle, owner, Request(head, b""))
        self._open[handle] = dispatch = _Dispatch(self, socket, owner)
        dispatch.entry = owner.queue.push(when, dispatch.run, dispatch.open)

    def _on_message(self, when: float, handle: int, binary: bool, message: str | bytes) -> None:
        dispatch = self._open.get(handle)
        if dispatch is not None:
            dispatch.server.queue.push(when, dispatch.run, dispatch.message, binary, message)

    def _on_closed(self, when: float, handle: int, code: int, reason: str) -> None:
        dispatch = self._open.pop(handle, None)
        if dispatch is None:
            return
        socket = dispatch.socket
        socket.close_code, socket.close_reason = code, reason
        socket.taken(socket.buffered_amount)
        if dispatch.entry is not None:  # the client left before on_ws_open began: nothing happened
            cancel(dispatch.entry)
        else:
            dispatch.server.queue.push(when, dispatch.run, dispatch.closed)

    def _on_sent(self, when: float, handle: int, count: int, flushed: int) -> None:
        dispatch = self._open.get(handle)
        if dispatch is not None:
            dispatch.socket.taken(count, flushed)
