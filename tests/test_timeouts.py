"""How long a client may take: for a header block, a body, the next request, and to read."""

from __future__ import annotations

import logging
import sys
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
    serve_until,
    wait_until,
)

from httpuv_kernel import Request


def hello(request: Request) -> dict[str, object]:
    return {"body": str(len(request.body))}


in_time = pytest.mark.usefixtures("quick_heartbeat")


@in_time
@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\nHost: loc", request()[:-1]])
def test_a_slow_header_block_is_a_408(data: bytes) -> None:
    configure(header_timeout=0.1)
    with Serving(hello).connect() as client:
        client.send(data)
        reply = in_thread(client.read_reply)
        assert (reply.status, reply.closes) == (408, True)
        assert client.is_closed()


@in_time
def test_a_header_block_that_trickles_in_is_a_408(deliveries: Deliveries) -> None:
    configure(header_timeout=0.2)
    serving = Serving(hello)

    def trickle(client: Client) -> Reply:
        client.send(request()[:-2])
        sent = len(request()) - 2
        client.socket.settimeout(0.02)
        while True:
            client.send(b"X-A: b\r\n")
            sent += 8
            deliveries.wait(client.port, sent)
            try:
                return client.read_reply()
            except TimeoutError:
                continue

    assert serving.run(trickle).status == 408


@in_time
def test_a_second_slow_header_block_is_a_408() -> None:
    configure(header_timeout=0.1)
    with Serving(hello).connect() as client:
        client.send(request() + b"GET /")
        assert Work(client.read_reply).finish().status == 200
        assert in_thread(client.read_reply).status == 408


@in_time
@pytest.mark.parametrize("data", [b"", b"\r\n"], ids=["nothing", "an empty line"])
def test_a_client_that_asks_nothing_is_closed(data: bytes) -> None:
    configure(header_timeout=0.1, keep_alive_timeout=0.1)
    with Serving(hello).connect() as client:
        client.send(data)
        assert in_thread(client.is_closed)


@in_time
def test_an_idle_connection_is_closed() -> None:
    configure(keep_alive_timeout=0.1)
    with Serving(hello).connect() as client:
        assert Work(client.ask).finish().status == 200
        assert in_thread(client.is_closed)


@in_time
@pytest.mark.parametrize("on_headers", [False, True], ids=["call", "on_headers"])
@pytest.mark.parametrize(
    "data",
    [
        request("POST", headers=[("Content-Length", 10)]) + b"half",
        request("POST", headers=[("Content-Length", 10)]),
        request("POST", body=[b"abc"])[:-5],
    ],
    ids=["half", "nothing", "no last chunk"],
)
def test_a_slow_body_is_a_408(data: bytes, on_headers: bool) -> None:
    configure(body_timeout=0.1)
    calls: list[Request] = []
    app: dict[str, object] = {"call": calls.append}
    if on_headers:
        app["on_headers"] = lambda request: None

    def client(connection: Client) -> tuple[int, bool]:
        connection.send(data)
        return connection.read_reply().status, connection.is_closed()

    assert Serving(app).run(client) == (408, True)
    assert calls == []


@in_time
def test_a_slow_body_leaves_no_file(body_directory: Path) -> None:
    configure(body_timeout=0.1, spool_bytes=100)
    with Serving(hello).connect() as client:
        client.send(request("POST", headers=[("Content-Length", 1000)]) + bytes(900))
        assert in_thread(client.read_reply).status == 408
        assert client.is_closed()
    wait_until(lambda: not list(body_directory.iterdir()))


@in_time
def test_a_body_may_take_long_if_it_never_pauses() -> None:
    configure(body_timeout=0.3)
    serving = Serving(hello)
    head = request("POST", headers=[("Content-Length", 40)])

    def trickle(client: Client) -> str:
        client.send(head + bytes(20))
        client.socket.settimeout(0.02)
        for _ in range(19):
            client.send(b"a")
            with pytest.raises(TimeoutError):
                client.read_head()
        client.socket.settimeout(10)
        client.send(b"a")
        return client.read_reply().text

    assert serving.run(trickle) == "40"


@in_time
def test_a_client_that_takes_nothing_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    configure(write_timeout=0.1)
    closed: list[bool] = []

    def body() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            closed.append(True)

    serving = Serving(lambda _: {"body": body()})
    with (
        caplog.at_level(logging.INFO, "httpuv_kernel"),
        serving.connect(receive_buffer=4096) as client,
    ):
        client.send(request())
        serve_until(lambda: closed)
    assert "cut" in caplog.text


@in_time
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_takes_nothing_of_a_body_in_memory_is_cut(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    configure(write_timeout=0.1)
    serving = Serving(lambda _: {"body": bytes(20_000_000)})
    with (
        caplog.at_level(logging.INFO, "httpuv_kernel"),
        serving.connect(receive_buffer=4096) as client,
    ):
        client.send(request())
        serve_until(lambda: "cut" in caplog.text)


@in_time
def test_a_client_that_takes_nothing_of_a_file_is_cut(tmp_path: Path) -> None:
    configure(write_timeout=0.1)
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    serving = Serving(lambda _: {"body": {"file": path, "owned": True}})
    with serving.connect(receive_buffer=4096) as client:
        client.send(request())
        serve_until(lambda: not path.exists())


@in_time
def test_a_slow_reader_is_not_cut() -> None:
    configure(write_timeout=0.3)
    size = 20_000_000
    serving = Serving(lambda _: {"body": bytes(size)})

    def read_slowly(client: Client) -> int:
        client.send(request())
        assert client.read_head().status == 200
        total = 0
        while total < size:
            total += len(client.read_exactly(min(500_000, size - total)))
        return total

    with serving.connect(receive_buffer=16 * 1024) as client:
        assert Work(read_slowly, client).finish() == size


@in_time
def test_a_busy_kernel_is_no_fault_of_the_client() -> None:
    configure(header_timeout=0.1, body_timeout=0.1, keep_alive_timeout=0.1)
    serving = Serving(hello)
    with serving.connect() as waiting:
        waiting.send(request("POST", body=b"abc"))
        for _ in range(2):  # no callback runs, and the times pass
            with serving.connect() as idle:
                assert in_thread(idle.is_closed)
        assert Work(waiting.read_reply).finish().text == "3"


@in_time
def test_a_client_that_sends_on_after_a_refusal_is_cut() -> None:
    configure(linger_timeout=0.1)
    with Serving(hello).connect() as client:
        client.send(b"nonsense\r\n\r\n")
        assert in_thread(client.read_reply).status == 400

        def send_for_ever() -> None:
            while True:
                client.send(bytes(1000))

        with pytest.raises(ConnectionError):
            in_thread(send_for_ever)


@pytest.mark.slow
def test_the_default_heartbeat_notices_within_seconds() -> None:
    configure(keep_alive_timeout=0.1)
    with Serving(hello).connect() as client:
        assert Work(client.ask).finish().status == 200
        assert in_thread(client.is_closed)
