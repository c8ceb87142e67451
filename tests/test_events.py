"""Server-sent events: their encoding, and streams that an app makes of them."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers import (
    Client,
    Closed,
    Serving,
    request,
    run_until_idle,
    serve_until,
)
from kernels import Kernel, kernel_fixtures

from httpuv_kernel.main import exchange
from httpuv_kernel.main.events import (
    HEARTBEAT,
    ServerEvent,
    encode_event,
    event_stream,
)

shared_kernel, kernel, own_kernel = kernel_fixtures()


class Array:
    def tolist(self) -> list[int]:
        return [1, 2]


# -- encoding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("text", "data: text\n\n"),
        ("", "data: \n\n"),
        (" ä", "data:  ä\n\n"),
        (b"bytes", "data: bytes\n\n"),
        (bytearray("ä".encode()), "data: ä\n\n"),
        ("a\nb", "data: a\ndata: b\n\n"),
        ("a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n\n"),
        ("a\n\nid: 7", "data: a\ndata: \ndata: id: 7\n\n"),
        ("a\u2028b\x0bc", "data: a\u2028b\x0bc\n\n"),
        ({"data": "ä"}, 'data: {"data": "ä"}\n\n'),
        ([1, "a\n"], 'data: [1, "a\\n"]\n\n'),
        (None, "data: null\n\n"),
        (True, "data: true\n\n"),
        (1.5, "data: 1.5\n\n"),
        ({"a": Array()}, 'data: {"a": [1, 2]}\n\n'),
        (ServerEvent("x"), "data: x\n\n"),
        (
            ServerEvent({"a": 1}, "tick", 7, 500),
            'event: tick\nid: 7\nretry: 500\ndata: {"a": 1}\n\n',
        ),
        (ServerEvent(retry=0), "retry: 0\n\n"),
        (ServerEvent("x", id=""), "id: \ndata: x\n\n"),
    ],
    ids=repr,
)
def test_an_event(value: object, encoded: str) -> None:
    assert encode_event(value) == encoded.encode()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (ServerEvent("x", event="a\nb"), ValueError),
        (ServerEvent("x", event="a\rb"), ValueError),
        (ServerEvent("x", id="a\nb"), ValueError),
        (ServerEvent("x", id="a\0b"), ValueError),
        (ServerEvent("x", retry=-1), ValueError),
        (ServerEvent("x", retry=1.5), ValueError),  # type: ignore[arg-type]
        (b"\xff", ValueError),
        (float("nan"), ValueError),
        (object(), TypeError),
    ],
    ids=repr,
)
def test_an_event_that_cannot_be_sent(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode_event(value)


@pytest.mark.parametrize("source", ["text", b"bytes", {"a": 1}, 3, None, iter], ids=repr)
def test_a_source_that_is_none(source: Any) -> None:
    with pytest.raises(TypeError, match="an event stream is made of"):
        event_stream(source)


# -- streams ---------------------------------------------------------------------------------------


def plain(values: list[object], log: list[str]) -> Iterator[object]:
    try:
        yield from values
    finally:
        log.append("closed")


async def asynchronous(values: list[object], log: list[str]) -> AsyncIterator[object]:
    try:
        for value in values:
            await asyncio.sleep(0)
            yield value
    finally:
        log.append("closed")


async def waiting(values: list[object], log: list[str]) -> AsyncIterator[object]:
    try:
        for value in values:
            yield value
        await asyncio.Event().wait()
    finally:
        log.append("closed")


kinds = pytest.mark.parametrize("make", [plain, asynchronous], ids=["plain", "async"])


@kinds
def test_a_stream(make: Any) -> None:
    log: list[str] = []
    reply = Serving(lambda _: event_stream(make(["a", {"b": 1}], log))).ask()
    assert reply["content-type"] == "text/event-stream"
    assert (reply["cache-control"], reply["x-accel-buffering"]) == ("no-cache", "no")
    assert not reply.has("content-length")
    assert reply.text == ':\n\ndata: a\n\ndata: {"b": 1}\n\n'
    assert log == ["closed"]


def test_a_list_is_a_stream() -> None:
    assert Serving(lambda _: event_stream(["a"])).ask().text == ":\n\ndata: a\n\n"


def test_its_retry_and_headers() -> None:
    headers = {"X-A": "b", "cache-control": "no-store"}
    reply = Serving(lambda _: event_stream([], retry=250, headers=headers)).ask()
    assert reply.text == "retry: 250\n\n"
    assert (reply["x-a"], reply["cache-control"]) == ("b", "no-store")


def test_the_head_is_sent_before_the_first_event() -> None:
    def client(connection: Client) -> bytes:
        connection.send(request())
        connection.read_head()
        return connection.read_chunk()

    assert Serving(lambda _: event_stream(waiting([], []))).run(client) == HEARTBEAT


def test_a_source_is_closed_when_the_client_leaves() -> None:
    log: list[str] = []

    def client(connection: Client) -> bytes:
        connection.send(request())
        connection.read_head()
        connection.read_chunk()
        chunk = connection.read_chunk()
        connection.reset()
        return chunk

    assert Serving(lambda _: event_stream(waiting(["a"], log))).run(client) == b"data: a\n\n"
    serve_until(lambda: log == ["closed"])


def test_a_silent_stream_has_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_HEARTBEAT_SECONDS", 0.03)
    log: list[str] = []
    served = Serving(lambda _: event_stream(waiting(["a"], log)))

    def client(connection: Client) -> list[bytes]:
        connection.send(request())
        connection.read_head()
        return [connection.read_chunk() for _ in range(4)]

    assert served.run(client) == [HEARTBEAT, b"data: a\n\n", HEARTBEAT, HEARTBEAT]
    serve_until(lambda: log == ["closed"])
    run_until_idle(0.1)  # it would never be idle if the heartbeat went on


@kinds
def test_an_event_that_cannot_be_sent_cuts_the_stream(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[str] = []
    served = Serving(lambda _: event_stream(make(["a", object()], log)))
    with pytest.raises(Closed):
        served.ask()
    serve_until(lambda: log == ["closed"])
    assert "an event's data is text or JSON" in capsys.readouterr().err


@pytest.mark.kernel
def test_an_async_source_in_a_kernel_is_closed(kernel: Kernel) -> None:
    port = kernel.serve(
        """
        from httpuv_kernel.main.events import event_stream
        async def source():
            try:
                while True:
                    yield x
                    await asyncio.sleep(0.01)
            finally:
                print("closed")
        x = 1
        def app(request):
            return event_stream(source())
        """
    )
    connection = http.client.HTTPConnection("127.0.0.1", port.port, timeout=20)
    connection.request("GET", "/")
    response = connection.getresponse()
    kernel.run("x = 2")
    while response.readline() != b"data: 2\n":
        pass
    connection.close()
    response.close()
    port.cell.wait_output("closed")
