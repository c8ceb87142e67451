"""A WebSocket client that people use, websocket-client, and apps to speak with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import websocket
from helpers import Serving, Work, serve_until
from websocket import ABNF

from httpuv_kernel import WebSocket

T = TypeVar("T")
Connection = websocket.WebSocket


class Room:
    """An app that keeps its sockets and notes what happens to them."""

    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []
        self.events: list[object] = []

    def on_ws_open(self, ws: WebSocket) -> None:
        self.sockets.append(ws)
        ws.on_message(lambda binary, message: self.events.append(message))
        ws.on_close(lambda: self.events.append((ws.close_code, ws.close_reason)))


def echo(ws: WebSocket) -> None:
    ws.on_message(lambda binary, message: ws.send(message))


@contextmanager
def connected(serving: Serving, target: str = "/", **options: Any) -> Iterator[Connection]:
    url = f"ws://127.0.0.1:{serving.port}{target}"
    connection = websocket.create_connection(url, timeout=10, **options)
    try:
        yield connection
    finally:
        connection.shutdown()


def begin(serving: Serving, function: Callable[[Connection], T], **options: Any) -> Work[T]:
    """Run `function(connection)` with a connection in a thread."""

    def run() -> T:
        with connected(serving, **options) as connection:
            return function(connection)

    return Work(run)


def talk(serving: Serving, function: Callable[[Connection], T], **options: Any) -> T:
    """The same, and serve until it is done."""
    return begin(serving, function, **options).finish()


def read_close(connection: Connection) -> tuple[int, str]:
    """The code and reason of the server's close frame; answers it."""
    opcode, frame = connection.recv_data_frame(True)
    assert opcode == ABNF.OPCODE_CLOSE
    return int.from_bytes(frame.data[:2], "big"), frame.data[2:].decode()


@contextmanager
def open_socket(room: Room, **options: Any) -> Iterator[tuple[WebSocket, Connection]]:
    """Both ends of a connection; callbacks run only where the test says so."""
    serving = Serving(room)
    release = threading.Event()
    opened: list[Connection] = []

    def client(connection: Connection) -> None:
        opened.append(connection)
        release.wait(20)

    work = begin(serving, client, **options)
    serve_until(lambda: opened)
    try:
        yield room.sockets[0], opened[0]
    finally:
        release.set()
        work.finish()
