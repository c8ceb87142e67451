"""Python's peers, each in a daemon thread beside an idle main thread, as in a notebook.

    python -m benchmarks.peers.python {uvicorn|tornado|websockets} PORT SITE

Ends when its standard input does, so it cannot outlive who started it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
_BODY = b"Hello world"
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"11")],
}


async def hello(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """The smallest ASGI application."""
    await send(_START)
    await send({"type": "http.response.body", "body": _BODY})


def run_uvicorn(port: int, site: Path) -> None:
    import uvicorn

    uvicorn.Server(
        uvicorn.Config(
            hello, host="127.0.0.1", port=port, loop="uvloop", http="httptools", lifespan="off",
            access_log=False, log_level="error",
        )
    ).run()  # fmt: skip


def run_tornado(port: int, site: Path) -> None:
    from tornado.web import Application, RequestHandler, StaticFileHandler
    from tornado.websocket import WebSocketHandler

    class Hello(RequestHandler):
        def get(self) -> None:
            self.set_header("Content-Type", "text/plain")
            self.write(_BODY)

    class Echo(WebSocketHandler):
        def on_message(self, message: str | bytes) -> None:
            self.write_message(message)

    async def serve() -> None:
        static = (r"/static/(.*)", StaticFileHandler, {"path": str(site / "static")})
        Application([(r"/", Hello), (r"/echo", Echo), static]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(serve())


def run_websockets(port: int, site: Path) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def serve_forever() -> None:
        async with serve(echo, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(serve_forever())


RUN = {"uvicorn": run_uvicorn, "tornado": run_tornado, "websockets": run_websockets}


def main() -> None:
    name, port, site = sys.argv[1:]
    threading.Thread(target=RUN[name], args=(int(port), Path(site)), daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
