"""Server-sent events (WHATWG HTML, section 9.2): streams of them, and values pushed to all pages.

A page reads them with `new EventSource(url)`, which reconnects by itself when its connection ends.

Main side. What is pushed goes straight to the bridge, from whatever thread, so that it arrives also
while a cell runs.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Mapping,
)
from dataclasses import dataclass
from typing import Any, Final

from .. import messages
from ..fields import HeaderInput, field_pairs
from .request import Request
from .response import PushBody, Response
from .streaming import StreamedAnswer

__all__ = ["HEARTBEAT", "EventBody", "EventFeed", "ServerEvent", "encode_event", "event_stream"]

HEARTBEAT: Final = b":\n\n"
"""A comment, which pages do not see: it opens a stream, and keeps proxies from closing it."""

_WINDOW: Final = 1024 * 1024  # bytes on their way to a page; a running cell sees none arrive
_LINE_ENDS = re.compile(rb"\r\n|\n|\r")  # of the format; str.splitlines() knows more
_HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx holds pieces back without it
}


@dataclass(frozen=True)
class ServerEvent:
    """An event that is more than its data.

    Attributes:
        data: str or bytes (UTF-8) as they are, anything else as JSON. None: no data; pages are not
            told of such an event, but take its id and retry.
        event: its name, for `addEventListener(name, ...)`; None for "message".
        id: what the page sends as Last-Event-ID when it reconnects.
        retry: milliseconds until the page reconnects, from here on.
    """

    data: object = None
    event: str | None = None
    id: str | int | None = None
    retry: int | None = None


def encode_event(value: object) -> bytes:
    """An event as it is sent: a ServerEvent, or the data of one. Pure.

    numpy's arrays and numbers are JSON, too.

    Raises:
        ValueError: a name or an id with a line end, an id with NUL, a retry that is no number of
            milliseconds, data with NaN or infinity, bytes that are not UTF-8.
        TypeError: data that cannot be JSON.
    """
    event = value if isinstance(value, ServerEvent) else None
    lines = []
    if event is not None:
        lines += _field("event", event.event) + _field("id", event.id)
        if event.retry is not None:
            if type(event.retry) is not int or event.retry < 0:
                raise ValueError(f"retry is a number of milliseconds, not {event.retry!r}")
            lines.append(b"retry: %d\n" % event.retry)
    if event is None or event.data is not None:
        data = _data(value if event is None else event.data)
        lines += [b"data: %s\n" % line for line in _LINE_ENDS.split(data)]
    return b"".join([*lines, b"\n"])


def _field(name: str, value: object) -> list[bytes]:
    if value is None:
        return []
    text = str(value)
    if any(each in text for each in "\r\n\0"):
        raise ValueError(f"the {name} of an event has no line end and no NUL: {value!r}")
    return [f"{name}: {text}\n".encode()]


def _data(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return str(value, "utf-8").encode()  # checked: a page would see marks for what is not UTF-8
    if isinstance(value, str):
        return value.encode()
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain).encode()


def _plain(value: Any) -> object:
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    raise TypeError(f"an event's data is text or JSON; {value!r} is neither")


# -- streams that an app makes ---------------------------------------------------------------------


class EventBody(AsyncIterator[bytes]):
    """Encoded events, each whole, so that a heartbeat may stand between two of them."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events

    async def __anext__(self) -> bytes:
        return await self._events.__anext__()

    async def aclose(self) -> None:
        """The client has left: close the source."""
        await self._events.aclose()


def event_stream(
    source: AsyncIterable[object] | Iterable[object],
    *,
    retry: int | None = None,
    headers: HeaderInput | None = None,
) -> Response:
    """A response that streams server-sent events.

    The head is sent at once. While an async source waits, a comment every 15 s keeps proxies from
    closing the connection. When the client leaves, the source is closed, so its `finally` runs.
    When the source ends, the stream ends, and the page connects again, unless it has called
    `close()` or is then answered with a 204.

    Args:
        source: an iterable or, for anything that waits, an async iterable, of ServerEvent, str,
            bytes, or what can be JSON; see `encode_event`. A dict is data, not an event.
        retry: milliseconds until the page reconnects; None: the browser's default, about 3 s.
        headers: more of them; of a name that stands there, too, this one is sent.

    Raises:
        TypeError: the source is no iterable of events.
        ValueError: the retry is no number of milliseconds.
    """
    begin = _prelude(retry)
    if isinstance(source, AsyncIterable):
        return Response(200, _headers(headers), EventBody(_encode_async(source, begin)))
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, Mapping)):
        return Response(200, _headers(headers), _encode_all(source, begin))
    raise TypeError(f"an event stream is made of an iterable or async iterable, not {source!r}")


def _headers(headers: HeaderInput | None) -> HeaderInput:
    pairs = list(field_pairs(headers or ()))
    given = {name.lower() for name, _ in pairs if isinstance(name, str)}
    return [*(item for item in _HEADERS.items() if item[0].lower() not in given), *pairs]


def _prelude(retry: int | None) -> bytes:
    return HEARTBEAT if retry is None else encode_event(ServerEvent(retry=retry))


def _encode_all(source: Iterable[object], begin: bytes) -> Generator[bytes, None, None]:
    iterator = iter(source)
    try:
        yield begin
        for value in iterator:
            yield encode_event(value)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def _encode_async(source: AsyncIterable[object], begin: bytes) -> AsyncGenerator[bytes, None]:
    iterator = source.__aiter__()
    try:
        yield begin
        async for value in iterator:
            yield encode_event(value)
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


# -- values pushed to all pages --------------------------------------------------------------------


class EventFeed:
    """Pushes values to every page that is open. An app by itself: `start_server(host, port, feed)`.

    Every event has an id, a number that grows, also from one feed to its successor after a restart.
    A page that reconnects sends the last one it saw, and gets what the history has after that.

    `len(feed)` is the number of open pages. One that has left may count until the next heartbeat.
    """

    def __init__(self, *, replay: int = 0, backlog: int = 100, retry: int | None = None) -> None:
        """A feed without pages.

        Args:
            replay: how many events the history keeps. A new page gets them all: with 1 it shows the
                last value at once.
            backlog: events that wait for a page whose connection takes no more (beyond 1 MiB on its
                way); of more, the oldest are dropped. The main thread has to be idle now and then
                for it to be known that something was taken.
            retry: milliseconds until a page reconnects; None: the browser's default, about 3 s.
        """
        self._prelude = _prelude(retry)
        self._history: deque[tuple[int, bytes]] = deque(maxlen=replay)
        self._backlog = backlog
        self._pages: set[_Page] = set()
        self._closed = False
        # Microseconds: nobody sends more than one event in each.
        self._last_id = time.time_ns() // 1000
        self._lock = threading.Lock()  # guards all of the above, and the order on the bridge

    def send(self, value: object) -> None:
        """Push a value to every open page; nothing once the feed is closed. Any thread.

        Args:
            value: as in `encode_event`; a ServerEvent has no id of its own.

        Raises:
            ValueError, TypeError: it cannot be sent.
        """
        if isinstance(value, ServerEvent) and value.id is not None:
            raise ValueError(f"a feed numbers its events itself; this one has the id {value.id!r}")
        encoded = encode_event(value)
        with self._lock:
            if self._closed:
                return
            self._last_id += 1
            chunk = b"id: %d\n%s" % (self._last_id, encoded)
            self._history.append((self._last_id, chunk))
            for page in self._pages:
                page.put(chunk)

    def response(self, request: Request | None = None) -> Response:
        """The stream of one page, for a handler to return; 204, which ends the page's trying, when
        the feed is closed.

        Args:
            request: what the page asked; without it a page that reconnects counts as a new one.
        """
        if self._closed:
            return Response(204)
        last = "" if request is None else request.headers.get("last-event-id", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 20 else None
        return Response(200, dict(_HEADERS), _FeedBody(self, after))

    __call__ = response

    def close(self) -> None:
        """End the stream of every page, once the main thread is idle. Any thread."""
        with self._lock:
            self._closed = True
            for page in self._pages:
                page.close()

    def __len__(self) -> int:
        return len(self._pages)

    def __bool__(self) -> bool:
        return True  # also without pages

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self)} open pages"
        return f"<EventFeed, {state}>"

    def _open(self, page: _Page, head: tuple[Any, ...], after: int | None) -> None:
        with self._lock:
            missed = [chunk for number, chunk in self._history if after is None or number > after]
            page.begin(head, b"".join([self._prelude, *missed]))
            self._pages.add(page)
            if self._closed:
                page.close()

    def _forget(self, page: _Page) -> None:
        with self._lock:
            self._pages.discard(page)

    def _taken(self, page: _Page, count: int) -> None:
        with self._lock:
            page.taken(count)


class _FeedBody(PushBody):
    """The body of a feed's response."""

    def __init__(self, feed: EventFeed, after: int | None) -> None:
        self._feed = feed
        self._after = after

    def open(self, answer: StreamedAnswer, head: tuple[Any, ...]) -> _Page:
        """Begin the stream of a page."""
        page = _Page(self._feed, answer)
        self._feed._open(page, head, self._after)
        return page


class _Page:
    """The stream of one page. Called with the feed's lock held, but for what an exchange calls."""

    begun = True  # from the moment it is there

    def __init__(self, feed: EventFeed, answer: StreamedAnswer) -> None:
        self._feed = feed
        self._answer = answer
        self._in_flight = 0
        self._waiting: deque[bytes] = deque(maxlen=feed._backlog)

    def begin(self, head: tuple[Any, ...], chunk: bytes) -> None:
        """Send the head, and what the page has missed."""
        self._in_flight += len(chunk)
        self._answer.send((messages.START, self._answer.id, self._answer.waited, head, chunk, None))

    def put(self, chunk: bytes) -> None:
        """Send an event, now or when there is room."""
        self._waiting.append(chunk)
        self._flush()

    def taken(self, count: int) -> None:
        """There may be room now."""
        self._in_flight -= count
        self._flush()

    def _flush(self) -> None:
        while self._waiting and self._in_flight < _WINDOW:
            self._send(self._waiting.popleft())

    def _send(self, chunk: bytes) -> None:
        self._in_flight += len(chunk)
        self._answer.send((messages.CHUNK, self._answer.id, chunk))

    def close(self) -> None:
        """Send what waits, as much as it is; the end follows on the main thread."""
        while self._waiting:
            self._send(self._waiting.popleft())
        self._answer.push(self._end)

    # -- main thread, without the lock -----------------------------------------------------------

    def acknowledge(self, count: int) -> None:
        """The client has taken so many bytes."""
        self._feed._taken(self, count)

    def abandon(self) -> None:
        """The client has left."""
        self._feed._forget(self)

    def _end(self) -> None:
        self._feed._forget(self)
        self._answer.send((messages.END, self._answer.id))
        self._answer.finish()
