"""The reading half of a connection alone: what it tells its connection, and when."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from helpers import configure, request
from httptools import HttpParserCallbackError

from httpuv_kernel import HTTPUV
from httpuv_kernel.network.exchange import Exchange
from httpuv_kernel.network.gate import Gate
from httpuv_kernel.network.known import KnownRequests
from httpuv_kernel.network.reading import RequestReader

UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "h2c")]
LENGTH, CHUNKED = [("Content-Length", 3)], [("Transfer-Encoding", "chunked")]


class Sink:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.exchange = Exchange([])

    def head_begun(self) -> None:
        self.told.append("head")

    def request_read(self, exchange: Exchange) -> None:
        self.exchange = exchange
        body = 0 if exchange.body is None else exchange.body.size
        whole = "whole " if exchange.complete else ""
        keep = "keep " if exchange.keep_alive else ""
        status = "" if exchange.refusal is None else f"{exchange.refusal.status} "
        self.told.append(f"request {whole}{keep}{status}{body}")

    def body_read(self, exchange: Exchange) -> None:
        assert exchange is self.exchange
        assert exchange.complete
        body = b"" if exchange.body is None else exchange.take_body()
        self.told.append(f"body {body!r}")

    def body_refused(self, exchange: Exchange) -> None:
        assert exchange is self.exchange
        assert exchange.refusal is not None
        self.told.append(f"refused {exchange.refusal.status}")


@pytest.fixture
def sink() -> Sink:
    return Sink()


def feed(sink: Sink, pieces: Iterable[bytes]) -> list[str]:
    limits = HTTPUV.instance().limits()
    reader = RequestReader(sink, limits, Gate(None), KnownRequests(limits.header_bytes))
    for piece in pieces:
        while piece:
            piece = reader.feed(piece)
    return sink.told


BODIES = {
    "length": (LENGTH, b"abc"),
    "chunks": (CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"),
    "upgrade, length": (LENGTH + UPGRADE, b"abc"),
    "upgrade, chunks": (CHUNKED + UPGRADE, b"3\r\nabc\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "close"])
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("split", ["whole", "head and body", "bytes"])
def test_a_request_is_told_before_its_body(sink: Sink, split: str, name: str, close: bool) -> None:
    """An early answer, and 100, depend on that; whether the connection goes on is known by then."""
    headers, body = BODIES[name]
    if close:
        headers = [*headers, ("Connection", "close")]
    head = request("POST", headers=headers)
    data = head + body
    pieces = {
        "whole": [data],
        "head and body": [head, body],
        "bytes": [data[i : i + 1] for i in range(len(data))],
    }[split]
    request_told = "request 0" if close else "request keep 0"
    assert feed(sink, pieces) == ["head", request_told, "body b'abc'"]


def test_what_is_beside_a_body_counts_for_that_body_alone(sink: Sink) -> None:
    configure(header_bytes=4096)
    head = request("POST", headers=CHUNKED)
    trailers = [head, b"3\r\nabc\r\n0\r\n", b"X: " + b"a" * 3000 + b"\r\n\r\n"]
    extension = [head, b"3;" + b"a" * 3000, b"\r\nabc\r\n0\r\n\r\n"]
    told = ["head", "request keep 0", "body b'abc'"]
    assert feed(sink, [*trailers, *extension]) == told * 2


def test_a_head_is_told_without_waiting_for_its_body(sink: Sink) -> None:
    assert feed(sink, [request("POST", headers=LENGTH)]) == ["head", "request keep 0"]


def test_a_request_without_a_body_is_told_once(sink: Sink) -> None:
    assert feed(sink, [request() + request()]) == ["head", "request whole keep 0"] * 2


def test_after_a_request_that_closes_there_is_none(sink: Sink) -> None:
    data = request(headers=[("Connection", "close")]) + request()
    assert feed(sink, [data, request()]) == ["head", "request whole 0"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (request(host=None), ["request 400 0"]),
        (request("POST", headers=CHUNKED) + b"x\r\n", ["request keep 0", "refused 400"]),
        (request("POST", headers=[("Content-Length", 10**12)]), ["request 413 0"]),
    ],
    ids=["head", "body", "announced body"],
)
def test_a_refusal_is_told_once_and_is_the_last(sink: Sink, data: bytes, told: list[str]) -> None:
    assert feed(sink, [data, request()]) == ["head", *told]


def test_a_head_behind_others_is_counted_from_its_own_begin(sink: Sink) -> None:
    configure(header_bytes=1000)
    data = request(headers=[("X-A", "b" * 800)])
    told = feed(sink, [data * 5 + data[:500], data[500:]])
    assert told == ["head", "request whole keep 0"] * 6


@pytest.mark.parametrize("data", [request(), request("POST", body=b"abc")], ids=["plain", "body"])
def test_an_error_of_our_own_is_not_hidden(data: bytes) -> None:
    class Broken(Sink):
        def request_read(self, exchange: Exchange) -> None:
            raise ZeroDivisionError

    with pytest.raises(HttpParserCallbackError) as caught:
        feed(Broken(), [data])
    assert isinstance(caught.value.__context__, ZeroDivisionError)
