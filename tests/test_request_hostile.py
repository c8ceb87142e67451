"""Requests that are made to keep the main thread busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest

from httpuv_kernel import Request

KIB = 1024
MULTIPART = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'


def made(fields: Iterable[tuple[str, str]], body: bytes = b"", query: bytes = b"") -> Request:
    encoded = [(name.encode(), value.encode()) for name, value in fields]
    return Request(("POST", b"/?" + query, "1.1", encoded, ("", ""), ("", "")), body)


def form(request: Request) -> object:
    try:
        return request.form()
    except ValueError as error:  # more than its parser allows
        return error


HOSTILE: dict[str, tuple[Callable[[Request], object], Request]] = {
    "cookies": (lambda r: r.cookies, made([("cookie", "a=b;" * 16 * KIB)])),
    "a quoted cookie": (lambda r: r.cookies, made([("cookie", 'a="' + r"\1" * 30 * KIB + '"')])),
    "quotes in a cookie": (lambda r: r.cookies, made([("cookie", 'a="' + r"\"" * 30 * KIB + '"')])),
    "equal fields": (lambda r: r.headers["a"], made([("a", "")] * 16 * KIB)),
    "fields": (dict, made([(f"a{i}", "") for i in range(8 * KIB)])),
    "parameters of a type": (
        lambda r: r.text,
        made([("content-type", "a/b" + "; c=d" * 12 * KIB)]),
    ),
    "query": (lambda r: r.query, made([], query=b"a=b&" * 16 * KIB)),
    "fields of a form": (
        form,
        made([("content-type", "application/x-www-form-urlencoded")], b"a=b&" * 250 * KIB),
    ),
    "parts of a form": (form, made([("content-type", MULTIPART)], PART * 20 * KIB + b"--x--\r\n")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_read_in_no_time(name: str) -> None:
    read, request = HOSTILE[name]
    begun = time.process_time()
    read(request)
    assert time.process_time() - begun < 1  # where it is not, it is ten


@pytest.mark.parametrize(
    "charset", ["punycode", "PunyCode", "idna", "unicode-escape", "raw_unicode_escape", "undefined"]
)
def test_a_codec_that_is_no_charset(charset: str) -> None:
    request = made([("content-type", f"text/plain; charset={charset}")], b"a" * 1000 * KIB)
    with pytest.raises(LookupError, match="charset"):
        _ = request.text


@pytest.mark.parametrize("charset", ["hex", "zlib", "rot13", "none-such", ""])
def test_a_charset_that_there_is_not(charset: str) -> None:
    request = made([("content-type", f"text/plain; charset={charset}")], b"a")
    with pytest.raises(LookupError):
        _ = request.text
