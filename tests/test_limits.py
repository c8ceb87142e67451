"""Sizes and numbers past a limit: the right answer, and the next client is served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import (
    Client,
    Deliveries,
    Reply,
    Serving,
    Work,
    configure,
    in_thread,
    request,
    run_until_idle,
    wait_until,
)

from httpuv_kernel import HTTPUV, Request, later, run_now, service


def hello(request: Request) -> dict[str, object]:
    return {"body": str(len(request.body))}


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        request(headers=[("X-A", "b" * 2000)]),
        request(headers=[(f"X-{i}", "b") for i in range(200)]),
        request(target="/" + "a" * 2000),
        request(headers=[("X-" + "A" * 2000, "b")]),
        request()[:-2] + b"X-A: " + b"b" * 100_000,
        b"GET /" + b"a" * 100_000,
    ],
    ids=["one field", "many fields", "target", "name", "a field without end", "no end"],
)
@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_a_large_header_block_is_a_431(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    configure(header_bytes=1000)
    serving = Serving(hello)

    def client(connection: Client) -> tuple[Reply, bool]:
        connection.socket.settimeout(3)
        connection.send(data)
        return connection.read_reply(), connection.is_closed()

    with caplog.at_level(logging.INFO, "httpuv_kernel"):
        reply, is_closed = serving.run(client)
    assert (reply.status, is_closed) == (431, True)
    assert reply.text.startswith("431 Request Header Fields Too Large: ")
    assert "1000 bytes" in reply.text
    assert "431" in caplog.text
    assert serving.ask().status == 200


def test_a_header_block_within_the_limit() -> None:
    configure(header_bytes=1000)
    assert Serving(hello).ask(headers=[("X-A", "b" * 900)]).status == 200


def test_pipelined_header_blocks_count_one_by_one() -> None:
    configure(header_bytes=1000)

    def client(connection: Client) -> list[int]:
        connection.send(request(headers=[("X-A", "b" * 800)]) * 10)
        return [connection.read_reply().status for _ in range(10)]

    assert Serving(hello).run(client) == [200] * 10


def test_the_default_header_block_is_64_kib() -> None:
    serving = Serving(hello)
    assert serving.ask(headers=[("X-A", "b" * 65_000)]).status == 200
    assert serving.ask(headers=[("X-A", "b" * 66_000)]).status == 431


@pytest.mark.parametrize("on_headers", [False, True], ids=["call", "on_headers"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_a_large_body_is_a_413(
    framing: str, on_headers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    configure(body_bytes=1000)
    calls: list[Request] = []
    app: dict[str, object] = {"call": calls.append}
    if on_headers:
        app["on_headers"] = lambda request: None
    body = bytes(1001) if framing == "length" else [bytes(500), bytes(501)]

    def client(connection: Client) -> tuple[Reply, bool]:
        connection.send(request("POST", body=body))
        return connection.read_reply(), connection.is_closed()

    with caplog.at_level(logging.INFO, "httpuv_kernel"):
        reply, is_closed = Serving(app).run(client)
    assert (reply.status, reply.closes, is_closed) == (413, True, True)
    assert "1000 bytes" in reply.text
    assert "413" in caplog.text
    assert calls == []


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_of_the_limit(framing: str) -> None:
    configure(body_bytes=1000)
    body = bytes(1000) if framing == "length" else [bytes(500), bytes(500)]
    assert Serving(hello).ask("POST", body=body).text == "1000"


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_413_reaches_a_client_that_is_still_sending(framing: str) -> None:
    configure(body_bytes=1000)
    body = bytes(3_000_000) if framing == "length" else [bytes(300_000)] * 10
    assert Serving(hello).ask("POST", body=body).status == 413


def test_no_continue_for_a_body_above_the_limit() -> None:
    configure(body_bytes=1000)
    fields = [("Expect", "100-continue"), ("Content-Length", 1001)]
    assert Serving(hello).ask("POST", headers=fields).status == 413


def test_a_refused_body_leaves_no_file(body_directory: Path) -> None:
    configure(body_bytes=1000, spool_bytes=100)
    assert Serving(hello).ask("POST", body=[bytes(600), bytes(600)]).status == 413
    wait_until(lambda: not list(body_directory.iterdir()))


def test_limits_are_taken_when_a_server_starts() -> None:
    configure(body_bytes=10)
    small = Serving(hello)
    configure(body_bytes=100)
    large = Serving(hello)
    statuses = [serving.ask("POST", body=bytes(50)).status for serving in (small, large)]
    assert statuses == [413, 200]


# -- numbers ---------------------------------------------------------------------------------------


def test_too_many_connections_are_a_503(
    deliveries: Deliveries, caplog: pytest.LogCaptureFixture
) -> None:
    configure(connections=2)
    serving = Serving(hello)
    with serving.connect() as first, serving.connect() as second:
        assert Work(first.ask).finish().status == 200
        assert Work(second.ask).finish().status == 200
        with serving.connect() as third:
            reply = in_thread(third.read_reply)
            assert (reply.status, reply["retry-after"], reply.closes) == (503, "1", True)
            assert "connections" in reply.text
            assert third.is_closed()
        assert Work(first.ask).finish().status == 200
        port = second.port
    in_thread(deliveries.wait_end, port)
    assert serving.ask().status == 200
    assert "2 connections" in caplog.text


def test_too_many_waiting_requests_are_a_503_at_once(
    deliveries: Deliveries, caplog: pytest.LogCaptureFixture
) -> None:
    configure(pending=2)
    serving = Serving(hello)
    with serving.connect() as first, serving.connect() as second, serving.connect() as third:
        for client in (first, second):
            client.send(request())
            in_thread(deliveries.wait, client.port, 1)
        reply = in_thread(third.ask)
        assert (reply.status, reply["retry-after"]) == (503, "1")
        assert "busy" in reply.text
        assert Work(first.read_reply).finish().status == 200
        assert Work(second.read_reply).finish().status == 200
        assert Work(third.ask).finish().status == 200  # its connection has lived on
    assert "2 wait" in caplog.text


def test_files_are_served_when_too_many_requests_wait(
    deliveries: Deliveries, tmp_path: Path
) -> None:
    configure(pending=1)
    (tmp_path / "a.txt").write_text("a file")
    serving = Serving({"call": hello, "static_paths": {"/file": str(tmp_path)}})
    with serving.connect() as first, serving.connect() as second:
        first.send(request())
        in_thread(deliveries.wait, first.port, 1)
        assert in_thread(second.ask, "GET", "/file/a.txt").text == "a file"


def test_a_request_whose_client_left_waits_no_longer(deliveries: Deliveries) -> None:
    configure(pending=1)
    serving = Serving(hello)
    with serving.connect() as client:
        port = client.port
        client.send(request())
        in_thread(deliveries.wait, port, 1)
    in_thread(deliveries.wait_end, port)
    assert serving.ask().status == 200


def test_a_stream_that_has_begun_does_not_wait() -> None:
    configure(pending=1)

    def body() -> Iterator[bytes]:
        while True:
            yield bytes(100_000)

    def app(request: Request) -> dict[str, object]:
        return {"body": body()} if request.path == "/stream" else {}

    serving = Serving(app)
    with serving.connect() as client:
        client.send(request(target="/stream"))
        Work(client.read_head).finish()
        assert serving.ask().status == 200


def test_a_coroutine_waits_as_long_as_it_runs() -> None:
    configure(pending=1)
    ready = asyncio.Event()

    async def app(request: Request) -> dict[str, object]:
        await ready.wait()
        return {}

    serving = Serving(app)
    with serving.connect() as first, serving.connect() as second:
        first.send(request())
        service(500)
        assert in_thread(second.ask).status == 503
        later(ready.set)
        assert Work(first.read_reply).finish().status == 200


# -- the traits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("header_bytes", 64 * 1024),
        ("body_bytes", 256 * 1024 * 1024),
        ("spool_bytes", 1024 * 1024),
        ("connections", 1000),
        ("pending", 1000),
        ("header_timeout", 30),
        ("body_timeout", 60),
        ("keep_alive_timeout", 75),
        ("write_timeout", 60),
        ("gzip_bytes", 1024),
        ("switch_interval", 0.0005),
    ],
)
def test_a_default(name: str, value: float) -> None:
    assert HTTPUV.class_traits()[name].default_value == value


@pytest.mark.parametrize("name", HTTPUV.class_own_traits(config=True))
def test_a_trait_has_help(name: str) -> None:
    assert HTTPUV.class_traits()[name].help


def test_nothing_waits_after_a_503() -> None:
    configure(pending=0)
    with Serving(hello).connect() as client:
        assert in_thread(client.ask).status == 503
    run_until_idle(0.05)
    assert run_now() is False
