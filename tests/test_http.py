"""Exchanges over real sockets: handlers of every kind, on_headers, errors, clients that leave."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from email.utils import parsedate_to_datetime
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
    serve_until,
)

import httpuv_kernel
from httpuv_kernel import Request, later, run_now, service

PACKAGE = str(Path(httpuv_kernel.__file__).parent)


def hello(request: Request) -> dict[str, object]:
    return {"body": f"hello {request.path}"}


# -- the plain case ------------------------------------------------------------------------------


def test_a_small_response() -> None:
    reply = Serving(hello).ask(target="/a")
    assert (reply.status, reply.reason, reply.text) == (200, "OK", "hello /a")
    assert reply["content-length"] == "8"
    assert not reply.has("connection")


def test_the_date_is_now() -> None:
    serving = Serving(hello)
    dates = [parsedate_to_datetime(serving.ask()["date"]) for _ in range(2)]
    assert dates[0] <= dates[1]


def test_http10_keep_alive_is_confirmed() -> None:
    reply = Serving(hello).ask(version="HTTP/1.0", headers=[("Connection", "keep-alive")])
    assert reply["connection"] == "keep-alive"


@pytest.mark.parametrize("status", [204, 304])
def test_without_a_body_there_is_no_length(status: int) -> None:
    reply = Serving(lambda _: {"status": status, "body": "x"}).ask()
    assert not reply.has("content-length")
    assert not reply.has("transfer-encoding")


def test_head_has_the_length_of_get() -> None:
    assert Serving(hello).ask("HEAD", "/a")["content-length"] == "8"


def test_head_keeps_a_declared_length_without_a_body() -> None:
    reply = Serving(lambda _: {"headers": {"Content-Length": 1234}}).ask("HEAD")
    assert reply["content-length"] == "1234"


def test_an_app_without_call_answers_404_by_itself() -> None:
    serving = Serving({"on_ws_open": lambda ws: None})
    with serving.connect() as client:
        assert in_thread(client.ask).status == 404


def test_a_connection_serves_many_requests() -> None:
    def client(connection: Client) -> list[str]:
        return [connection.ask(target=f"/{i}").text for i in range(100)]

    assert Serving(hello).run(client) == [f"hello /{i}" for i in range(100)]


def test_many_clients_at_once() -> None:
    serving = Serving(hello)
    works = [serving.begin(lambda client: client.ask().status) for _ in range(40)]
    assert [work.finish() for work in works] == [200] * 40


# -- order ---------------------------------------------------------------------------------------


def test_fifty_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a file")

    def app(request: Request) -> dict[str, object]:
        return {"body": request.path.encode() + request.body}

    kinds: list[tuple[Callable[[int], bytes], Callable[[int], str]]] = [
        (lambda i: request(target=f"/{i}"), lambda i: f"/{i}"),
        (lambda i: request(target="/file/a.txt"), lambda i: "a file"),
        (lambda i: request("POST", f"/{i}", body=b"body"), lambda i: f"/{i}body"),
        (lambda i: request("POST", f"/{i}", body=[b"in", b"two"]), lambda i: f"/{i}intwo"),
    ]
    chosen = [kinds[i % len(kinds)] for i in range(50)]

    def client(connection: Client) -> list[str]:
        connection.send(b"".join(make(i) for i, (make, _) in enumerate(chosen)))
        return [connection.read_reply().text for _ in chosen]

    serving = Serving({"call": app, "static_paths": {"/file": str(tmp_path)}})
    assert serving.run(client) == [text(i) for i, (_, text) in enumerate(chosen)]


def test_a_file_waits_for_the_request_before_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a file")
    serving = Serving({"call": hello, "static_paths": {"/file": str(tmp_path)}})

    def client(connection: Client) -> list[str]:
        connection.send(request(target="/slow") + request(target="/file/a.txt"))
        return [connection.read_reply().text for _ in range(2)]

    assert serving.run(client) == ["hello /slow", "a file"]


def test_pipelined_coroutines_that_end_in_another_order_are_answered_in_order() -> None:
    ready = asyncio.Event()

    async def app(request: Request) -> dict[str, object]:
        if request.path == "/first":
            await ready.wait()
        return {"body": request.path}

    serving = Serving(app)

    def client(connection: Client) -> list[str]:
        connection.send(request(target="/first") + request(target="/second"))
        return [connection.read_reply().text for _ in range(2)]

    work = serving.begin(client)
    service(100)
    later(ready.set)
    assert work.finish() == ["/first", "/second"]


@pytest.mark.parametrize("target", ["/file/a.txt", "/app"])
def test_a_body_behind_a_waiting_request_is_read_when_its_turn_comes(
    tmp_path: Path, deliveries: Deliveries, target: str
) -> None:
    """Its head is parsed with the request before it, its body arrives before that is answered."""
    (tmp_path / "a.txt").write_text("a file")
    serving = Serving(
        {
            "call": lambda request: {"body": request.body},
            "static_paths": {"/file": str(tmp_path)},
        }
    )
    whole = request(body=b"first") + request("POST", body=b"second") + request(target=target)
    head = whole.index(b"second")

    def send(client: Client) -> None:
        client.send(whole[:head])
        deliveries.wait(client.port, head)
        client.send(whole[head:])
        deliveries.wait(client.port, len(whole))

    with serving.connect(timeout=3) as client:
        in_thread(send, client)
        replies = Work(lambda: [client.read_reply() for _ in range(3)]).finish()
    assert [reply.body for reply in replies[:2]] == [b"first", b"second"]


def test_a_slow_coroutine_does_not_hold_up_another_connection() -> None:
    ready = asyncio.Event()

    async def app(request: Request) -> dict[str, object]:
        if request.path == "/slow":
            await ready.wait()
        return {"body": request.path}

    serving = Serving(app)
    slow = serving.begin(lambda client: client.ask(target="/slow").text)
    assert serving.ask(target="/quick").text == "/quick"
    later(ready.set)
    assert slow.finish() == "/slow"


# -- errors ----------------------------------------------------------------------------------------


def fail(request: Request) -> None:
    raise ValueError("this went wrong")


async def fail_later(request: Request) -> None:
    await asyncio.sleep(0)
    raise ValueError("this went wrong")


@pytest.mark.parametrize("app", [fail, fail_later])
def test_an_error_is_a_500_and_the_connection_lives(
    app: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def client(connection: Client) -> list[tuple[int, str]]:
        replies = [connection.ask(target="/there"), connection.ask()]
        return [(reply.status, reply.text) for reply in replies]

    assert Serving(app).run(client) == [(500, "500 Internal Server Error\n")] * 2
    shown = capsys.readouterr().err
    assert "GET /there failed" in shown
    assert "ValueError: this went wrong" in shown


@pytest.mark.parametrize("app", [fail, fail_later])
def test_a_traceback_has_the_user_s_frames_only(
    app: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Serving(app).ask()
    shown = capsys.readouterr().err
    assert f"in {app.__name__}" in shown
    assert PACKAGE not in shown


def test_an_error_says_nothing_to_the_client(capsys: pytest.CaptureFixture[str]) -> None:
    assert "wrong" not in Serving(fail).ask().text


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_sys_exit_is_a_500(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    def leave(request: Request) -> None:
        raise SystemExit(3)

    async def leave_async(request: Request) -> None:
        raise SystemExit(3)

    serving = Serving(leave if kind == "plain" else leave_async)
    assert serving.ask().status == 500
    assert serving.ask().status == 500
    assert "SystemExit" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_interrupt_ends_one_handler_and_service(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(request: Request) -> Any:
        if request.path == "/interrupted":
            signal.raise_signal(signal.SIGINT)
        return {"body": "served"}

    async def app_async(request: Request) -> Any:
        return app(request)

    serving = Serving(app if kind == "plain" else app_async)

    def client(connection: Client) -> list[int]:
        connection.send(request(target="/interrupted") + request())
        return [connection.read_reply().status for _ in range(2)]

    work = serving.begin(client)
    with pytest.raises(KeyboardInterrupt):
        service(0)
    assert work.finish() == [500, 200]


def test_an_interrupt_while_service_waits_is_raised() -> None:
    Serving(hello)
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        service(0)


# -- clients that leave ----------------------------------------------------------------------------


def leave(client: Client, how: str) -> None:
    if how == "close":
        client.socket.close()
    elif how == "reset":
        client.reset()
    else:
        client.finish_sending()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_callback_whose_client_has_left_does_not_run(how: str, deliveries: Deliveries) -> None:
    calls: list[Request] = []
    serving = Serving(calls.append)
    with serving.connect() as client:
        port = client.port
        client.send(request())
        in_thread(deliveries.wait, port, 1)
        leave(client, how)
        in_thread(deliveries.wait_end, port)
    run_now()
    assert calls == []


def test_a_body_whose_client_has_left_is_no_request(deliveries: Deliveries) -> None:
    calls: list[Request] = []
    serving = Serving(calls.append)
    with serving.connect() as client:
        port = client.port
        client.send(request("POST", headers=[("Content-Length", 1000)]) + b"not all of it")
        in_thread(deliveries.wait, port, 1)
    in_thread(deliveries.wait_end, port)
    run_now()
    assert calls == []


def test_a_pipelined_request_whose_client_has_left_does_not_run(deliveries: Deliveries) -> None:
    calls: list[str] = []

    def app(request: Request) -> dict[str, object]:
        calls.append(request.path)
        in_thread(client.reset)
        in_thread(deliveries.wait_end, port)
        return {}

    serving = Serving(app)
    with serving.connect() as client:
        port = client.port
        client.send(request(target="/1") + request(target="/2"))
        serve_until(lambda: calls)
        run_now(0.05)
    assert calls == ["/1"]


def test_a_coroutine_whose_client_has_left_is_cancelled() -> None:
    steps: list[str] = []

    async def app(request: Request) -> None:
        steps.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("ended")

    serving = Serving(app)
    with serving.connect() as client:
        client.send(request())
        serve_until(lambda: steps)
    serve_until(lambda: len(steps) == 2)
    assert steps == ["begun", "ended"]


def test_a_response_to_a_client_that_has_left_goes_nowhere(
    deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(request: Request) -> dict[str, object]:
        if request.path == "/leaves":
            in_thread(client.reset)
            in_thread(deliveries.wait_end, port)
        return {"body": "for nobody"}

    serving = Serving(app)
    client = serving.connect()
    port = client.port
    client.send(request(target="/leaves"))
    service(1000)
    assert serving.ask().status == 200
    assert capsys.readouterr().err == ""
