"""A WebSocket client that says and hears bytes, and an app to speak with."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeVar

from helpers import (
    Client,
    Reply,
    Serving,
    Work,
    request,
)

from httpuv_kernel import WebSocket

T = TypeVar("T")
Fields = list[tuple[str, object]]

UPGRADE: Fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
UPGRADE += [("Sec-WebSocket-Version", 13), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
DEFLATE: Fields = [("Sec-WebSocket-Extensions", "permessage-deflate")]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """A frame of a client."""
    mask = 128 if masked else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if len(data) < 126:
        head += bytes([mask | len(data)])
    elif len(data) < 65536:
        head += bytes([mask | 126]) + len(data).to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + len(data).to_bytes(8, "big")
    return head + bytes(4 if masked else 0) + data  # a mask of zeros changes nothing


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def deflated(data: bytes) -> bytes:
    """As permessage-deflate sends it."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(data + b"\0\0\xff\xff")


class Peer(Client):
    """A connection that asks for a WebSocket, with what it sends right behind."""

    def __init__(
        self, port: int, behind: bytes = b"", headers: Fields = UPGRADE, target: str = "/"
    ) -> None:
        super().__init__(port)
        self.send(request("GET", target, headers) + behind)

    def read_frame(self) -> tuple[int, bytes]:
        """The first byte of a frame and its data."""
        first, length = self.read_exactly(2)
        if length > 125:
            length = int.from_bytes(self.read_exactly(2 if length == 126 else 8), "big")
        return first, self.read_exactly(length)

    def read_close(self) -> int:
        """The code of a close frame, before which nothing else comes."""
        first, data = self.read_frame()
        assert first == 128 | CLOSE
        return int.from_bytes(data[:2], "big")


class Room:
    """An app that echoes, and notes what happens."""

    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []
        self.events: list[object] = []

    def on_ws_open(self, ws: WebSocket) -> None:
        self.sockets.append(ws)

        @ws.on_message
        def handle(binary: bool, message: str | bytes) -> None:
            self.events.append(message)
            ws.send(message)

        ws.on_close(lambda: self.events.append(ws.close_code))


def begin(serving: Serving, function: Callable[[Peer], T], *arguments: object) -> Work[T]:
    """Run `function(peer)` in a thread, once the WebSocket is open."""

    def run() -> T:
        with Peer(serving.port, *arguments) as peer:  # type: ignore[arg-type]
            assert peer.read_head().status == 101
            return function(peer)

    return Work(run)


def talk(serving: Serving, function: Callable[[Peer], T], *arguments: object) -> T:
    """The same, and serve until it is done."""
    return begin(serving, function, *arguments).finish()


def ask(serving: Serving, headers: Fields, target: str = "/", method: str = "GET") -> Reply:
    """A handshake on a connection of its own; its answer."""
    return serving.ask(method, target, headers)


def first_reply(port: int, method: str, headers: Fields) -> Reply:
    with Client(port, timeout=3) as client:
        return client.ask(method, "/", headers)
