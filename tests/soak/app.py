"""The app of the soak, as the cell of a kernel: what it answers can be checked by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from httpuv_kernel import Request, WebSocket, broadcast

__all__ = ["App", "content"]


def content(seed: int, size: int) -> bytes:
    """So many bytes that only this seed gives."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


class App:
    """Pages by seed and size, digests of what is sent, an echo and a room."""

    def __init__(self, folder: str) -> None:
        self.static_paths = {"/files": folder}
        self.room: set[WebSocket] = set()
        self.open: set[WebSocket] = set()

    def call(self, request: Request) -> dict[str, Any]:
        if request.method == "POST":
            return {"body": hashlib.sha256(request.body).hexdigest()}
        body = content(int(request.query["seed"]), int(request.query["size"]))
        if request.path == "/stream":
            return {"body": self._pieces(body)}
        return {"headers": {"Content-Type": "application/octet-stream"}, "body": body}

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    def on_ws_open(self, socket: WebSocket) -> None:
        self.open.add(socket)
        if socket.request.path == "/room":
            self.room.add(socket)
            socket.on_message(lambda binary, message: broadcast(list(self.room), message))
        else:
            socket.on_message(lambda binary, message: socket.send(message))
        socket.on_close(lambda *_: (self.open.discard(socket), self.room.discard(socket)))
