"""Bytes in which a proxy might see another request than this server: refused, and the connection
closed, so that what stands behind is never taken for a request.
"""

from __future__ import annotations

import pytest
from helpers import Serving

from httpuv_kernel import Request

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OLD = b"POST / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n"
UPGRADE = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
LAST = b"0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def coding(value: bytes) -> bytes:
    return POST + b"Transfer-Encoding:" + value + b"\r\n\r\n" + LAST


def length(value: bytes) -> bytes:
    return POST + b"Content-Length:" + value + b"\r\n\r\nabc"


def chunk(data: bytes) -> bytes:
    return CHUNKED + data + LAST


def field(data: bytes) -> bytes:
    return POST + data + b"\r\n\r\n"


REFUSED = {
    # Transfer-Encoding
    "a quoted coding": coding(b' "chunked"'),
    "a coding with a parameter": coding(b" chunked;a=b"),
    "a comma before": coding(b" ,chunked"),
    "a comma behind": coding(b" chunked,"),
    "no coding": coding(b""),
    "no coding and a length": field(b"Transfer-Encoding:\r\nContent-Length: 3"),
    "no coding, then one": coding(b"\r\nTransfer-Encoding: chunked"),
    "a coding, then none": coding(b" chunked\r\nTransfer-Encoding:"),
    "VT before": coding(b" \x0bchunked"),
    "FF behind": coding(b" chunked\x0c"),
    "a tab behind": coding(b" chunked \t"),
    "a space for a comma": coding(b" chunked chunked"),
    "chunked, identity": coding(b" chunked, identity"),
    "identity, chunked": coding(b" identity, chunked"),
    "identity in a field before": coding(b" identity\r\nTransfer-Encoding: chunked"),
    "identity and a length": field(b"Transfer-Encoding: identity\r\nContent-Length: 3"),
    "in HTTP/1.0": OLD + b"Transfer-Encoding: chunked\r\n\r\n" + LAST,
    "a folded coding": coding(b"\r\n chunked"),
    "with an upgrade and a length": UPGRADE
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    + LAST,
    "another with an upgrade": UPGRADE + b"Transfer-Encoding: gzip\r\n\r\n" + LAST,
    # Content-Length
    "a length with a line": length(b" 1_0"),
    "a length with a comma": length(b" 3,"),
    "a length with NBSP": length(b" 3\xa0"),
    "a length with VT": length(b" \x0b3"),
    "a second colon": length(b": 3"),
    "2 ** 64": length(b" 18446744073709551616"),
    "2 ** 64 + 3": length(b" 18446744073709551619"),
    "a folded length": length(b"\r\n 3"),
    "a hexadecimal zero": length(b" 0x0"),
    # Chunks
    "CR in an extension": chunk(b"3;a\rb\r\nabc\r\n"),
    "LF ends an extension": chunk(b"3;a\nabc\r\n"),
    "NUL in an extension": chunk(b"3;a\0\r\nabc\r\n"),
    "a space before an extension": chunk(b"3 ;a\r\nabc\r\n"),
    "a tab behind the size": chunk(b"3\t\r\nabc\r\n"),
    "a space before the size": chunk(b" 3\r\nabc\r\n"),
    "a plus before the size": chunk(b"+3\r\nabc\r\n"),
    "a line in the size": chunk(b"1_0\r\nabc\r\n"),
    "LF behind the data": chunk(b"3\r\nabc\n"),
    "CR behind the data": chunk(b"3\r\nabc\r"),
    "something behind the data": chunk(b"3\r\nabcXX"),
    "CR behind the size": chunk(b"3\rabc\r\n"),
    "CR, something, LF": chunk(b"3\rX\nabc\r\n"),
    "2 ** 64 + 3 bytes": chunk(b"10000000000000003\r\nabc\r\n"),
    "LF behind the last": CHUNKED + b"0\n\r\n",
    "LF at the end": CHUNKED + b"0\r\n\n",
    "CR at the end": CHUNKED + b"0\r\n\r",
    # Trailers
    "a coding as a trailer": CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a length as a trailer": CHUNKED + b"0\r\nContent-Length: 44\r\n\r\n",
    "a folded trailer": CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n",
    "LF behind a trailer": CHUNKED + b"0\r\nX: a\nY: b\r\n\r\n",
    "a space in a trailer's name": CHUNKED + b"0\r\nX : a\r\n\r\n",
    # Lines
    "an empty folded line": field(b"X: a\r\n "),
    "CR before the colon": field(b"X\r: a"),
    "two CR": field(b"X: a\r"),
    "two CR at the end": POST + b"\r\r\n",
    "CR behind the version": b"GET / HTTP/1.1\rHost: localhost\r\n\r\n",
    "tabs in the first line": b"GET\t/\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a space behind the version": b"GET / HTTP/1.1 \r\nHost: localhost\r\n\r\n",
    "a space before the method": b" GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL before the method": b"\0GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_is_smuggled(name: str) -> None:
    asked: list[str] = []
    app = {"call": lambda request: asked.append(request.path), "on_headers": _note(asked)}
    answer = Serving(app).exchange(REFUSED[name] + SMUGGLED)
    assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close\r\n" in answer
    assert "/smuggled" not in asked


def _note(asked: list[str]) -> object:
    def on_headers(request: Request) -> None:
        asked.append(request.path)

    return on_headers


# What is a request whoever reads it; it has no body, or that which the app gets.
READ_ALIKE = {
    "a tab before the coding": (coding(b"\tchunked"), b""),
    "a name that is none": (field(b"Transfer_Encoding: chunked\r\nContent_Length: 3"), b""),
    "zeros": (chunk(b"0" * 5000 + b"3\r\nabc\r\n"), b"abc"),
    "a Host as a trailer": (CHUNKED + b"0\r\nHost: evil.example\r\n\r\n", b""),
    "an upgrade with chunks": (
        UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + LAST,
        b"abc",
    ),
}


@pytest.mark.parametrize("name", READ_ALIKE)
def test_what_is_read_alike_everywhere_is_answered(name: str) -> None:
    data, body = READ_ALIKE[name]
    seen: list[tuple[str, str | None, bytes]] = []

    def app(request: Request) -> dict[str, object]:
        seen.append((request.path, request.headers.get("host"), request.body))
        return {"headers": {"Connection": "close"}} if request.path == "/smuggled" else {}

    answer = Serving(app).exchange(data + SMUGGLED)
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert seen == [("/", "localhost", body), ("/smuggled", "localhost", b"")]
