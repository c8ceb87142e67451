"""Requests that are not parsed again: the same as if they were, whoever sent them first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from helpers import configure, request

from httpuv_kernel import HTTPUV
from httpuv_kernel.network.exchange import Exchange
from httpuv_kernel.network.gate import Gate
from httpuv_kernel.network.known import KnownRequests
from httpuv_kernel.network.reading import RequestReader

CLOSE = [("Connection", "close")]
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "h2c")]


class Sink:
    """Keeps the requests, and how many of them were parsed."""

    def __init__(self) -> None:
        self.requests: list[Exchange] = []
        self.parsed = 0

    def head_begun(self) -> None:
        self.parsed += 1

    def request_read(self, exchange: Exchange) -> None:
        self.requests.append(exchange)

    def body_read(self, exchange: Exchange) -> None:
        pass

    def body_refused(self, exchange: Exchange) -> None:
        pass

    def what(self) -> list[tuple[Any, ...]]:
        """All that the connection sees of each."""
        return [
            (
                each.method, each.version, each.http11, each.fields, each.facts,
                each.keep_alive, each.complete, each.body is None, str(each.refusal),
            )
            for each in self.requests
        ]  # fmt: skip


def known_requests() -> KnownRequests:
    return KnownRequests(HTTPUV.instance().limits().header_bytes)


def feed(known: KnownRequests, pieces: Iterable[bytes], gate: Gate | None = None) -> Sink:
    """A connection that sends these."""
    sink = Sink()
    reader = RequestReader(sink, HTTPUV.instance().limits(), gate or Gate(None), known)
    for piece in pieces:
        while piece:
            piece = reader.feed(piece)
    return sink


FIELDS = {
    "none": [],
    "some": [("Accept", "*/*"), ("X-Twice", "a"), ("x-twice", " b ")],
    "close": CLOSE,
    "conditional": [("If-None-Match", '"a"')],
    "no body": [("Content-Length", "0")],
    "continue": [("Expect", "100-continue")],
}
LINES = {
    "path": ("GET", "/a/b%20c"),
    "query": ("GET", "/?a=b&c"),
    "slashes": ("GET", "//host/a"),
    "dots": ("GET", "/../a/./b"),
    "marks": ("GET", "/-._~!$&'()*+,;=:@/?"),
    "head": ("HEAD", "/a"),
    "internal": ("GET", "/__httpuv__/status"),
    "token": ("GET", "/token/a"),
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize(("method", "target"), LINES.values(), ids=LINES)
@pytest.mark.parametrize("token", ["", "token"], ids=["no token", "token"])
@pytest.mark.parametrize("first", ["/token/first", "/__httpuv__/first"], ids=["app", "internal"])
def test_it_is_as_if_it_had_been_parsed(
    method: str, target: str, fields: list[tuple[str, str]], token: str, first: str
) -> None:
    gate, known = Gate(("localhost",), token), known_requests()
    data = request(method, target, fields)
    feed(known, [request(target=first, headers=fields)], gate)
    seen, parsed = feed(known, [data], gate), feed(known_requests(), [data], gate)
    assert seen.what() == parsed.what()
    refused = parsed.requests[0].refusal is not None
    assert (seen.parsed, parsed.parsed) == (int(refused), 1)


OTHERS = {
    "other field": request(target="/b", headers=[("Accept", "*/*")]),
    "other host": request(target="/b", host="127.0.0.1"),
    "other method": request("POST", "/b"),
    "unknown method": request("FOO", "/b"),
    "other version": request(target="/b", version="HTTP/1.0"),
    "unknown version": request(target="/b", version="HTTP/1.2"),
    "absolute target": request(target="http://evil.example/b"),
    "fragment": request(target="/b#c"),
    "space": request(target="/b c"),
    "tab": request(target="/b\tc"),
    "no slash": request(target="b"),
    "8 bits": request(target="/\xe9"),
    "control": request(target="/\x01"),
    "two spaces": request(target=" /b"),
    "line feed only": request(target="/b").replace(b"1.1\r\n", b"1.1\n"),
    "line before it": b"\r\n" + request(target="/b"),
    "more behind it": request(target="/b") + b"GET",
    "not whole": request(target="/b")[:-1],
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_anything_else_is_parsed(data: bytes) -> None:
    known = known_requests()
    feed(known, [request(target="/a")])
    seen, parsed = feed(known, [data]), feed(known_requests(), [data])
    assert seen.what() == parsed.what()
    assert seen.parsed == parsed.parsed > 0


@pytest.mark.parametrize(
    "data",
    [request("POST", body=b"abc"), request() * 2, request()[:-1], request(host=None),
     request() + request(host=None), request(headers=UPGRADE), request("CONNECT") + request()],
    ids=["body", "two", "not whole", "refused", "one, and a refused one", "upgrade", "connect"],
)  # fmt: skip
def test_what_is_not_one_whole_request_is_not_known(data: bytes) -> None:
    known = known_requests()
    feed(known, [data])
    assert feed(known, [data]).parsed > 0


def test_a_request_with_a_body_has_no_template() -> None:
    known = known_requests()
    feed(known, [request(headers=[("Content-Length", 3)]) + b"abc"])
    assert feed(known, [request(target="/b", headers=[("Content-Length", 3)])]).parsed == 1


def test_each_request_of_a_connection_is_known() -> None:
    known = known_requests()
    data = [request("DELETE", f"/{number}") for number in range(3)]
    assert feed(known, data).parsed == 3
    assert feed(known, data).parsed == 0


def test_a_request_that_asks_to_close_is_the_last() -> None:
    known = known_requests()
    data = request(headers=CLOSE)
    for parsed in (1, 0):
        sink = feed(known, [data, data])
        assert (sink.parsed, len(sink.requests)) == (parsed, 1)


def test_a_large_request_is_not_known() -> None:
    known, data = known_requests(), request(target="/" + "a" * 3000)
    feed(known, [data])
    assert feed(known, [data]).parsed == 1


def test_a_large_target_is_not_let_through() -> None:
    configure(header_bytes=1000)
    known = known_requests()
    feed(known, [request()])
    (refused,) = feed(known, [request(target="/" + "a" * 1500)]).requests
    assert refused.refusal is not None
    assert refused.refusal.status == 431


def test_many_small_fields_are_not_let_through() -> None:
    """They count as with a space, which they need not have."""
    configure(header_bytes=400)
    fields = b"a:b\r\n" * 60
    known = known_requests()
    feed(known, [b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % fields])
    data = b"GET /%s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (b"a" * 50, fields)
    assert feed(known, [data]).what() == feed(known_requests(), [data]).what()


def test_few_are_known() -> None:
    known = known_requests()
    for number in range(1000):
        feed(known, [request(target=f"/{number}", headers=[("X-Number", number)])])
    assert 100 < len(known._requests) <= 256
    assert 100 < len(known._templates) <= 256


@pytest.mark.parametrize("target", ["/", "/other"])
def test_it_is_another_each_time(target: str) -> None:
    known = known_requests()
    (first,) = feed(known, [request()]).requests
    (second,) = feed(known, [request(target=target)]).requests
    (third,) = feed(known, [request(target=target)]).requests
    assert len({id(first), id(second), id(third)}) == 3


@pytest.mark.parametrize("target", ["/", "/other"])
def test_what_becomes_of_the_first_does_not_matter(target: str) -> None:
    known = known_requests()
    (first,) = feed(known, [request()]).requests
    first.keep_alive = False
    (second,) = feed(known, [request(target=target)]).requests
    assert second.keep_alive


def test_a_host_that_is_no_longer_let_in() -> None:
    known = known_requests()
    feed(known, [request(host="hub.example")], Gate(("hub.example",)))
    sink = feed(known, [request(target="/b", host="hub.example")], Gate(()))
    assert sink.requests[0].refusal is not None
    assert sink.requests[0].refusal.status == 403
