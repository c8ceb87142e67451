"""Handlers: asked before the body, of other kinds than functions, and those that stop what runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    Client,
    Deliveries,
    Serving,
    Work,
    in_thread,
    request,
)
from test_http import hello

from httpuv_kernel import Request, interrupt, run_now, service, stop_server

# -- 100-continue and on_headers -------------------------------------------------------------------

EXPECTING = request("POST", headers=[("Expect", "100-continue"), ("Content-Length", 3)])
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_continue_is_said_without_a_callback() -> None:
    serving = Serving(lambda request: {"body": request.body})
    with serving.connect() as client:
        client.send(EXPECTING)
        assert client.read_until(b"\r\n\r\n") == CONTINUE
        client.send(b"abc")
        assert Work(client.read_reply).finish().text == "abc"


def test_continue_is_said_once_on_headers_agreed(deliveries: Deliveries) -> None:
    said: list[bytes] = []

    def on_headers(request: Request) -> None:
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            said.append(client.socket.recv(100))
        client.socket.settimeout(10)

    serving = Serving({"call": lambda request: {"body": request.body}, "on_headers": on_headers})
    with serving.connect() as client:
        client.send(EXPECTING)
        service(1000)
        assert in_thread(client.read_until, b"\r\n\r\n") == CONTINUE
        client.send(b"abc")
        assert Work(client.read_reply).finish().text == "abc"
    assert said == []


def test_continue_is_not_said_when_on_headers_refused() -> None:
    serving = Serving({"on_headers": lambda _: {"status": 403, "body": "no"}, "call": hello})

    def client(connection: Client) -> tuple[int, bool, bool]:
        connection.send(EXPECTING)
        reply = connection.read_reply()
        return reply.status, reply.closes, connection.is_closed()

    assert serving.run(client) == (403, True, True)


def test_on_headers_sees_the_head_and_no_body() -> None:
    seen: list[tuple[str, str, bytes]] = []

    def on_headers(request: Request) -> None:
        seen.append((request.method, request.headers["x-a"], request.body))

    serving = Serving({"call": lambda request: {"body": request.body}, "on_headers": on_headers})
    assert serving.ask("POST", headers=[("X-A", "b")], body=b"abc").text == "abc"
    assert seen == [("POST", "b", b"")]


def test_on_headers_answers_early_and_closes() -> None:
    calls: list[Request] = []
    serving = Serving(
        {"call": calls.append, "on_headers": lambda request: {"status": 401, "body": "who?"}}
    )

    def client(connection: Client) -> tuple[int, str, bool, bool]:
        connection.send(request() + request())
        reply = connection.read_reply()
        return reply.status, reply.text, reply.closes, connection.is_closed()

    assert serving.run(client) == (401, "who?", True, True)
    assert calls == []


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_an_early_answer_reaches_a_client_that_is_still_sending(framing: str) -> None:
    serving = Serving({"on_headers": lambda _: {"status": 413, "body": "too much"}})
    piece = bytes(100_000)

    def client(connection: Client) -> tuple[int, str]:
        fields = [("Content-Length", 30 * len(piece))]
        if framing == "chunks":
            fields = [("Transfer-Encoding", "chunked")]  # type: ignore[list-item]
        connection.send(request("POST", headers=fields))
        for _ in range(30):
            connection.send(b"186a0\r\n" + piece + b"\r\n" if framing == "chunks" else piece)
        reply = connection.read_reply()
        return reply.status, reply.text

    assert serving.run(client) == (413, "too much")


@pytest.mark.parametrize("status", [None, 403])
def test_on_headers_may_be_a_coroutine_function(status: int | None) -> None:
    async def on_headers(request: Request) -> dict[str, object] | None:
        await asyncio.sleep(0)
        return None if status is None else {"status": status}

    reply = Serving({"call": hello, "on_headers": on_headers}).ask("POST", body=b"abc")
    assert reply.status == (status or 200)


def test_on_headers_is_not_asked_for_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a file")
    asked: list[Request] = []
    paths = {"/file": str(tmp_path)}
    serving = Serving({"on_headers": asked.append, "static_paths": paths})
    with serving.connect() as client:
        assert in_thread(client.ask, "GET", "/file/a.txt").text == "a file"
    assert asked == []


def test_on_headers_alone_passes_to_404() -> None:
    assert Serving({"on_headers": lambda _: None}).ask().status == 404


def test_on_headers_is_asked_for_each_request() -> None:
    asked: list[str] = []
    app = {"call": hello, "on_headers": lambda request: asked.append(request.path)}

    def client(connection: Client) -> list[str]:
        connection.send(
            request("POST", "/1", body=b"a")
            + request(target="/2")
            + request("POST", "/3", body=[b"b", b"c"])
        )
        return [connection.read_reply().text for _ in range(3)]

    assert Serving(app).run(client) == ["hello /1", "hello /2", "hello /3"]
    assert asked == ["/1", "/2", "/3"]


def test_an_error_in_on_headers_is_a_500(capsys: pytest.CaptureFixture[str]) -> None:
    def on_headers(request: Request) -> None:
        raise LookupError("not there")

    assert Serving({"call": hello, "on_headers": on_headers}).ask().status == 500
    assert "LookupError: not there" in capsys.readouterr().err


def test_what_on_headers_returns_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert Serving({"call": hello, "on_headers": lambda _: 17}).ask().status == 500
    assert "on_headers returned 17" in capsys.readouterr().err


# -- handlers of other kinds -----------------------------------------------------------------------


def test_a_coroutine_function() -> None:
    async def app(request: Request) -> dict[str, object]:
        await asyncio.sleep(0)
        return {"body": "later"}

    assert Serving(app).ask().text == "later"


def test_an_object_with_await() -> None:
    class Promise:
        def __await__(self) -> Iterator[Any]:
            yield from asyncio.sleep(0).__await__()
            return {"body": "kept"}

    assert Serving(lambda _: Promise()).ask().text == "kept"


def test_a_coroutine_that_returns_a_future_of_a_thread() -> None:
    future: Future[dict[str, object]] = Future()
    future.set_result({"body": "both"})

    async def app(request: Request) -> Future[dict[str, object]]:
        return future

    assert Serving(app).ask().text == "both"


def test_a_future_of_a_thread() -> None:
    def app(request: Request) -> Future[dict[str, object]]:
        future: Future[dict[str, object]] = Future()
        threading.Thread(target=future.set_result, args=({"body": "from a thread"},)).start()
        return future

    assert Serving(app).ask().text == "from a thread"


def test_a_future_that_is_not_of_the_standard_library() -> None:
    class Remote:
        def add_done_callback(self, function: Callable[[Remote], object]) -> None:
            threading.Thread(target=function, args=(self,)).start()

        def result(self) -> dict[str, object]:
            return {"body": "remote"}

    assert Serving(lambda _: Remote()).ask().text == "remote"


def test_a_future_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    future: Future[None] = Future()
    future.set_exception(ArithmeticError("too large"))
    assert Serving(lambda _: future).ask().status == 500
    assert "ArithmeticError: too large" in capsys.readouterr().err


def test_a_future_that_is_cancelled(capsys: pytest.CaptureFixture[str]) -> None:
    future: Future[None] = Future()
    future.cancel()
    assert Serving(lambda _: future).ask().status == 500
    assert "CancelledError" in capsys.readouterr().err


def test_a_handler_that_cancels_itself(capsys: pytest.CaptureFixture[str]) -> None:
    async def app(request: Request) -> None:
        raise asyncio.CancelledError

    assert Serving(app).ask().status == 500
    assert "CancelledError" in capsys.readouterr().err


def test_a_handler_may_serve_others_meanwhile() -> None:
    def app(request: Request) -> dict[str, object]:
        if request.path == "/outer":
            inner = serving.begin(lambda client: client.ask(target="/inner").text)
            return {"body": "outer, " + inner.finish()}
        return {"body": request.path}

    serving = Serving(app)
    assert serving.ask(target="/outer").text == "outer, /inner"


# -- stopping from inside --------------------------------------------------------------------------


def test_a_handler_may_stop_its_server_twice(capsys: pytest.CaptureFixture[str]) -> None:
    def app(request: Request) -> dict[str, object]:
        serving.server.stop()
        serving.server.stop()
        stop_server(serving.server)
        return {"body": "too late"}

    serving = Serving(app)
    assert serving.exchange(request()) == b""
    assert not serving.server.is_running
    assert capsys.readouterr().err == ""


def test_a_handler_may_stop_another_server() -> None:
    other = Serving(hello).server

    def app(request: Request) -> dict[str, object]:
        other.stop()
        return {"body": "done"}

    assert Serving(app).ask().text == "done"
    assert not other.is_running


def test_stopping_closes_idle_connections() -> None:
    serving = Serving(hello)
    with serving.connect() as client:
        assert Work(client.ask).finish().status == 200
        serving.server.stop()
        assert client.is_closed()


def test_requests_that_wait_when_a_server_stops_are_dropped(deliveries: Deliveries) -> None:
    calls: list[Request] = []
    serving = Serving(calls.append)
    with serving.connect() as client:
        client.send(request())
        in_thread(deliveries.wait, client.port, 1)
        serving.server.stop()
        assert client.is_closed()
    run_now()
    assert calls == []


def test_a_handler_may_interrupt_the_loop() -> None:
    def app(request: Request) -> dict[str, object]:
        interrupt()
        return {"body": "stopping"}

    work = Serving(app).begin(lambda client: client.ask().text)
    service(0)
    assert work.result() == "stopping"
