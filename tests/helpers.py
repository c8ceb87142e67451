"""What the tests share: waiting, a server with its client in one process, raw HTTP.

pytest is a plain script to the package: callbacks run only inside `service()`. So a client works in
a thread, and the main thread serves until it is done.
"""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from httpuv_kernel import HTTPUV, Request, WebServer, later, run_now, service, start_server
from httpuv_kernel.network.http1 import Connection

T = TypeVar("T")
Split = int | Literal["bytes"] | None

_CLIENTS = ThreadPoolExecutor(64, thread_name_prefix="client")


def wait_until(predicate: Callable[[], object], timeout: float = 5.0) -> None:
    """Return when `predicate()` is true.

    Raises:
        TimeoutError: it did not become so in time.
    """
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {timeout:g} s: {predicate}")
        time.sleep(0.005)


def settle(root: Path) -> None:
    """Wait until no file below is brand-new: only then it is kept in memory, and its tag is short.

    The time of the last change cannot be set, unlike that of the last modification.
    """
    newest = max(path.lstat().st_ctime_ns for path in root.rglob("*"))
    wait_until(lambda: time.time_ns() - newest > 60_000_000)


def serve_until(predicate: Callable[[], object], timeout: float = 10.0) -> None:
    """Run callbacks until `predicate()` is true; it is asked after each and every 20 ms."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {timeout:g} s: {predicate}")
        service(20)


def run_until_idle(seconds: float = 0.3) -> None:
    """Run callbacks until none came for so long."""
    while run_now(seconds):
        pass


class Work(Generic[T]):
    """A client in a thread of its own."""

    def __init__(self, function: Callable[..., T], *arguments: Any) -> None:
        self.is_over = False
        self._future = _CLIENTS.submit(self._run, function, *arguments)

    def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return function(*arguments)
        finally:
            self.is_over = True
            self._cancel = later(int)  # service() returns at once

    def finish(self, timeout: float = 20.0) -> T:
        """Run callbacks until it is over; what it returned."""
        serve_until(lambda: self.is_over, timeout)
        return self.result()

    def result(self) -> T:
        """What it returned; no callback runs meanwhile."""
        try:
            return self._future.result(10)
        finally:
            if self.is_over:
                self._cancel()


def during(function: Callable[..., T], *arguments: Any) -> T:
    """Run a client in a thread and callbacks here, until it is done."""
    return Work(function, *arguments).finish()


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in another thread; no callback runs meanwhile."""
    return _CLIENTS.submit(function, *arguments).result(10)


# -- responses ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """A response as it came over the wire; the body without its chunks."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes
    version: str = "HTTP/1.1"

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def unzipped(self) -> bytes:
        return gzip.decompress(self.body)

    @property
    def closes(self) -> bool:
        return "close" in ", ".join(self.all("connection")).lower()


def reset(sock: socket.socket) -> None:
    """Close it as one whose process is killed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Closed(ConnectionError):
    """The server closed where a response was expected."""


class Client:
    """A connection that says and hears bytes; a port that is text is the path of a Unix socket."""

    def __init__(
        self,
        port: int | str,
        host: str = "127.0.0.1",
        *,
        receive_buffer: int = 0,
        timeout: float = 10,
    ) -> None:
        unix = isinstance(port, str)
        tcp = socket.AF_INET6 if ":" in host else socket.AF_INET
        family = socket.AF_UNIX if unix else tcp
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(port if unix else (host, port))
        except OSError:
            self.socket.close()
            raise
        if not unix:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def finish_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave at once, as a process that is killed."""
        reset(self.socket)

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(256 * 1024)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)

    def read_until(self, mark: bytes) -> bytes:
        """Up to and with a mark."""
        while mark not in self._buffer:
            if not self._receive():
                raise Closed(f"closed before {mark!r}; read {self._buffer[:200]!r}")
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not self._receive():
                raise Closed(f"closed after {len(self._buffer)} of {count} bytes")
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def read_all(self) -> bytes:
        """All until the server closes."""
        while self._receive():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def read_chunk(self) -> bytes:
        """One chunk of a chunked body; b"" is the last."""
        chunk = self.read_exactly(int(self.read_until(b"\r\n"), 16))
        assert self.read_exactly(2) == b"\r\n"
        return chunk

    def read_head(self) -> Reply:
        """A status line and fields, strictly as RFC 9112 writes them."""
        line, *fields = self.read_until(b"\r\n\r\n")[:-4].split(b"\r\n")
        version, status, reason = line.decode().split(" ", 2)
        headers = []
        for field in fields:
            name, value = field.split(b": ", 1)
            assert b"\r" not in value
            assert b"\n" not in value
            headers.append((name.decode().lower(), value.decode("latin-1")))
        return Reply(int(status), reason, headers, b"", version)

    def read_reply(self, method: str = "GET") -> Reply:
        """A response; its body ends as RFC 9112, section 6.3 says."""
        head = self.read_head()
        if method == "HEAD" or head.status < 200 or head.status in (204, 304):
            return head
        if head.has("transfer-encoding"):
            assert head["transfer-encoding"] == "chunked"
            assert not head.has("content-length")
            return replace(head, body=b"".join(iter(self.read_chunk, b"")))
        if head.has("content-length"):
            return replace(head, body=self.read_exactly(int(head["content-length"])))
        return replace(head, body=self.read_all())

    def ask(self, method: str = "GET", target: str = "/", *args: Any, **kwargs: Any) -> Reply:
        """Send a request, read its response."""
        self.send(request(method, target, *args, **kwargs))
        return self.read_reply(method)

    def is_closed(self) -> bool:
        """Whether the server has closed and sent nothing more; waits for what it does."""
        return self.read_all() == b""


def request(
    method: str = "GET",
    target: str = "/",
    headers: Iterable[tuple[str, object]] = (),
    body: bytes | Iterable[bytes] = b"",
    version: str = "HTTP/1.1",
    host: str | None = "localhost",
) -> bytes:
    """A request as bytes; a body that is no bytes is sent as chunks."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    if not isinstance(body, bytes):
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*body, b""])
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# -- feeding -----------------------------------------------------------------------------------


class Deliveries:
    """Counts what arrived at the server, by the client's port, so that a client can wait for it.

    Two sends in a row may arrive as one; only who has seen the first arrive can split.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._gone: set[int] = set()
        self._changed = threading.Condition()

    def add(self, port: int, count: int) -> None:
        with self._changed:
            self._counts[port] += count
            self._changed.notify_all()

    def end(self, port: int) -> None:
        with self._changed:
            self._gone.add(port)
            self._changed.notify_all()

    def wait(self, port: int, count: int) -> bool:
        """Whether so many bytes arrived before the connection ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._counts[port] >= count or port in self._gone, 10)
            return self._counts[port] >= count

    def wait_end(self, port: int) -> None:
        """Return when the server knows that this client has left."""
        with self._changed:
            assert self._changed.wait_for(lambda: port in self._gone, 10)


@contextmanager
def watched_deliveries() -> Iterator[Deliveries]:
    """Watch what the connections of servers receive that are started inside."""
    deliveries = Deliveries()
    received, closed, lost = Connection.data_received, Connection.close, Connection.connection_lost

    def port(connection: Connection) -> int:
        return int(connection._peer[1])

    def data_received(self: Connection, data: bytes) -> None:
        try:
            received(self, data)
        finally:
            if self._transport.is_closing():  # it reads no more
                deliveries.end(port(self))
            deliveries.add(port(self), len(data))

    def connection_lost(self: Connection, error: Exception | None) -> None:
        lost(self, error)
        deliveries.end(port(self))

    def close(self: Connection) -> None:
        closed(self)
        deliveries.end(port(self))

    Connection.data_received = data_received  # type: ignore[method-assign]
    Connection.connection_lost = connection_lost  # type: ignore[method-assign]
    Connection.close = close  # type: ignore[method-assign]
    try:
        yield deliveries
    finally:
        Connection.data_received = received  # type: ignore[method-assign]
        Connection.connection_lost = lost  # type: ignore[method-assign]
        Connection.close = closed  # type: ignore[method-assign]


def send_split(client: Client, data: bytes, split: Split, deliveries: Deliveries) -> None:
    """Send whole, in two parts, or byte by byte, each part when the one before it has arrived.

    What a server that closes does not read is no failure of the client.
    """
    if split is None:
        parts = [data]
    elif split == "bytes":
        parts = [data[i : i + 1] for i in range(len(data))]
    else:
        parts = [data[:split], data[split:]]
    sent = 0
    with suppress(ConnectionError):
        for part in parts:
            if sent and not deliveries.wait(client.port, sent):
                return
            client.send(part)
            sent += len(part)


def exchange(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes on a connection of their own; all that comes until the server closes."""
    with Client(port) as client:
        client.send(data)
        if half_close:
            client.finish_sending()
        return client.read_all()


# -- a server and its client ---------------------------------------------------------------------


class Serving:
    """A server of an app in this process, and clients that work while callbacks run here."""

    def __init__(self, app: object, host: str = "127.0.0.1") -> None:
        self.server: WebServer = start_server(host, 0, app)
        self.host = host

    @property
    def port(self) -> int:
        return self.server.port

    def connect(self, **options: Any) -> Client:
        return Client(self.port, self.host, **options)

    def begin(self, function: Callable[[Client], T]) -> Work[T]:
        """Run `function(client)` with a connection in a thread."""

        def run() -> T:
            with self.connect() as client:
                return function(client)

        return Work(run)

    def run(self, function: Callable[[Client], T]) -> T:
        """The same, and serve until it is done."""
        return self.begin(function).finish()

    def ask(self, method: str = "GET", target: str = "/", *args: Any, **kwargs: Any) -> Reply:
        """One request on a connection of its own."""
        return self.run(lambda client: client.ask(method, target, *args, **kwargs))

    def exchange(self, data: bytes, *, half_close: bool = False) -> bytes:
        return during(lambda: exchange(self.port, data, half_close=half_close))


def configure(**traits: object) -> None:
    """Set limits of the servers that are started from here on; undone after the test."""
    for name, value in traits.items():
        setattr(HTTPUV.instance(), name, value)


def seen(look: Callable[[Request], T], *args: Any, **kwargs: Any) -> T:
    """What `look` finds in a request that came over the network."""
    found: list[T] = []

    def app(request: Request) -> dict[str, object]:
        found.append(look(request))
        return {}

    assert Serving(app).ask(*args, **kwargs).status == 200
    return found[0]
