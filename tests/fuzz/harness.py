"""A real connection without a socket: bytes in, bytes out, all of it in one thread.

The loop runs only when it is told to, so that a case is the same each time, and takes a tenth of a
millisecond.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from httpuv_kernel import HTTPUV
from httpuv_kernel import messages as m
from httpuv_kernel.fields import response_head
from httpuv_kernel.messages import Settings
from httpuv_kernel.network.exchange import Exchange
from httpuv_kernel.network.http1 import Connection
from httpuv_kernel.network.journal import Journal
from httpuv_kernel.network.listener import Listener
from httpuv_kernel.network.loop import NetworkSide
from httpuv_kernel.static_paths import StaticTable, static_path, static_path_options

__all__ = ["Peer", "Response", "read_responses"]

_PLAIN = {"Content-Type": "text/plain"}
_NO_BODY = (204, 304)


class _Loop:
    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def call_soon(self, function: Callable[..., None], *arguments: object) -> None:
        self._ready.append((function, arguments))

    def call_later(self, delay: float, function: Callable[..., None], *_: object) -> None:
        """Nothing of what is looked at here waits for a clock."""

    def run(self) -> None:
        while self._ready:
            function, arguments = self._ready.popleft()
            function(*arguments)


class _Transport:
    """What a client sees of it is `written` and `is_over`."""

    def __init__(self, loop: _Loop, protocol: Any) -> None:
        self._loop = loop
        self.protocol = protocol
        self.written = bytearray()
        self.is_over = False

    def write(self, data: bytes) -> None:
        if not self.is_over:
            self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._loop.call_soon(self._lose)

    abort = close

    def _lose(self) -> None:
        self.protocol.connection_lost(None)

    def write_eof(self) -> None:
        """The client may go on sending."""

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None:
        """What is fed all the same has been read already."""

    resume_reading = pause_reading

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name)


class _Bridge:
    """Plays the main side: answers each message as an app would that always works, or none."""

    def __init__(self, loop: _Loop, *, answers: bool) -> None:
        self._loop = loop
        self._is_mute = not answers
        self.side = NetworkSide(self, 1.0)  # type: ignore[arg-type]
        self.posted: list[m.Message] = []
        self.bodies: list[object] = []

    def post(self, message: m.Message) -> None:
        self.posted.append(message)
        self._loop.call_soon(self._answer, message)

    def _answer(self, message: m.Message) -> None:
        for answer in self._answers(message):
            self.side._handlers[answer[0]](*answer[1:])

    def _answers(self, message: m.Message) -> list[m.Message]:
        kind, exchange = message[0], message[1]
        if self._is_mute:
            return []
        if kind == m.HEADERS:
            return [(m.CONTINUE, exchange)]
        if kind in (m.REQUEST, m.BODY):
            self.bodies.append(message[-1])
            if len(self.bodies) % 3 == 0:
                head = tuple(response_head(200, _PLAIN, None))
                chunk = (m.CHUNK, exchange, b"piece")
                return [(m.START, exchange, 0.0, head, b"first", None), chunk, (m.END, exchange)]
            return [(m.RESPOND, exchange, 0.0, tuple(response_head(200, _PLAIN, None)), b"whole")]
        if kind == m.WS_OPEN:
            return [(m.WS_ACCEPT, exchange, None)]
        if kind == m.WS_MESSAGE:
            _, _, binary, text = message
            data = text if binary else text.encode()
            cost = len(data) + m.WS_MESSAGE_COST
            return [(m.WS_SEND, exchange, data, binary), (m.WS_HANDLED, exchange, cost)]
        return []


class _Journal(Journal):
    def __init__(self) -> None:
        super().__init__(0, logs=False)
        self.began = 0
        self.methods: list[bytes] = []

    def count(self, exchange: Exchange) -> None:
        self.began += 1

    def record(self, peer: str, exchange: Exchange, status: int, size: int) -> None:
        self.methods.append(exchange.method)


class Peer:
    """One client of a server with every handler, and with files if there is a root."""

    def __init__(
        self, root: str = "", *, on_headers: bool = False, answers: bool = True, **limits: object
    ) -> None:
        self.loop = _Loop()
        self.bridge = _Bridge(self.loop, answers=answers)
        table = StaticTable.build({}, static_path_options())
        if root:
            paths = {"/": static_path(root, listing=True), "/closed": static_path(root)}
            table = StaticTable.build(paths, static_path_options())
        settings = Settings(
            tuple(HTTPUV.instance().limits()._replace(**limits)),
            (True, on_headers, True),
            (),
            (),
            table.to_plain(),
            *("", False, "identity", "control"),
        )
        side = self.bridge.side
        self.listener = Listener(1, settings, self.loop, self.bridge, side._exchanges)  # type: ignore[arg-type]
        self.listener.journal = self._journal = _Journal()
        self.connection = Connection(self.listener)
        self.transport = _Transport(self.loop, self.connection)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    @property
    def began(self) -> int:
        """How many requests were read, or refused."""
        return self._journal.began

    @property
    def methods(self) -> list[bytes]:
        """Those of the requests that were answered."""
        return self._journal.methods

    def send(self, data: bytes) -> None:
        """What one read of the socket gave."""
        if not self.transport.is_over and data:
            self.transport.protocol.data_received(data)
            self.loop.run()

    def leave(self) -> None:
        """The client closes."""
        if not self.transport.is_over:
            if not self.transport.protocol.eof_received():
                self.transport.close()
            self.loop.run()

    @property
    def is_closed(self) -> bool:
        return self.transport.is_over

    @property
    def written(self) -> bytes:
        return bytes(self.transport.written)

    @property
    def left_behind(self) -> int:
        """What the server still keeps of it."""
        listener = self.listener
        kept = len(listener._connections) + len(listener._upgraded) + len(listener._waiting)
        return kept + len(self.bridge.side._exchanges)


class Response(NamedTuple):
    """A response as a client reads it."""

    status: int
    fields: dict[str, str]
    body: bytes


_HEAD = re.compile(rb"HTTP/1\.1 (\d\d\d) [ -~]*\r\n((?:[!-9;-~]+: [^\r\n\0]*\r\n)*)\r\n")


def read_responses(
    data: bytes, methods: Sequence[bytes] = (), *, strict: bool = True
) -> tuple[list[Response], bytes]:
    """Responses as RFC 9112 writes them, and what follows the last or an upgrade.

    Not strict, a body may end with the connection without a word of that.

    Raises:
        AssertionError: they are not well-formed.
    """
    found: list[Response] = []
    while data:
        match = _HEAD.match(data)
        assert match is not None, data[:300]
        status = int(match[1])
        pairs = [line.split(b": ", 1) for line in match[2].split(b"\r\n")[:-1]]
        fields = {name.decode().lower(): value.decode("latin-1") for name, value in pairs}
        assert sum(name.lower() == b"content-length" for name, _ in pairs) <= 1
        data = data[match.end() :]
        if status == 101:
            return [*found, Response(status, fields, b"")], data
        if status < 200:
            continue
        number = len(found)
        head_only = number < len(methods) and methods[number] == b"HEAD"
        body, data = _body(status, fields, data, strict) if not head_only else (b"", data)
        found.append(Response(status, fields, body))
    return found, data


def _body(status: int, fields: dict[str, str], data: bytes, strict: bool) -> tuple[bytes, bytes]:
    if status in _NO_BODY:
        return b"", data
    if "transfer-encoding" in fields:
        assert "content-length" not in fields
        body = b""
        while True:
            size, mark, data = data.partition(b"\r\n")
            count = int(size, 16)
            assert mark
            assert data[count : count + 2] == b"\r\n"
            body, data = body + data[:count], data[count + 2 :]
            if not count:
                return body, data
    if "content-length" not in fields:
        assert fields.get("connection") == "close" or not strict
        return data, b""
    count = int(fields["content-length"])
    assert len(data) >= count, "a body is shorter than its Content-Length"
    return data[:count], data[count:]
