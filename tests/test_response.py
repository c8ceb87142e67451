"""What an app may return, and what becomes of it on the wire."""

from __future__ import annotations

import array
import math
import pathlib
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from helpers import Reply, Serving, configure, serve_until

from httpuv_kernel import Response, ResponseError
from httpuv_kernel.main.response import FileBody, prepare

TEXT = "compressible " * 200
GZIP = [("Accept-Encoding", "gzip")]


def got(response: object, *args: Any, **kwargs: Any) -> Reply:
    """What the client gets when an app returns this."""
    return Serving(lambda _: response).ask(*args, **kwargs)


# -- kinds of responses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        {"status": 200, "headers": {}, "body": "text"},
        {"status": 200, "body": "text", "headers": None},
        {"body": "text"},
        OrderedDict(body="text"),
        MappingProxyType({"body": "text"}),
        Response(body="text"),
        Response(200, [], b"text"),
        {"status": 200.0, "body": "text"},
    ],
    ids=lambda response: repr(response),
)
def test_a_response(response: object) -> None:
    reply = got(response)
    assert (reply.status, reply.text) == (200, "text")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (None, b""),
        ("", b""),
        ("text", b"text"),
        ("ä€", "ä€".encode()),
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (array.array("H", [1, 2]), array.array("H", [1, 2]).tobytes()),
        ([], b""),
        (["a", b"b", bytearray(b"c"), memoryview(b"d")], b"abcd"),
        (("a", "b"), b"ab"),
        (iter(["a", "b"]), b"ab"),
        (bytes(300_000), bytes(300_000)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_body(body: object, sent: bytes) -> None:
    assert got({"body": body}).body == sent


def test_a_status_and_its_phrase() -> None:
    reply = got({"status": 404})
    assert (reply.status, reply.reason) == (404, "Not Found")


def test_a_status_without_a_phrase() -> None:
    reply = got({"status": 299})
    assert (reply.status, reply.reason) == (299, "")


def test_a_reason_of_the_app() -> None:
    assert got({"status": 200, "reason": "Fine"}).reason == "Fine"


@pytest.mark.parametrize(
    ("headers", "name", "values"),
    [
        ({"X-A": "b"}, "x-a", ["b"]),
        ({"X-A": 1}, "x-a", ["1"]),
        ({"X-A": 1.5}, "x-a", ["1.5"]),
        ({"X-A": b"raw"}, "x-a", ["raw"]),
        ({"X-A": ""}, "x-a", [""]),
        ({"X-A": "  b\t"}, "x-a", ["b"]),
        ({"X-A": ["b", "c"]}, "x-a", ["b", "c"]),
        ({"X-A": ("b", 2)}, "x-a", ["b", "2"]),
        ({"X-A": []}, "x-a", []),
        ([("X-A", "b"), ("X-A", "c")], "x-a", ["b", "c"]),
        ([["X-A", "b"]], "x-a", ["b"]),
        ({"Set-Cookie": ["a=1", "b=2"]}, "set-cookie", ["a=1", "b=2"]),
        ({"Date": "long ago"}, "date", ["long ago"]),
        ({"Content-Length": 999}, "content-length", ["4"]),
        ({"Transfer-Encoding": "chunked"}, "transfer-encoding", []),
        ({"Keep-Alive": "timeout=5"}, "keep-alive", []),
        ({"Connection": "close"}, "connection", ["close"]),
        ({"Connection": "keep-alive"}, "connection", []),
    ],
    ids=repr,
)
def test_headers(headers: object, name: str, values: list[str]) -> None:
    reply = got({"headers": headers, "body": "text"})
    assert reply.all(name) == values
    assert reply.text == "text"


def test_a_header_is_sent_as_utf8() -> None:
    (value,) = got({"headers": {"X-A": "ä"}}).all("x-a")
    assert value.encode("latin-1").decode() == "ä"


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<p>report")
    return path


@pytest.mark.parametrize("kind", ["str", "path", "bare path", "bytes"])
def test_a_file(report: Path, kind: str) -> None:
    bodies: dict[str, object] = {
        "str": {"file": str(report)},
        "path": {"file": report, "owned": False},
        "bare path": report,
        "bytes": {"file": bytes(report)},
    }
    reply = got({"body": bodies[kind]})
    assert reply.text == "<p>report"
    assert reply["content-length"] == "9"
    assert reply["content-type"].startswith("text/html")
    assert report.exists()


def test_a_relative_file_is_found_where_the_app_stands(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(report.parent)
    assert got({"body": pathlib.Path("report.html")}).text == "<p>report"


def test_a_file_keeps_the_app_s_content_type(report: Path) -> None:
    reply = got({"headers": {"content-type": "text/x-own"}, "body": report})
    assert reply.all("content-type") == ["text/x-own"]


def test_an_owned_file_is_removed(report: Path) -> None:
    assert got({"body": {"file": report, "owned": True}}).text == "<p>report"
    serve_until(lambda: not report.exists())


def test_an_owned_file_is_removed_after_head(report: Path) -> None:
    reply = got({"body": {"file": report, "owned": True}}, "HEAD")
    assert (reply.body, reply["content-length"]) == (b"", "9")
    serve_until(lambda: not report.exists())


def test_an_owned_file_is_removed_when_the_client_left(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    serving = Serving(lambda _: {"body": {"file": path, "owned": True}})

    serving.run(
        lambda client: (
            client.send(b"GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n"),
            client.read_head(),
        )
    )
    serve_until(lambda: not path.exists())


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    reply = got({"body": tmp_path / "empty"})
    assert (reply.status, reply["content-length"]) == (200, "0")


def test_a_large_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    (tmp_path / "large").write_bytes(content)
    assert got({"body": tmp_path / "large"}).body == content


def test_a_file_without_a_length_on_http10(report: Path) -> None:
    reply = got({"body": report}, version="HTTP/1.0")
    assert (reply.text, reply["content-length"]) == ("<p>report", "9")


# -- what cannot be sent ---------------------------------------------------------------------------


class Nonsense:
    def __repr__(self) -> str:
        return "<some nonsense>"


REFUSED: list[tuple[object, str]] = [
    (None, "None"),
    (17, "17"),
    ("just text", "just text"),
    (b"bytes", "bytes"),
    (["a", "list"], "list"),
    ((200, {}, "text"), "text"),
    (Nonsense(), "<some nonsense>"),
    (True, "True"),
    (lambda: None, "function"),
    ({"stauts": 200}, "'stauts'"),
    ({200: "text"}, "200"),
    ({"status": 99}, "99"),
    ({"status": 100}, "100"),
    ({"status": 199}, "199"),
    ({"status": 600}, "600"),
    ({"status": -1}, "-1"),
    ({"status": 0}, "0"),
    ({"status": None}, "None"),
    ({"status": "200"}, "'200'"),
    ({"status": True}, "True"),
    ({"status": 200.5}, "200.5"),
    ({"status": math.nan}, "nan"),
    ({"status": 10**30}, "1" + "0" * 30),
    ({"status": []}, "[]"),
    ({"reason": "a\r\nX-Injected: b"}, "X-Injected"),
    ({"reason": "a\nb"}, "a\\nb"),
    ({"reason": "a\0b"}, "a\\x00b"),
    ({"reason": 5}, "5"),
    ({"headers": {"X-A": "a\r\nX-Injected: b"}}, "X-Injected"),
    ({"headers": {"X-A": "a\nX-Injected: b"}}, "X-Injected"),
    ({"headers": {"X-A": "a\rX-Injected: b"}}, "X-Injected"),
    ({"headers": {"X-A": "a\0"}}, "X-A"),
    ({"headers": {"X-A": "a\x7f"}}, "X-A"),
    ({"headers": {"X-A": b"a\r\nX-Injected: b"}}, "X-Injected"),
    ({"headers": {"X-A": ["a", "b\r\nX-Injected: c"]}}, "X-Injected"),
    ({"headers": {"X-A\r\nX-Injected": "a"}}, "X-Injected"),
    ({"headers": {"X A": "a"}}, "X A"),
    ({"headers": {"X-A:": "a"}}, "X-A:"),
    ({"headers": {"": "a"}}, "''"),
    ({"headers": {"X-Ä": "a"}}, "X-Ä"),
    ({"headers": {"X-A": None}}, "X-A"),
    ({"headers": {"X-A": True}}, "X-A"),
    ({"headers": {"X-A": {}}}, "X-A"),
    ({"headers": {"X-A": [["a"]]}}, "X-A"),
    ({"headers": {5: "a"}}, "5"),
    ({"headers": "X-A: b"}, "X"),
    ({"headers": ["X-A"]}, "X-A"),
    ({"headers": [("X-A", "b", "c")]}, "X-A"),
    ({"headers": 5}, "5"),
    ({"headers": {"Content-Length": "many"}}, "many"),
    ({"headers": {"Content-Length": -1}}, "-1"),
    ({"body": 5}, "5"),
    ({"body": Nonsense()}, "<some nonsense>"),
    ({"body": {}}, "{}"),
    ({"body": {"path": "a"}}, "path"),
    ({"body": {"file": "a", "owner": True}}, "owner"),
    ({"body": {"file": None}}, "None"),
    ({"body": {"file": "/no/such/file"}}, "/no/such/file"),
    ({"body": Path("/no/such/file")}, "/no/such/file"),
    ({"body": Path("/")}, "/"),
    ({"body": Path("/dev/null")}, "/dev/null"),
    ({"body": "\ud800"}, "surrogates"),
    ({"headers": {"X-A": "\ud800"}}, "surrogates"),
]


@pytest.mark.parametrize(("response", "named"), REFUSED, ids=[repr(r)[:50] for r, _ in REFUSED])
def test_what_cannot_be_sent_is_a_500(
    response: object, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serving = Serving(lambda _: response)
    raw = serving.exchange(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert raw.endswith(b"\r\n\r\n500 Internal Server Error\n")
    assert b"Injected" not in raw
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(("response", "named"), REFUSED, ids=[repr(r)[:50] for r, _ in REFUSED])
def test_what_cannot_be_sent_is_a_response_error(response: object, named: str) -> None:
    with pytest.raises(ResponseError) as caught:
        prepare(response, "call")
    assert str(caught.value).startswith("call returned ")
    assert named in str(caught.value)


def test_a_long_value_is_named_in_short() -> None:
    with pytest.raises(ResponseError) as caught:
        prepare("x" * 10_000, "call")
    assert len(str(caught.value)) < 400


def test_an_error_says_what_a_response_is() -> None:
    with pytest.raises(ResponseError, match="'status': 200"):
        prepare(None, "call")


def test_prepare_leaves_the_app_s_headers_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    headers = {"X-A": "b"}
    head, body = prepare({"headers": headers, "body": tmp_path / "a.txt"}, "call")
    assert headers == {"X-A": "b"}
    assert isinstance(body, FileBody)
    assert b"Content-Type: text/plain" in head.block


# -- gzip ------------------------------------------------------------------------------------------


def zipped(sent: list[tuple[str, str]], **response: object) -> Reply:
    response.setdefault("headers", {"Content-Type": "text/plain"})
    return got({"body": TEXT, **response}, headers=sent)


@pytest.mark.parametrize(
    "accepted",
    ["gzip", "GZIP", "deflate, gzip", "gzip;q=0.5", "gzip; q=1", "*", "br, *;q=0.1", "x-gzip"],
)
def test_text_is_compressed_for_who_accepts_it(accepted: str) -> None:
    reply = zipped([("Accept-Encoding", accepted)])
    assert reply["content-encoding"] == "gzip"
    assert reply.unzipped == TEXT.encode()
    assert len(reply.body) < len(TEXT)


@pytest.mark.parametrize(
    "accepted", [None, "", "identity", "br", "gzip;q=0", "gzip; Q=0.000", "*, gzip;q=0", "*;q=0"]
)
def test_text_is_not_compressed_for_who_does_not(accepted: str | None) -> None:
    reply = zipped([] if accepted is None else [("Accept-Encoding", accepted)])
    assert not reply.has("content-encoding")
    assert reply.text == TEXT


@pytest.mark.parametrize("headers", [GZIP, []], ids=["zipped", "plain"])
def test_a_body_that_may_be_compressed_varies(headers: list[tuple[str, str]]) -> None:
    assert zipped(headers)["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html; charset=utf-8",
        "text/csv",
        "application/json",
        "APPLICATION/JSON",
        "application/javascript",
        "application/geo+json",
        "image/svg+xml",
        "application/wasm",
    ],
)
def test_types_that_are_compressed(content_type: str) -> None:
    assert zipped(GZIP, headers={"Content-Type": content_type}).has("content-encoding")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "image/png"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "text/event-stream"},
        {"Content-Type": "text/plain", "Content-Encoding": "br"},
        {"Content-Type": "text/plain", "Content-Encoding": "identity"},
        {"Content-Type": "text/plain", "Cache-Control": "public, no-transform"},
    ],
    ids=repr,
)
def test_what_is_not_compressed(headers: dict[str, str]) -> None:
    reply = zipped(GZIP, headers=headers)
    assert reply.text == TEXT
    assert reply.all("content-encoding") == [v for k, v in headers.items() if "Enc" in k]


@pytest.mark.parametrize(("size", "compressed"), [(1023, False), (1024, True)])
def test_small_bodies_are_not_compressed(size: int, compressed: bool) -> None:
    assert zipped(GZIP, body="a" * size).has("content-encoding") == compressed


def test_from_which_size_bodies_are_compressed_can_be_set() -> None:
    configure(gzip_bytes=10)
    assert zipped(GZIP, body="a" * 10).has("content-encoding")


def test_a_compressed_body_has_a_weak_etag() -> None:
    headers = {"Content-Type": "text/plain", "ETag": '"a"'}
    assert zipped(GZIP, headers=headers)["etag"] == 'W/"a"'


@pytest.mark.parametrize("name", ["ETag", "etag", "Etag"])
def test_a_weak_etag_whatever_the_name_s_case(name: str) -> None:
    headers = {"Content-Type": "text/plain", name: '"a"'}
    assert zipped(GZIP, headers=headers)["etag"] == 'W/"a"'


def test_a_weak_etag_stays_as_it_is() -> None:
    headers = {"Content-Type": "text/plain", "ETag": 'W/"a"'}
    assert zipped(GZIP, headers=headers)["etag"] == 'W/"a"'


def test_an_uncompressed_body_keeps_its_etag() -> None:
    headers = {"Content-Type": "text/plain", "ETag": '"a"'}
    assert zipped([], headers=headers)["etag"] == '"a"'


def test_vary_of_the_app_stays() -> None:
    headers = {"Content-Type": "text/plain", "Vary": "Cookie"}
    assert sorted(zipped(GZIP, headers=headers).all("vary")) == ["Accept-Encoding", "Cookie"]


@pytest.mark.parametrize("status", [204, 206, 304])
def test_statuses_that_are_not_compressed(status: int) -> None:
    assert not zipped(GZIP, status=status).has("content-encoding")


def test_a_compressed_body_for_http10() -> None:
    response = {"headers": {"Content-Type": "text/plain"}, "body": TEXT}
    reply = got(response, version="HTTP/1.0", headers=GZIP)
    assert reply.unzipped == TEXT.encode()


def test_a_compressed_response_to_head_has_no_body() -> None:
    serving = Serving(lambda _: {"headers": {"Content-Type": "text/plain"}, "body": TEXT})

    def statuses(client: Any) -> list[int]:
        return [client.ask("HEAD", headers=GZIP).status, client.ask().status]

    assert serving.run(statuses) == [200, 200]


def test_a_compressed_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    assert got({"body": tmp_path / "a.txt"}, headers=GZIP).unzipped == TEXT.encode()


def test_many_different_heads_do_not_stay_in_memory() -> None:
    from httpuv_kernel import fields

    for i in range(2 * fields._CACHE_SIZE):
        prepare({"headers": {"X-A": str(i)}, "body": ""}, "call")
    assert len(fields._CACHE) <= fields._CACHE_SIZE
