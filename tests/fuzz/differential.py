"""The same requests to our server, Tornado's and uvicorn's: each difference is known, and has a
reason.

`differential.py` prints a table, and its exit code is 1 for a difference that is not in `KNOWN`.
An outcome is what a client sees: for each response its status and what the app was asked, then
whether the connection was closed.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.harness import read_responses
from helpers import Client, serve_until
from helpers import request as build

from httpuv_kernel import Request, start_server

__all__ = ["CASES", "KNOWN", "Outcome", "differences", "outcomes"]

Outcome = tuple[str, ...]

_OK = build(target="/next")
_CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%s\r\n%s"


def _get(*lines: bytes, version: bytes = b"1.1", target: bytes = b"/") -> bytes:
    return b"\r\n".join([b"GET %s HTTP/%s" % (target, version), *lines, b"", b""])


def _post(*lines: bytes, body: bytes = b"abcde") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: localhost", *lines, b"", b""]) + body


_HOST = b"Host: localhost"

CASES: dict[str, bytes] = {
    "GET": _get(_HOST),
    "HEAD": build("HEAD"),
    "HEAD and GET": build("HEAD") + _OK,
    "an unknown method": build("BREW"),
    "a method in lower case": build("get"),
    "OPTIONS *": build("OPTIONS", "*"),
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an absolute target": _get(_HOST, target=b"http://localhost/a?b"),
    "a target without a slash": _get(_HOST, target=b"a"),
    "a target with a space": _get(_HOST, target=b"/a b"),
    "a target with a fragment": _get(_HOST, target=b"/a#b"),
    "a target of UTF-8": _get(_HOST, target="/é".encode()),
    "a target with a control character": _get(_HOST, target=b"/\x01"),
    "HTTP/1.0": _get(_HOST, version=b"1.0"),
    "HTTP/1.0 without Host": _get(version=b"1.0"),
    "HTTP/1.0 that stays": _get(_HOST, b"Connection: keep-alive", version=b"1.0") + _OK,
    "HTTP/2.0": _get(_HOST, version=b"2.0"),
    "HTTP/1.2": _get(_HOST, version=b"1.2"),
    "no version": b"GET /\r\n\r\n",
    "no Host": _get(),
    "two Hosts": _get(_HOST, _HOST),
    "an empty Host": _get(b"Host:"),
    "a Host that is none": _get(b"Host: a/b"),
    "Connection: close": _get(_HOST, b"Connection: close") + _OK,
    "two requests": _OK + _OK,
    "an empty line before": b"\r\n" + _OK,
    "line feeds only": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "a folded field": _get(_HOST, b"X: a", b" b"),
    "a field without a colon": _get(_HOST, b"X"),
    "a space before the colon": _get(_HOST, b"X : a"),
    "an empty field name": _get(_HOST, b": a"),
    "NUL in a value": _get(_HOST, b"X: a\0b"),
    "a bare CR in a value": _get(_HOST, b"X: a\rb"),
    "a name with a quote": _get(_HOST, b'X": a'),
    "a field of 100 kB": _get(_HOST, b"X: " + b"a" * 100_000),
    "1000 fields": _get(_HOST, *[b"X: a"] * 1000),
    "a body": _post(b"Content-Length: 5"),
    "a body and a request": _post(b"Content-Length: 5") + _OK,
    "GET with a body": build("GET", "/", [("Content-Length", 5)]) + b"abcde" + _OK,
    "two lengths, equal": _post(b"Content-Length: 5", b"Content-Length: 5"),
    "two lengths, different": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"abcdef"),
    "a list of lengths": _post(b"Content-Length: 5, 5"),
    "a length with a sign": _post(b"Content-Length: +5"),
    "a negative length": _post(b"Content-Length: -5"),
    "a hexadecimal length": _post(b"Content-Length: 0x5"),
    "a length of 20 digits": _post(b"Content-Length: 99999999999999999999"),
    "an empty length": _post(b"Content-Length:"),
    "length and chunks": _CHUNKED % (b"Content-Length: 5\r\n", b"5\r\nabcde\r\n0\r\n\r\n"),
    "chunks": _CHUNKED % (b"", b"5\r\nabcde\r\n0\r\n\r\n") + _OK,
    "chunks with an extension": _CHUNKED % (b"", b"5;a=b\r\nabcde\r\n0\r\n\r\n"),
    "chunks with a trailer": _CHUNKED % (b"", b"5\r\nabcde\r\n0\r\nX: a\r\n\r\n") + _OK,
    "chunks with line feeds": _CHUNKED % (b"", b"5\nabcde\n0\n\n"),
    "a chunk with a sign": _CHUNKED % (b"", b"+5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk of 0x5": _CHUNKED % (b"", b"0x5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk with an underscore": _CHUNKED % (b"", b"0_5\r\nabcde\r\n0\r\n\r\n"),
    "a chunk that is longer": _CHUNKED % (b"", b"5\r\nabcdefg\r\n0\r\n\r\n"),
    "chunks in HTTP/1.0": (_CHUNKED % (b"", b"5\r\nabcde\r\n0\r\n\r\n")).replace(b"1.1", b"1.0"),
    "gzip, chunked": _post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked, chunked": _post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "an unknown coding": _post(b"Transfer-Encoding: x", body=b""),
    "xchunked": _post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "a coding with a tab": _post(b"Transfer-Encoding:\tchunked", body=b"0\r\n\r\n"),
    "100-continue": _post(b"Content-Length: 5", b"Expect: 100-continue"),
    "another expectation": _post(b"Content-Length: 5", b"Expect: more"),
    "an upgrade to h2c": _get(_HOST, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
}

# Why it differs: the cases, and the servers with which each differs.
_REASONS: dict[str, dict[str, str]] = {
    "the parser knows the registered methods only, in their case; Tornado takes any word": {
        "an unknown method": "tornado",
        "a method in lower case": "tornado",
    },
    "this is no proxy, and says so; uvicorn's parser takes the target for malformed": {
        "CONNECT": "tornado uvicorn",
    },
    "RFC 9112, section 3.2.2: path and query are parsed out of an absolute target": {
        "an absolute target": "tornado",
    },
    "RFC 9112, section 3.2: a target begins with a slash, has no fragment, and is ASCII": {
        "a target without a slash": "tornado",
        "a target with a fragment": "tornado uvicorn",
        "a target of UTF-8": "tornado",
    },
    "HTTP/1.0 may ask to keep the connection; uvicorn closes it always": {
        "HTTP/1.0 that stays": "uvicorn",
    },
    "RFC 9110, section 15.6.6: 505 for a version that is not spoken": {
        "HTTP/2.0": "tornado uvicorn",
        "HTTP/1.2": "tornado uvicorn",
        "no version": "tornado uvicorn",
    },
    "RFC 9112, section 3.2: exactly one valid Host, which the gate needs": {
        "no Host": "uvicorn",
        "two Hosts": "uvicorn",
        "an empty Host": "tornado uvicorn",
        "a Host that is none": "uvicorn",
    },
    "RFC 9112, section 2.2: a bare LF may be taken for a line's end; here it is not": {
        "line feeds only": "tornado",
        "chunks with line feeds": "tornado",
    },
    "RFC 9112, section 5.2: a folded field is refused, or unfolded as by Tornado 6.5": {
        "a folded field": "tornado",
    },
    "RFC 6585, section 5: 431; Tornado closes in silence, uvicorn has no limit here": {
        "a field of 100 kB": "tornado uvicorn",
    },
    "RFC 9110, section 8.6: may be refused or taken for one; a second length is never needed": {
        "two lengths, equal": "tornado",
        "a list of lengths": "tornado",
    },
    "RFC 9112, section 7.1: extensions and trailers are to be taken, and ignored": {
        "chunks with an extension": "tornado",
        "chunks with a trailer": "tornado",
    },
    "a chunk that does not end where it is to is answered; Tornado 6.5 closes in silence": {
        "a chunk that is longer": "tornado",
    },
    "RFC 9112, section 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing": {
        "chunks in HTTP/1.0": "tornado uvicorn",
    },
    "RFC 9112, section 6.1: 501 for a coding that is not understood; uvicorn drops the gzip": {
        "gzip, chunked": "tornado uvicorn",
        "an unknown coding": "tornado uvicorn",
        "xchunked": "tornado uvicorn",
    },
    "RFC 9110, section 10.1.1: 417 for an expectation that is not met": {
        "another expectation": "tornado uvicorn",
    },
    "what is no HTTP is refused at its first byte; Tornado waits for a line's end": {
        "TLS": "tornado",
    },
}

KNOWN: dict[tuple[str, str], str] = {
    (name, server): reason
    for reason, cases in _REASONS.items()
    for name, servers in cases.items()
    for server in servers.split()
}


# -- the servers -----------------------------------------------------------------------------------


def _said(method: str, path: str, body: bytes) -> bytes:
    return f"{method} {path} {len(body)}".encode()


@contextmanager
def _loop_in_thread(start: Callable[[], Any]) -> Iterator[Any]:
    """Run a coroutine function's server on a loop of its own; its value is what it returns."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def _tornado() -> Iterator[int]:
    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets
    from tornado.web import Application, RequestHandler

    class Handler(RequestHandler):
        SUPPORTED_METHODS = ("GET", "HEAD", "POST", "OPTIONS", "BREW", "get", "CONNECT")  # type: ignore[assignment]

        def prepare(self) -> None:
            request = self.request
            self.finish(_said(request.method or "", request.uri or "", request.body))

    async def start() -> int:
        (sock,) = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(Application([(r".*", Handler)]))
        server.add_sockets([sock])
        return int(sock.getsockname()[1])

    with _loop_in_thread(start) as port:
        yield port


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    target = scope["raw_path"].decode("latin-1")
    target += "?" + scope["query_string"].decode() if scope["query_string"] else ""
    text = _said(scope["method"], target, body)
    length = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": text})


@contextmanager
def _uvicorn() -> Iterator[int]:
    import uvicorn

    async def start() -> tuple[Any, int]:
        config = uvicorn.Config(
            _asgi, "127.0.0.1", 0, log_level="critical", http="httptools", lifespan="off", ws="none"
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        return server, int(server.servers[0].sockets[0].getsockname()[1])

    with _loop_in_thread(start) as (_, port):
        yield port


def _app(request: Request) -> dict[str, Any]:
    target = request.raw_path + (f"?{request.query_string}" if request.query_string else "")
    return {"body": _said(request.method, target, request.body)}


# -- comparing -------------------------------------------------------------------------------------


def _talk(port: int, name: str) -> Outcome:
    """What a client sees of a case; it waits a moment for more after the last bytes."""
    data, closed = b"", True
    with Client(port, timeout=0.7) as client:
        with suppress(ConnectionError):
            client.send(CASES[name])
        try:
            while piece := client.socket.recv(65536):
                data += piece
        except TimeoutError:
            closed = False
        except ConnectionError:
            pass
    methods = [b"HEAD"] if name.startswith("HEAD") else []
    try:
        responses, _ = read_responses(data, methods, strict=False)
    except (AssertionError, ValueError):
        return ("not HTTP", data[:60].decode("latin-1"))
    seen = []
    for response in responses:
        asked = " " + response.body.decode("latin-1") if response.status == 200 else ""
        seen.append(f"{response.status}{asked}")
    return (*seen, "closed" if closed else "open")


def outcomes() -> dict[str, dict[str, Outcome]]:
    """By case and server what came of it. Main thread; runs our callbacks meanwhile."""
    with ExitStack() as stack:
        ours = stack.enter_context(start_server("127.0.0.1", 0, _app))
        ports = {
            "ours": ours.port,
            "tornado": stack.enter_context(_tornado()),
            "uvicorn": stack.enter_context(_uvicorn()),
        }
        pool = stack.enter_context(ThreadPoolExecutor(24))
        futures = {
            (name, server): pool.submit(_talk, port, name)
            for name in CASES
            for server, port in ports.items()
        }
        serve_until(lambda: all(future.done() for future in futures.values()), timeout=60)
    return {name: {each: futures[name, each].result() for each in ports} for name in CASES}


def differences(found: dict[str, dict[str, Outcome]]) -> dict[tuple[str, str], tuple[str, str]]:
    """By case and other server: our outcome, and the other's, where they differ."""
    return {
        (name, server): (", ".join(by_server["ours"]), ", ".join(outcome))
        for name, by_server in found.items()
        for server, outcome in by_server.items()
        if outcome != by_server["ours"]
    }


def main() -> int:
    found = differences(outcomes())
    for (name, server), (ours, theirs) in found.items():
        print(f"{name}\n    ours     {ours}\n    {server:8} {theirs}")
        print(f"    {KNOWN.get((name, server), 'UNKNOWN')}")
    unknown = found.keys() - KNOWN.keys()
    print(f"{len(CASES)} cases, {len(found)} differences, {len(unknown)} of them unknown")
    for name, server in KNOWN.keys() - found.keys():
        print(f"no longer a difference: {name}, {server}")
    return bool(unknown)


if __name__ == "__main__":
    sys.exit(main())
