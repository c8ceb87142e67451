"""Status lines and header fields as pure tables."""

from __future__ import annotations

import math
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import pytest

from httpuv_kernel import fields
from httpuv_kernel.fields import Headers, ResponseHead, encode_field, response_head, status_line

# -- status lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [status for status in HTTPStatus if status >= 200])
def test_the_standard_phrase(status: HTTPStatus) -> None:
    assert status_line(int(status)) == b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (299, None, b"HTTP/1.1 299 \r\n"),
        (599, None, b"HTTP/1.1 599 \r\n"),
        (200, "Fine", b"HTTP/1.1 200 Fine\r\n"),
        (200, "", b"HTTP/1.1 200 \r\n"),
        (299, "Sch\xf6n", "HTTP/1.1 299 Schön\r\n".encode()),
    ],
)
def test_other_phrases(status: int, reason: str | None, line: bytes) -> None:
    assert status_line(status, reason) == line


@pytest.mark.parametrize(
    "status", [-1, 0, 99, 100, 101, 199, 600, 1000, True, 200.0, "200", None, math.nan], ids=repr
)
def test_a_status_that_is_none(status: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        status_line(status, "reason")


@pytest.mark.parametrize("reason", ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\x7fb", 5, b"a"], ids=repr)
def test_a_reason_that_is_none(reason: Any) -> None:
    with pytest.raises(ValueError, match="reason"):
        status_line(200, reason)


# -- one field -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("X-A", "b", (b"X-A", b"b")),
        ("x", "", (b"x", b"")),
        ("X", " \tb c\t ", (b"X", b"b c")),
        ("X", "a\tb", (b"X", b"a\tb")),
        ("X", "ä", (b"X", "ä".encode())),
        ("X", b"\xe4", (b"X", b"\xe4")),
        ("X", 5, (b"X", b"5")),
        ("X", -1.5, (b"X", b"-1.5")),
        ("!#$%&'*+-.^_`|~", "b", (b"!#$%&'*+-.^_`|~", b"b")),
    ],
    ids=repr,
)
def test_a_field(name: str, value: Any, field: tuple[bytes, bytes]) -> None:
    assert encode_field(name, value) == field


@pytest.mark.parametrize(
    "name", ["", "a b", "a:", "a\r\n", "a\0", "a\t", "ä", "a(b", "a/b", "a\n", "[a]"], ids=repr
)
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="header name"):
        encode_field(name, "b")


@pytest.mark.parametrize("name", [None, 5, b"a", ("a",)], ids=repr)
def test_a_name_of_another_type(name: Any) -> None:
    with pytest.raises(TypeError, match="header name"):
        encode_field(name, "b")


@pytest.mark.parametrize("control", [*range(0x00, 0x09), *range(0x0A, 0x20), 0x7F], ids=hex)
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_control_character(control: int, kind: type) -> None:
    value = f"a{chr(control)}b"
    with pytest.raises(ValueError, match="control character"):
        encode_field("X", value if kind is str else value.encode())


@pytest.mark.parametrize("value", ["a\r\n", "\r\na", "a\n", "\n", "\0"], ids=repr)
def test_a_control_character_at_an_end(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        encode_field("X", value)


@pytest.mark.parametrize("value", [None, True, [], {}, object(), 1j], ids=repr)
def test_a_value_of_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match="'X'"):
        encode_field("X", value)


# -- a whole head ----------------------------------------------------------------------------------

PLAIN = ResponseHead(200, b"HTTP/1.1 200 OK\r\n", b"", False, False, False, None)


@pytest.mark.parametrize(
    ("headers", "changed"),
    [
        (None, {}),
        ({}, {}),
        ([], {}),
        ({"X-A": "b"}, {"block": b"X-A: b\r\n"}),
        ({"X-A": "b", "x-a": "c"}, {"block": b"X-A: b\r\nx-a: c\r\n"}),
        ({"X-A": ["b", 1]}, {"block": b"X-A: b\r\nX-A: 1\r\n"}),
        ([("X-A", "b"), ("X-A", "c")], {"block": b"X-A: b\r\nX-A: c\r\n"}),
        (MappingProxyType({"X-A": 1}), {"block": b"X-A: 1\r\n"}),
        (iter([("X-A", "b")]), {"block": b"X-A: b\r\n"}),
        ({"Connection": "close"}, {"close": True}),
        ({"connection": "X-A, Close"}, {"close": True}),
        ({"Connection": "keep-alive"}, {}),
        ({"Keep-Alive": "5", "Transfer-Encoding": "chunked", "Upgrade": "h2c"}, {}),
        ({"Content-Length": "12"}, {"length": 12}),
        ({"Content-Length": 12}, {"length": 12}),
        ({"Date": "now"}, {"block": b"Date: now\r\n", "dated": True}),
        (
            {"Content-Type": "text/html"},
            {"block": b"Content-Type: text/html\r\n", "compressible": True},
        ),
        ({"content-type": "image/png"}, {"block": b"content-type: image/png\r\n"}),
        (
            {"Content-Type": "text/html", "Content-Encoding": "br"},
            {"block": b"Content-Type: text/html\r\nContent-Encoding: br\r\n"},
        ),
        (
            {"Cache-Control": "No-Transform", "Content-Type": "text/html"},
            {"block": b"Cache-Control: No-Transform\r\nContent-Type: text/html\r\n"},
        ),
    ],
    ids=repr,
)
def test_a_head(headers: Any, changed: dict[str, Any]) -> None:
    assert response_head(200, headers, None) == PLAIN._replace(**changed)


@pytest.mark.parametrize("length", ["", "-1", "1.5", "a", "1,1", "0x1", "²"], ids=repr)
def test_a_length_that_is_none(length: str) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        response_head(200, {"Content-Length": length}, None)


def test_equal_heads_are_encoded_once() -> None:
    headers = {"X-Once": "a"}
    assert response_head(200, headers, None) is response_head(200, dict(headers), None)


def test_what_is_equal_to_an_int_but_none_is_refused() -> None:
    response_head(200, {"X-Equal": "a"}, None)
    with pytest.raises(ValueError, match=r"200\.0"):
        response_head(200.0, {"X-Equal": "a"}, None)  # type: ignore[arg-type]


def test_a_changed_mapping_is_looked_at_anew() -> None:
    headers = {"X-Changed": "a"}
    response_head(200, headers, None)
    headers["X-Changed"] = "b"
    assert response_head(200, headers, None).block == b"X-Changed: b\r\n"


def test_an_unhashable_status_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[\]"):
        response_head([], {}, None)  # type: ignore[arg-type]


def test_what_was_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="control character"):
            response_head(200, {"X-A": "a\r\nb"}, None)


def test_the_memory_of_heads_is_bounded() -> None:
    for i in range(2 * fields._CACHE_SIZE):
        response_head(200, {"X-I": str(i)}, None)
    assert len(fields._CACHE) <= fields._CACHE_SIZE


@pytest.mark.parametrize("status", [HTTPStatus.ACCEPTED, 202.0], ids=repr)
def test_a_status_that_only_equals_an_integer_is_not_remembered(status: object) -> None:
    """An enum's member, for one, could not cross the bridge."""
    with suppress(TypeError, ValueError):
        response_head(status, None, None)  # type: ignore[arg-type]
    assert type(response_head(202, None, None).status) is int


# -- the headers of a request ----------------------------------------------------------------------

HEADERS = Headers([(b"host", b"a"), (b"accept", b"b"), (b"accept", b"c"), (b"x-\xe4", b"\xe4")])


def test_any_case() -> None:
    assert HEADERS["Host"] == HEADERS["HOST"] == HEADERS["host"] == "a"


def test_repeated_ones_are_joined() -> None:
    assert HEADERS["accept"] == "b, c"
    assert HEADERS.get_all("Accept") == ["b", "c"]


def test_it_is_a_mapping_in_the_order_of_the_request() -> None:
    assert list(HEADERS) == ["host", "accept", "x-\xe4"]
    assert len(HEADERS) == 3
    assert HEADERS.get("nothing") is None
    assert HEADERS.get("nothing", "else") == "else"


def test_bytes_are_latin1() -> None:
    assert HEADERS["x-\xe4"] == "\xe4"


@pytest.mark.parametrize("name", ["nothing", "", "h\u2603"])
def test_a_missing_one(name: str) -> None:
    assert name not in HEADERS
    assert HEADERS.get_all(name) == []
    with pytest.raises(KeyError):
        HEADERS[name]


def test_what_is_no_name_is_not_in() -> None:
    assert 5 not in HEADERS
    assert b"host" not in HEADERS


def test_equality_is_that_of_mappings() -> None:
    assert Headers([(b"a", b"b")]) == {"a": "b"}


def test_repr() -> None:
    assert repr(Headers([(b"a", b"b")])) == "Headers({'a': 'b'})"
