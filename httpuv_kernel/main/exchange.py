"""One request on the main side: from the bridge to the app's handler, and its answer back.

Main side.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from time import monotonic
from typing import Any, Protocol

from .. import messages
from ..bridge import Questions
from ..fields import Headers, response_head
from ..hosts import Output
from ..messages import RequestBody, RequestHead
from .app import App
from .events import HEARTBEAT, EventBody
from .later import CallbackQueue, Entry, cancel
from .loop import MainLoop
from .request import Request
from .response import (
    FileBody,
    PreparedBody,
    PushBody,
    PushStream,
    RichBody,
    is_response,
    prepare,
)
from .streaming import AsyncBodyStream, BodyStream

__all__ = ["Answer", "AppServer", "Exchanges"]

log = logging.getLogger("httpuv_kernel")

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_INTERNAL_ERROR = tuple(response_head(500, _PLAIN, None))
_ERROR_BODY = b"500 Internal Server Error\n"
_NOT_FOUND = tuple(response_head(404, _PLAIN, None))
_HEARTBEAT_SECONDS = 15.0  # as the standard advises; proxies close what is silent for 30 s or 60 s


class AppServer(Protocol):
    """What an exchange needs of its server."""

    app: App
    queue: CallbackQueue
    network: Questions
    tells_begin: bool
    """Whether the network side is to know when a handler begins."""

    @property
    def output(self) -> Output:
        """Where its callbacks' output goes."""

    def published(self) -> tuple[tuple[bytes, tuple[Any, ...], bytes], ...]:
        """What it has published, as it crosses the bridge."""

    def stopped(self) -> None:
        """It runs no more."""


class Exchanges:
    """Every request that this side has and has not answered, by its id. Main thread."""

    def __init__(self, loop: MainLoop, servers: dict[int, AppServer]) -> None:
        self.loop = loop
        self._servers = servers
        self._answers: dict[int, Answer] = {}
        loop.handlers.update(
            {
                messages.REQUEST: self._on_request,
                messages.HEADERS: self._on_headers,
                messages.BODY: self._on_body,
                messages.ACK: self._on_ack,
                messages.GONE: self._on_gone,
            }
        )

    def __len__(self) -> int:
        return len(self._answers)

    def _on_request(
        self, when: float, exchange: int, server: int, head: RequestHead, body: RequestBody
    ) -> None:
        if server in self._servers:  # else it was stopped meanwhile
            owner = self._servers[server]
            self._answers[exchange] = answer = Answer(self, exchange, owner, head)
            answer.entry = owner.queue.push(when, answer.run_call, body)

    def _on_headers(self, when: float, exchange: int, server: int, head: RequestHead) -> None:
        if server in self._servers:
            owner = self._servers[server]
            self._answers[exchange] = answer = Answer(self, exchange, owner, head)
            answer.entry = owner.queue.push(when, answer.run_on_headers)

    def _on_body(self, when: float, exchange: int, body: RequestBody) -> None:
        answer = self._answers.get(exchange)
        if answer is not None:
            answer.entry = answer.server.queue.push(when, answer.run_call, body)

    def _on_ack(self, when: float, exchange: int, count: int) -> None:
        answer = self._answers.get(exchange)
        if answer is not None and answer.stream is not None:
            answer.stream.acknowledge(count)

    def _on_gone(self, when: float, exchange: int) -> None:
        answer = self._answers.pop(exchange, None)
        if answer is not None:
            answer.abandon()

    def forget(self, exchange: int) -> bool:
        """The exchange is over; False when it was already, so that nothing is answered twice."""
        return self._answers.pop(exchange, None) is not None

    def abandon(self, whether: Callable[[int], bool]) -> None:
        """Nothing is wanted any more of the exchanges of which this is true."""
        for exchange in list(filter(whether, self._answers)):
            self._answers.pop(exchange).abandon()

    def is_live(self, exchange: int) -> bool:
        """Whether an answer is still wanted."""
        return exchange in self._answers


class Answer:
    """The answering of one request. Main thread."""

    __slots__ = (
        "_beat_entry",
        "_closing",
        "_exchanges",
        "_head",
        "_request",
        "_task",
        "entry",
        "id",
        "server",
        "stream",
        "waited",
    )

    def __init__(
        self, exchanges: Exchanges, exchange: int, server: AppServer, head: RequestHead
    ) -> None:
        self._exchanges = exchanges
        self._head = head
        self._request: Request | None = None
        self._task: asyncio.Task[Any] | None = None
        self._closing = False
        self._beat_entry: Entry | None = None
        self.id = exchange
        self.server = server
        self.entry: Entry | None = None
        self.stream: PushStream | None = None
        self.waited = 0.0
        """Seconds in the queue before the main thread began with it."""

    # -- callbacks -------------------------------------------------------------------------------

    def run_call(self, body: RequestBody) -> None:
        """Run the app's `call` with the whole request."""
        self._begin()
        self._closing = False
        handler = self.server.app.call
        if handler is None:
            self._send((messages.RESPOND, self.id, self.waited, _NOT_FOUND, b"404 Not Found\n"))
            return
        try:
            request = self._request = Request(self._head, body)
        except FileNotFoundError as error:  # the client has left; that news is on its way
            log.info("the body of a request is gone: %s", error)
            self._send((messages.RESPOND, self.id, self.waited, _INTERNAL_ERROR, _ERROR_BODY))
            return
        except OSError as error:
            self.fail(error)
            return
        self._run(handler, request)

    def _begin(self) -> None:
        entry, self.entry = self.entry, None
        if entry is not None:
            self.waited += monotonic() - entry[0]
            if self.server.tells_begin:
                self.server.network.send((messages.BEGUN, self.id))

    def run_on_headers(self) -> None:
        """Run the app's `on_headers`; its answer, if any, is the last of the connection."""
        self._begin()
        self._closing = True
        handler = self.server.app.on_headers
        assert handler is not None
        self._run(handler, Request(self._head, b""))

    def _run(self, handler: Callable[..., Any], request: Request) -> None:
        try:
            self.settle(self._exchanges.loop.call(self.server.output, handler, request))
        except BaseException as error:
            self.fail(error)

    def settle(self, result: object) -> None:
        """Answer with what a handler returned, now or when it is there."""
        if type(result) is dict or is_response(result):
            self._respond(result)
        elif result is None and self._closing:
            self.server.network.send((messages.CONTINUE, self.id))
        elif inspect.isawaitable(result) and (
            asyncio.isfuture(result) or not hasattr(result, "add_done_callback")
        ):
            self.start_task(_await(result), self._settle_task)
        elif hasattr(result, "add_done_callback"):
            # A future of threads or of another machine; it may call back in any thread.
            result.add_done_callback(
                lambda future: self._exchanges.loop.push(
                    self.server.queue, self._settle_future, future
                )
            )
        else:
            self._respond(result)

    def start_task(
        self,
        coroutine: Coroutine[Any, Any, Any],
        on_done: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        """Run a coroutine of user code on the host's loop."""
        loop, output = self._exchanges.loop, self.server.output
        self._task = task = loop.host.create_task(
            loop.guarded(coroutine, output), output.context.copy()
        )
        task.add_done_callback(on_done)

    def _settle_task(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if not self._exchanges.is_live(self.id):
            if not task.cancelled():
                task.exception()  # seen: nobody is left to be told
        elif task.cancelled():
            self.fail(asyncio.CancelledError("the handler was cancelled"))
        elif task.exception() is not None:
            self.fail(task.exception())  # type: ignore[arg-type]
        else:
            try:
                self.settle(task.result())
            except BaseException as error:
                self.fail(error)

    def _settle_future(self, future: Any) -> None:
        if not self._exchanges.is_live(self.id):
            return
        try:
            self.settle(self._exchanges.loop.call(self.server.output, future.result))
        except BaseException as error:
            self.fail(error)

    # -- the answer ------------------------------------------------------------------------------

    def _respond(self, result: object) -> None:
        try:
            head, body = prepare(result, "on_headers" if self._closing else "call")
        except Exception as error:
            self.fail(error)
            return
        if self._closing:
            head = head._replace(close=True)
        if type(body) is bytes:
            self._send((messages.RESPOND, self.id, self.waited, tuple(head), body))
        elif isinstance(body, FileBody):
            self._send(
                (messages.SEND_FILE, self.id, self.waited, tuple(head), body.path, body.owned)
            )
        elif isinstance(body, RichBody):
            self._respond(self.call_user(body.render, Headers(self._head[3]).get("accept")))
        else:
            self._stream(tuple(head), head.length, body)

    def _stream(self, head: tuple[Any, ...], length: int | None, body: PreparedBody) -> None:
        if isinstance(body, (EventBody, PushBody)) and self.is_live:
            self._schedule_heartbeat()
        if isinstance(body, PushBody):
            if self.is_live:  # else the client has left while the handler ran
                self.stream = body.open(self, head)
            return
        stream: BodyStream | AsyncBodyStream
        if isinstance(body, AsyncIterator):
            stream = AsyncBodyStream(self, head, length, body)
        else:
            assert isinstance(body, Iterator)
            stream = BodyStream(self, head, length, body)
        self.stream = stream
        stream.begin()

    def _schedule_heartbeat(self) -> None:
        loop = self._exchanges.loop
        self._beat_entry = loop.later(self.server.queue, _HEARTBEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        """Say something between two events."""
        if self.stream is not None and self.stream.begun:
            self.send((messages.CHUNK, self.id, HEARTBEAT))
            self.stream.acknowledge(-len(HEARTBEAT))  # it will be acknowledged with the rest
        self._schedule_heartbeat()

    def _end_heartbeat(self) -> None:
        if self._beat_entry is not None:
            cancel(self._beat_entry)
            self._beat_entry = None

    def call_user(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Call user code that belongs to this exchange."""
        return self._exchanges.loop.call(self.server.output, function, *arguments)

    def push(self, function: Callable[..., None]) -> None:
        """Queue a callback of this exchange."""
        self.entry = self._exchanges.loop.push(self.server.queue, function)

    def send(self, message: messages.Message) -> None:
        """Send what is not the end of the answer."""
        self.server.network.send(message)

    @property
    def network(self) -> Questions:
        """Where the answer goes."""
        return self.server.network

    @property
    def is_live(self) -> bool:
        """Whether the client is there and the answer not complete."""
        return self._exchanges.is_live(self.id)

    def _send(self, message: messages.Message) -> None:
        self.server.network.send_soon(message)
        self.finish()

    def fail(self, error: BaseException) -> None:
        """500 for the client, a cut when its response has begun; the traceback for the user."""
        begun = self.stream is not None and self.stream.begun
        if self._exchanges.is_live(self.id):
            if begun:
                self._send((messages.ABORT, self.id))
            else:
                self._send((messages.RESPOND, self.id, self.waited, _INTERNAL_ERROR, _ERROR_BODY))
        method, target = self._head[0], self._head[1].decode("latin-1")
        self._exchanges.loop.show_error(self.server.output, error, f"{method} {target} failed")

    def finish(self) -> None:
        """The answer is complete."""
        self._exchanges.forget(self.id)
        self._end_heartbeat()
        if self._request is not None:
            self._request.close()

    def abandon(self) -> None:
        """The client has left: do not begin; end what has begun. Runs no user code itself."""
        if self.entry is not None:
            cancel(self.entry)
            self.entry = None
        self._end_heartbeat()
        if self._task is not None:
            self._task.cancel()
        if self.stream is not None:
            self.stream.abandon()
        if self._request is not None:
            self._request.close()


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
