"""Python's peers, each in a daemon thread beside an idle main thread, as in a notebook.

    python -m benchmarks.peers.python {uvicorn|tornado|aiohttp|websockets} PORT SITE

Each answers "Hello world" at /, a stream of pieces at /stream, and an upload at /upload with its
length, as far as it can. Ends when its standard input does, so it cannot outlive who started it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_BODY = b"Hello world"
PIECE, PIECES = b"x" * 1000, 100
"""What a stream is made of."""
_LARGEST = 1 << 30


def _start(*headers: tuple[bytes, bytes]) -> Message:
    fields = [(b"content-type", b"text/plain"), *headers]
    return {"type": "http.response.start", "status": 200, "headers": fields}


_HELLO = _start((b"content-length", b"11"))
_STREAM = _start()


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """An ASGI application without a framework."""
    path = scope["path"]
    if path == "/":
        await send(_HELLO)
        await send({"type": "http.response.body", "body": _BODY})
    elif path == "/stream":
        await send(_STREAM)
        for _ in range(PIECES):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        pieces, more = [], True
        while more:
            message = await receive()
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = str(len(b"".join(pieces))).encode()
        await send(_start((b"content-length", str(len(body)).encode())))
        await send({"type": "http.response.body", "body": body})


def run_uvicorn(port: int, site: Path) -> None:
    import uvicorn

    uvicorn.Server(
        uvicorn.Config(
            application, host="127.0.0.1", port=port, loop="uvloop", http="httptools",
            lifespan="off", access_log=False, log_level="error",
        )
    ).run()  # fmt: skip


def run_tornado(port: int, site: Path) -> None:
    from tornado.web import Application, RequestHandler, StaticFileHandler
    from tornado.websocket import WebSocketHandler

    class Hello(RequestHandler):
        def get(self) -> None:
            self.set_header("Content-Type", "text/plain")
            self.write(_BODY)

    class Stream(RequestHandler):
        async def get(self) -> None:
            self.set_header("Content-Type", "text/plain")
            for _ in range(PIECES):
                self.write(PIECE)
                await self.flush()

    class Upload(RequestHandler):
        def post(self) -> None:
            self.write(str(len(self.request.body)))

    class Echo(WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            self.write_message(message)

    async def serve() -> None:
        static = (r"/static/(.*)", StaticFileHandler, {"path": str(site / "static")})
        routes = [(r"/", Hello), (r"/stream", Stream), (r"/upload", Upload), (r"/echo", Echo)]
        Application([*routes, static]).listen(port, "127.0.0.1", max_buffer_size=_LARGEST)
        await asyncio.Event().wait()

    asyncio.run(serve())


def run_aiohttp(port: int, site: Path) -> None:
    import uvloop
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=_BODY, content_type="text/plain")

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "text/plain"
        await response.prepare(request)
        for _ in range(PIECES):
            await response.write(PIECE)
        return response

    async def upload(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def serve() -> None:
        application = web.Application(client_max_size=_LARGEST)
        application.add_routes(
            [web.get("/", hello), web.get("/stream", stream), web.post("/upload", upload)]
        )
        application.add_routes([web.get("/echo", echo), web.static("/static", site / "static")])
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(serve())


def run_websockets(port: int, site: Path) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def serve_forever() -> None:
        async with serve(echo, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(serve_forever())


RUN = {
    "uvicorn": run_uvicorn,
    "tornado": run_tornado,
    "aiohttp": run_aiohttp,
    "websockets": run_websockets,
}


def main() -> None:
    name, port, site = sys.argv[1:]
    threading.Thread(target=RUN[name], args=(int(port), Path(site)), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
