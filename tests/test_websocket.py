"""WebSockets with the clients that people use: handlers, order, closing, threads, broadcasts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers import Serving, Work, during, in_thread, run_until_idle, serve_until
from websocket import ABNF
from websocket_client import Connection, Room, begin, echo, open_socket, read_close, talk
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from httpuv_kernel import WebSocket, broadcast

# -- messages --------------------------------------------------------------------------------------

MESSAGES = ["", "text", "größer €😀", "x" * 125, "x" * 126, "x" * 70_000]
MESSAGES += [b"", b"\0\xff", bytes(125), bytes(126), bytes(1_000_000)]


def test_echo_with_websocket_client() -> None:
    def client(connection: Connection) -> list[str | bytes]:
        replies = []
        for message in MESSAGES:
            binary = isinstance(message, bytes)
            connection.send(message, ABNF.OPCODE_BINARY if binary else ABNF.OPCODE_TEXT)
            replies.append(connection.recv())
        return replies

    assert talk(Serving({"on_ws_open": echo}), client) == MESSAGES


def test_echo_with_websockets() -> None:
    serving = Serving({"on_ws_open": echo})

    def client() -> list[str | bytes]:
        replies = []
        with connect(f"ws://127.0.0.1:{serving.port}/") as connection:
            for message in MESSAGES:
                connection.send(message)
                replies.append(connection.recv(10))
        return replies

    assert during(client) == MESSAGES


def test_handlers_are_registered_by_call_and_as_decorators() -> None:
    seen: list[object] = []

    def opened(ws: WebSocket) -> None:
        @ws.on_message
        def first(binary: bool, message: str | bytes) -> None:
            seen.append(("first", binary, message))

        def second(binary: bool, message: str | bytes) -> None:
            seen.append(("second", binary, message))

        assert ws.on_message(second) is second
        assert ws.message_callbacks == [first, second]
        closed = [ws.on_close(lambda: seen.append("a")), ws.on_close(lambda: seen.append("b"))]
        assert ws.close_callbacks == closed

    def client(connection: Connection) -> None:
        connection.send("x")
        connection.send_binary(b"y")
        connection.close()

    talk(Serving({"on_ws_open": opened}), client)
    serve_until(lambda: "b" in seen)
    expected = [("first", False, "x"), ("second", False, "x")]
    expected += [("first", True, b"y"), ("second", True, b"y")]
    assert seen == [*expected, "a", "b"]


def test_the_order_is_kept() -> None:
    def client(connection: Connection) -> list[str]:
        for i in range(500):
            connection.send(str(i))
        return [connection.recv() for _ in range(500)]

    assert talk(Serving({"on_ws_open": echo}), client) == [str(i) for i in range(500)]


def test_many_sockets() -> None:
    handles = []

    def opened(ws: WebSocket) -> None:
        handles.append(ws.handle)
        ws.on_message(lambda binary, message: ws.send(f"{ws.request.path} {message}"))

    serving = Serving({"on_ws_open": opened})
    meeting = threading.Barrier(40)

    def client(connection: Connection) -> list[str]:
        meeting.wait(10)
        for i in range(20):
            connection.send(str(i))
        return [connection.recv() for _ in range(20)]

    works = [begin(serving, client, target=f"/{n}") for n in range(40)]
    for n, work in enumerate(works):
        assert work.finish() == [f"/{n} {i}" for i in range(20)]
    assert len(set(handles)) == 40


def test_messages_sent_in_on_ws_open_come_first() -> None:
    def opened(ws: WebSocket) -> None:
        ws.send("hello")
        ws.send(bytearray(b"\1"))
        ws.send(memoryview(b"\2"))
        echo(ws)

    def client(connection: Connection) -> list[str | bytes]:
        connection.send("x")
        return [connection.recv() for _ in range(4)]

    assert talk(Serving({"on_ws_open": opened}), client) == ["hello", b"\1", b"\2", "x"]


def test_the_request() -> None:
    sockets: list[WebSocket] = []
    serving = Serving({"on_ws_open": sockets.append})
    port = talk(serving, lambda c: c.sock.getsockname()[1], target="/a%20b?n=1", header=["X-A: b"])
    request = sockets[0].request
    assert (request.method, request.path, request.query) == ("GET", "/a b", {"n": "1"})
    assert request.headers["x-a"] == request["HTTP_X_A"] == "b"
    assert request["REMOTE_ADDR"] == "127.0.0.1"
    assert request["REMOTE_PORT"] == str(port)
    assert request["SERVER_PORT"] == str(serving.port)
    assert request.headers["upgrade"].lower() == "websocket"
    assert request.body == b""


def test_http_on_the_same_server() -> None:
    room = Room()
    room.call = lambda request: {"body": request.path}  # type: ignore[attr-defined]
    serving = Serving(room)
    talk(serving, lambda connection: connection.send("x"))
    assert serving.ask(target="/a").text == "/a"


@pytest.mark.parametrize("message", [None, 1, ["a"], {}])
def test_a_message_is_text_or_bytes(message: Any) -> None:
    room = Room()
    with open_socket(room) as (ws, _):
        with pytest.raises(TypeError, match="str or bytes"):
            ws.send(message)
        with pytest.raises(TypeError, match="str or bytes"):
            broadcast([ws], message)


def test_text_that_is_no_utf8_is_an_error_of_the_caller() -> None:
    with open_socket(Room()) as (ws, connection):
        with pytest.raises(ValueError, match="surrogates"):
            ws.send("\ud800")
        with pytest.raises(ValueError, match="surrogates"):
            broadcast([ws], "\ud800")
        ws.send("good")
        assert in_thread(connection.recv) == "good"


def test_send_from_another_thread() -> None:
    with open_socket(Room()) as (ws, connection):
        in_thread(lambda: [ws.send(str(i)) for i in range(100)])
        assert in_thread(lambda: [connection.recv() for _ in range(100)]) == [
            str(i) for i in range(100)
        ]


# -- coroutine handlers ----------------------------------------------------------------------------


def test_what_comes_waits_for_a_coroutine() -> None:
    events: list[str] = []
    release = asyncio.Event()

    def opened(ws: WebSocket) -> None:
        @ws.on_message
        async def slow(binary: bool, message: str) -> None:
            events.append(f"begin {message}")
            await release.wait()
            events.append(f"end {message}")

        ws.on_message(lambda binary, message: events.append(f"plain {message}"))
        ws.on_close(lambda: events.append("close"))

    def client(connection: Connection) -> None:
        connection.send("a")
        connection.send("b")
        connection.close()

    talk(Serving({"on_ws_open": opened}), client)
    run_until_idle(0.1)
    assert events == ["begin a"]
    release.set()
    serve_until(lambda: "close" in events)
    assert events == [f"{what} {name}" for name in "ab" for what in ("begin", "end", "plain")] + [
        "close"
    ]


def test_messages_wait_for_a_coroutine_that_opens() -> None:
    release = asyncio.Event()

    async def opened(ws: WebSocket) -> None:
        await release.wait()
        echo(ws)

    def client(connection: Connection) -> str:
        connection.send("x")
        return connection.recv()

    work = begin(Serving({"on_ws_open": opened}), client)
    run_until_idle(0.1)
    assert not work.is_over
    release.set()
    assert work.finish() == "x"


def test_coroutines_of_several_sockets_run_side_by_side() -> None:
    waiting: list[asyncio.Event] = []

    def opened(ws: WebSocket) -> None:
        @ws.on_message
        async def handle(binary: bool, message: str) -> None:
            waiting.append(asyncio.Event())
            if len(waiting) == 3:
                for event in waiting:
                    event.set()
            await waiting[-1].wait()
            ws.send(message)

    def client(connection: Connection) -> str:
        connection.send("x")
        return connection.recv()

    serving = Serving({"on_ws_open": opened})
    works = [begin(serving, client) for _ in range(3)]
    assert [work.finish() for work in works] == ["x"] * 3


# -- handlers that raise ---------------------------------------------------------------------------


def _raises(*_: object) -> None:
    raise ZeroDivisionError("of the handler")


async def _raises_later(*_: object) -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError("of the handler")


@pytest.mark.parametrize("handler", [_raises, _raises_later])
@pytest.mark.parametrize("where", ["on_ws_open", "on_message"])
def test_a_handler_that_raises(
    where: str, handler: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[int | None] = []

    def opened(ws: WebSocket) -> object:
        ws.on_close(lambda: closed.append(ws.close_code))
        if where == "on_ws_open":
            return handler()
        return ws.on_message(handler) and None

    def client(connection: Connection) -> tuple[int, str]:
        connection.send("x")
        return read_close(connection)

    serving = Serving({"on_ws_open": opened})
    assert talk(serving, client)[0] == 1011
    serve_until(lambda: closed)
    assert closed == [1000]  # with that this client answers
    error = capsys.readouterr().err
    assert error.count("ZeroDivisionError: of the handler") == 1
    assert "httpuv_kernel/" not in error
    assert talk(serving, client)[0] == 1011


def test_after_a_handler_has_raised_it_hears_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    def client(connection: Connection) -> int:
        for _ in range(20):
            connection.send("x")
        return read_close(connection)[0]

    assert talk(Serving({"on_ws_open": lambda ws: ws.on_message(_raises) and None}), client) == 1011
    run_until_idle(0.1)
    assert capsys.readouterr().err.count("ZeroDivisionError: of the handler") == 1


def test_an_on_close_that_raises_does_not_keep_the_next_from_running(
    capsys: pytest.CaptureFixture[str],
) -> None:
    room = Room()

    def opened(ws: WebSocket) -> None:
        ws.on_close(_raises)
        room.on_ws_open(ws)

    talk(Serving({"on_ws_open": opened}), lambda connection: connection.close(1000))
    serve_until(lambda: room.events)
    assert room.events == [(1000, "")]
    assert "ZeroDivisionError: of the handler" in capsys.readouterr().err


# -- broadcasts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["größer" * 1000, b"\0\1" * 1000, ""])
def test_a_broadcast(message: str | bytes) -> None:
    room = Room()
    serving = Serving(room)

    def plain(connection: Connection) -> list[str | bytes]:
        return [connection.recv(), connection.recv()]

    def compressed(options: dict[str, Any]) -> list[str | bytes]:
        with connect(f"ws://127.0.0.1:{serving.port}/", **options) as connection:
            return [connection.recv(10), connection.recv(10)]

    small = [ClientPerMessageDeflateFactory(server_max_window_bits=9)]
    works = [begin(serving, plain) for _ in range(3)]
    works += [Work(compressed, {}), Work(compressed, {"extensions": small})]
    works += [Work(compressed, {"compression": None})]
    gone = begin(serving, lambda connection: connection.close())
    serve_until(lambda: len(room.sockets) == 7 and room.events)
    gone.finish()
    room.sockets[0].send("first")
    broadcast(room.sockets[1:], "first")
    in_thread(broadcast, iter(room.sockets), message)
    broadcast([], message)
    assert [work.finish() for work in works] == [["first", message]] * 6


def test_a_broadcast_in_on_ws_open() -> None:
    def opened(ws: WebSocket) -> None:
        broadcast([ws], "hello")
        ws.send("second")

    def client(connection: Connection) -> list[str | bytes]:
        return [connection.recv(), connection.recv()]

    assert talk(Serving({"on_ws_open": opened}), client) == ["hello", "second"]
