"""The network thread: one Tornado IOLoop for the process, and what the main side asks of it.

The loop runs over uvloop where that is installed; it is an object of this thread, the process's
event loop policy is not touched. `NetworkThread.start` and `stop` are called by the main side's
runtime; everything else here runs on the thread.

Network side.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from time import monotonic
from typing import Any

from tornado.ioloop import IOLoop

from .. import messages
from ..bridge import NetworkEnd
from ..fields import ResponseHead
from .files import EXHAUSTED, failure_status, open_file
from .http1 import Connection
from .listener import Listener
from .sources import remove_file
from .websocket import WebSocketConnection, broadcast

__all__ = ["HEARTBEAT", "NetworkSide", "NetworkThread"]

log = logging.getLogger("httpuv_kernel")

# How often timeouts are looked at. Also mends a wake-up that an interrupt cut in two.
HEARTBEAT = 1.0

_FLUSH_TIME = 0.25

# So much later than due, a beat is worth a line in the log; at most one in so many seconds.
_LATE = 1.0
_LATE_AGAIN = 60.0
# A thread that waits for the GIL wakes up every sys.getswitchinterval(), 5 ms at most as a rule.
_WAITS_PER_SECOND = 50


def held_up(late: float, waits: int | None) -> tuple[int, str]:
    """The level and the text of what is logged when the loop was held up. Pure.

    Args:
        late: seconds.
        waits: how often this thread gave up the processor meanwhile; None when that is not known.
    """
    text = f"the network side was held up for {late:.1f} s"
    if waits is None or waits > late * _WAITS_PER_SECOND:
        cause = "most likely by C code that kept the GIL"
        return logging.WARNING, f"{text}, {cause}; HTTPUV.isolation = 'process' helps"
    return logging.INFO, f"{text}: this process was stopped, or the system or a disk was busy"


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _count_waits() -> int | None:
    """How often this thread has given up the processor; None where that is not counted."""
    try:
        from resource import RUSAGE_THREAD, getrusage
    except ImportError:  # not Linux
        return None
    return getrusage(RUSAGE_THREAD).ru_nvcsw


class NetworkThread:
    """The thread, started and stopped as a whole."""

    def __init__(self, bridge: NetworkEnd, heartbeat: float = HEARTBEAT) -> None:
        self._side = NetworkSide(bridge, heartbeat)
        self._thread = threading.Thread(target=self._run, name="httpuv-io", daemon=True)
        self._started: Future[None] = Future()

    def start(self) -> None:
        """Start, and return when the loop runs; raises what kept it from running."""
        self._thread.start()
        self._started.result()

    def join(self, timeout: float) -> bool:
        """Wait for the end that `messages.QUIT` asks for; False when it did not come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close_descriptors(self) -> None:
        """In a forked child, where this thread does not exist: let go of its sockets."""
        self._side.close_descriptors()

    def _run(self) -> None:
        try:
            self._side.run(lambda: self._started.set_result(None))
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)


class NetworkSide:
    """Carries out the main side's messages. Network thread only."""

    def __init__(self, bridge: NetworkEnd, heartbeat: float) -> None:
        self._bridge = bridge
        self._heartbeat = heartbeat
        self._quiet_until = 0.0
        self._listeners: dict[int, Listener] = {}
        self._exchanges: dict[int, Connection | WebSocketConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Callable[..., None]] = {
            messages.CONTINUE: self._to(Connection, Connection.proceed),
            messages.RESPOND: self._respond,
            messages.SEND_FILE: self._send_file,
            messages.START: self._to(Connection, Connection.start),
            messages.CHUNK: self._to(
                Connection, lambda connection, chunk: connection.writer.chunk(chunk)
            ),
            messages.END: self._to(Connection, lambda connection: connection.writer.end()),
            messages.ABORT: self._to(Connection, lambda connection: connection.writer.abort()),
            messages.WS_ACCEPT: self._to(Connection, Connection.accept),
            messages.WS_SEND: self._to(WebSocketConnection, WebSocketConnection.send),
            messages.WS_CLOSE: self._to(WebSocketConnection, WebSocketConnection.close_with),
            messages.WS_HANDLED: self._to(WebSocketConnection, WebSocketConnection.handled),
            messages.WS_FLUSH: self._to(WebSocketConnection, WebSocketConnection.flush),
            messages.WS_BROADCAST: self._broadcast,
            messages.ALARM: self._alarm,
            messages.LISTEN: self._listen,
            messages.STOP: self._stop,
            messages.SET_APP: self._set_app,
            messages.ASK_STATUS: self._status,
            messages.ASK_JOURNAL: self._journal,
            messages.ADD_KEY: self._add_key,
            messages.PUBLISH: self._publish,
            messages.BEGUN: self._begun,
            messages.QUIT: self._quit,
        }

    def run(self, on_started: Callable[[], None]) -> None:
        """Run a loop in this thread until the main side asks for the end."""
        self._loop = loop = _new_event_loop()
        self._ioloop = ioloop = IOLoop(asyncio_loop=loop, make_current=False)
        asyncio.set_event_loop(loop)
        self._bridge.watch(loop, self._handle)
        loop.set_exception_handler(self._on_error)
        self._schedule_beat()
        ioloop.add_callback(on_started)
        try:
            ioloop.start()
        finally:
            self._bridge.unwatch(loop)
            asyncio.set_event_loop(None)
            ioloop.close()

    def stop(self) -> None:
        """End the loop at once."""
        self._ioloop.stop()

    def close_descriptors(self) -> None:
        """In a forked child: let go of every socket."""
        for listener in self._listeners.values():
            listener.close_descriptors()

    # -- messages ------------------------------------------------------------------------------

    def _handle(self, message: messages.Message) -> None:
        try:
            self._handlers[message[0]](*message[1:])
        except Exception:
            log.exception("the network side failed on a message %r", message[0])

    def _to(self, kind: type, method: Callable[..., None]) -> Callable[..., None]:
        """A handler that calls this method of what an id names, if that is still there."""
        exchanges = self._exchanges

        def handle(exchange: int, *arguments: object) -> None:
            connection = exchanges.get(exchange)
            if type(connection) is kind:  # else the client has left
                method(connection, *arguments)

        return handle

    def _respond(self, exchange: int, waited: float, head: ResponseHead, body: bytes) -> None:
        # As `_to` would make it, but without packing arguments: this is what comes most.
        connection = self._exchanges.get(exchange)
        if type(connection) is Connection:
            connection.respond(waited, head, body)

    def _send_file(
        self, exchange: int, waited: float, head: ResponseHead, path: str, owned: bool
    ) -> None:
        connection = self._exchanges.get(exchange)
        source = None
        if isinstance(connection, Connection):
            try:
                source = open_file(path, unlink=owned)
            except OSError as error:
                log.error("the file of a response cannot be read: %s", error)
                connection.fail(max(500, failure_status(error)))  # a missing one is the app's fault
            else:
                connection.respond(waited, head, b"", source)
        if source is None and owned:  # nobody is left to get it
            remove_file(path)

    def _broadcast(self, sockets: tuple[int, ...], data: bytes, binary: bool) -> None:
        targets = [self._exchanges.get(number) for number in sockets]
        broadcast([each for each in targets if isinstance(each, WebSocketConnection)], data, binary)

    def _alarm(self, when: float) -> None:
        self._loop.call_later(max(0.0, when - monotonic()), self._bridge.wake_main)

    def _listen(
        self, call: int, server: int, place: messages.Place, settings: tuple[Any, ...]
    ) -> None:
        listener = Listener(
            server, messages.Settings(*settings), self._loop, self._bridge, self._exchanges
        )

        async def listen() -> None:
            port = await listener.listen(place, lambda: Connection(listener))
            self._listeners[server] = listener
            self._bridge.reply(call, port)

        self._run(call, listen())

    def _stop(self, call: int, server: int, timeout: float, alone: bool) -> None:
        async def stop() -> None:
            listener = self._listeners.get(server)
            if listener is not None:
                await listener.close(timeout, alone=alone)
            self._bridge.reply(call)

        self._run(call, stop())

    def _set_app(
        self, call: int, server: int, handlers: tuple[bool, bool, bool], table: tuple[Any, ...]
    ) -> None:
        if server in self._listeners:
            self._listeners[server].set_app(handlers, table)
        self._bridge.reply(call)

    def _status(self, call: int, server: int) -> None:
        listener = self._listeners.get(server)
        self._bridge.reply(call, tuple(listener.status()) if listener else (0, 0, 0, 0))

    def _journal(self, call: int, server: int, count: int) -> None:
        listener = self._listeners.get(server)
        self._bridge.reply(call, listener.journal.last(count) if listener else [])

    def _publish(self, server: int, path: bytes, head: ResponseHead | None, body: bytes) -> None:
        if server not in self._listeners:
            return
        published = self._listeners[server].published
        if head is None:
            published.remove(path)
        else:
            published.put(path, head, body)

    def _begun(self, exchange: int) -> None:
        connection = self._exchanges.get(exchange)
        if isinstance(connection, Connection):
            connection.listener.begun(exchange)

    def _add_key(self, server: int, key: str) -> None:
        if server in self._listeners:
            self._listeners[server].internal.add_key(key)

    def _quit(self, call: int) -> None:
        async def quit_loop() -> None:
            listeners = self._listeners.values()
            for listener in listeners:
                await listener.close()
            # What is written has a moment to get out; then every client is to know of the end.
            until = monotonic() + _FLUSH_TIME
            while not all(listener.is_over for listener in listeners):
                if monotonic() > until:
                    for listener in listeners:
                        listener.abort_clients()
                    await asyncio.sleep(0.005)
                    break
                await asyncio.sleep(0.001)
            self._bridge.reply(call)
            self._ioloop.stop()

        self._run(call, quit_loop())

    def _run(self, call: int, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what takes turns of the loop; its error is the reply."""

        async def guarded() -> None:
            try:
                await coroutine
            except OSError as error:
                self._bridge.reply_error(call, error.errno or 0, error.strerror or str(error))
            except Exception as error:
                log.exception("the network side failed")
                self._bridge.reply_error(call, 0, repr(error))

        task = self._loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback of the loop has raised."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in EXHAUSTED and "socket" in context:
            log.warning("no client can be let in for a second: %s", error.strerror)
        else:
            loop.default_exception_handler(context)

    # -- time ----------------------------------------------------------------------------------

    def _schedule_beat(self) -> None:
        self._due = monotonic() + self._heartbeat
        self._waits = _count_waits()
        self._loop.call_later(self._heartbeat, self._beat)

    def _beat(self) -> None:
        now = monotonic()
        if now > self._due + _LATE and now > self._quiet_until:
            waits = None if self._waits is None else (_count_waits() or 0) - self._waits
            level, text = held_up(now - self._due, waits)
            log.log(level, "%s", text)
            if level == logging.WARNING:
                self._quiet_until = now + _LATE_AGAIN
        self._schedule_beat()
        for number, listener in list(self._listeners.items()):
            listener.expire(now)
            if listener.is_over:
                del self._listeners[number]
        self._bridge.mend()
