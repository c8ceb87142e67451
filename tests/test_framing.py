"""Decisions about messages as pure tables: facts of a request, framing of a response, hosts."""

from __future__ import annotations

import gzip
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from httpuv_kernel.network import framing
from httpuv_kernel.network.framing import (
    BodyEncoder,
    RequestRefused,
    accepted_codings,
    accepts_gzip,
    date_line,
    error_response,
    examine_request,
)
from httpuv_kernel.network.gate import Gate

Fields = list[tuple[bytes, bytes]]
HOST = (b"host", b"localhost")


def examined(
    *fields: tuple[bytes, bytes],
    method: bytes = b"GET",
    target: bytes = b"/",
    version: str = "1.1",
) -> Any:
    return examine_request(method, target, version, [HOST, *fields])


# -- facts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "has_body", "length"),
    [
        ([], False, None),
        ([(b"content-length", b"0")], False, 0),
        ([(b"content-length", b"3")], True, 3),
        ([(b"transfer-encoding", b"chunked")], True, None),
        ([(b"transfer-encoding", b"CHUNKED")], True, None),
    ],
)
def test_whether_there_is_a_body(fields: Fields, has_body: bool, length: int | None) -> None:
    facts = examined(*fields, method=b"POST")
    assert (facts.has_body, facts.content_length) == (has_body, length)


@pytest.mark.parametrize(
    ("version", "value", "expects"),
    [
        ("1.1", b"100-continue", True),
        ("1.1", b"100-Continue", True),
        ("1.0", b"100-continue", False),
    ],
)
def test_expectations(version: str, value: bytes, expects: bool) -> None:
    assert examined((b"expect", value), version=version).expects_continue is expects


def test_an_upgrade() -> None:
    assert examined((b"upgrade", b"h2c")).upgrade == b"h2c"
    assert examined().upgrade is None


@pytest.mark.parametrize(
    ("method", "target", "path", "host"),
    [
        (b"GET", b"/a?b", b"/a?b", b"localhost"),
        (b"GET", b"//a/b", b"//a/b", b"localhost"),
        (b"OPTIONS", b"*", b"*", b"localhost"),
        (b"GET", b"http://other/a?b", b"/a?b", b"other"),
        (b"GET", b"HTTPS://other:1/a", b"/a", b"other:1"),
        (b"GET", b"http://other", b"/", b"other"),
        (b"GET", b"http://other?b", b"/?b", b"other"),
        (b"GET", b"http://[::1]:1/", b"/", b"[::1]:1"),
    ],
)
def test_targets(method: bytes, target: bytes, path: bytes, host: bytes) -> None:
    facts = examined(method=method, target=target)
    assert (facts.target, facts.host) == (path, host)


def test_the_authority_of_a_target_replaces_host() -> None:
    fields = [(b"x", b"y"), HOST]
    examine_request(b"GET", b"http://other/", "1.1", fields)
    assert sorted(fields) == [(b"host", b"other"), (b"x", b"y")]


def test_http10_needs_no_host() -> None:
    assert examine_request(b"GET", b"/", "1.0", []).host is None


@pytest.mark.parametrize(
    ("fields", "changed", "status"),
    [
        ([HOST], {}, 400),
        ([(b"transfer-encoding", b"gzip")], {}, 501),
        ([(b"transfer-encoding", b"gzip, chunked")], {}, 501),
        ([(b"transfer-encoding", b"chunked")], {"version": "1.0"}, 400),
        ([(b"expect", b"something")], {}, 417),
        ([], {"version": "2.0"}, 505),
        ([], {"version": "0.9"}, 505),
        ([], {"target": b"a"}, 400),
        ([], {"target": b""}, 400),
        ([], {"target": b"*"}, 400),
        ([], {"target": b"/a#b"}, 400),
        ([], {"target": b"ftp://a/"}, 400),
        ([], {"target": b"http://"}, 400),
        ([], {"target": b"http:///a"}, 400),
        ([], {"method": b"CONNECT", "target": b"a:1"}, 501),
    ],
)
def test_refusals(fields: Fields, changed: dict[str, Any], status: int) -> None:
    with pytest.raises(RequestRefused) as caught:
        examined(*fields, **changed)
    assert caught.value.status == status
    assert "\n" not in caught.value.text


def test_http11_needs_a_host() -> None:
    with pytest.raises(RequestRefused, match="Host"):
        examine_request(b"GET", b"/", "1.1", [])


# -- hosts -----------------------------------------------------------------------------------------

HOSTS = [
    (b"localhost", None),
    (b"LOCALHOST", None),
    (b"localhost.", None),
    (b"localhost:80", None),
    (b"localhost:", None),
    (b"a.localhost", None),
    (b"127.0.0.1", None),
    (b"127.0.0.1:65535", None),
    (b"10.0.0.1", None),
    (b"[::1]", None),
    (b"[::1]:80", None),
    (b"[2001:db8::1]", None),
    (b"[fe80::1%25eth0]:80", None),
    (b"hub.example", None),
    (b"HUB.example.", None),
    (b"hub.example:80", None),
    (b"a.proxy.example", None),
    (b"a.b.proxy.example", None),
    (b"proxy.example", 403),
    (b"xproxy.example", 403),
    (b"a.hub.example", 403),
    (b"evil.example", 403),
    (b"localhost.evil.example", 403),
    (b"evillocalhost", 403),
    (b"127.0.0.1.evil.example", 403),
    (b"0x7f000001", 403),
    (b"2130706433", 403),
    (b"127.1", 403),
    (b"localhost..", None),
    (b".localhost", None),
    (b"", 400),
    (b" ", 400),
    (b":80", 400),
    (b"a b", 400),
    (b"a/b", 400),
    (b"a?b", 400),
    (b"me@localhost", 400),
    (b"localhost:http", 400),
    (b"localhost:80:80", 400),
    (b"localhost:123456", 400),
    (b"[::1", 400),
    (b"::1", 400),
    (b"[localhost]", 400),
    (b"localhost\0", 400),
    (b"localhost\n", 400),
    (b"loc\xe4l", 400),
]


@pytest.mark.parametrize(("host", "status"), HOSTS, ids=[repr(host) for host, _ in HOSTS])
def test_hosts_on_a_loopback_address(host: bytes, status: int | None) -> None:
    gate = Gate(("hub.example", ".proxy.example"))
    for _ in range(2):  # the second time from its memory
        refusal = gate.refusal(host)
        assert (refusal and refusal[0]) == status


@pytest.mark.parametrize(("host", "status"), HOSTS, ids=[repr(host) for host, _ in HOSTS])
def test_hosts_elsewhere(host: bytes, status: int | None) -> None:
    refusal = Gate(None).refusal(host)
    assert (refusal and refusal[0]) == (400 if status == 400 else None)


def test_the_gate_s_memory_is_bounded() -> None:
    gate = Gate(())
    for i in range(10_000):
        gate.refusal(b"host%d.example" % i)
    assert len(gate._verdicts) <= 256
    gate.refusal(b"a" * 257)
    assert max(map(len, gate._verdicts)) <= 256


@pytest.mark.parametrize("host", [None, b"", b"a b", b"me@hub.example"])
def test_what_is_no_host_cannot_be_allowed(host: bytes | None) -> None:
    gate = Gate(())
    gate.allow_host(host)
    for refused in (b"hub.example", host or b""):
        assert gate.refusal(refused) is not None


@pytest.mark.parametrize("host", [b"Hub.Example:8888", b"hub.example."])
def test_a_host_that_is_allowed_is_served_from_then_on(host: bytes) -> None:
    gate = Gate(())
    assert gate.refusal(b"hub.example") is not None
    gate.allow_host(host)
    assert gate.refusal(b"hub.example") is None
    assert gate.refusal(b"evil.example") is not None


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        (None, True),
        (b"http://me.example:80", True),
        (b"https://Me.Example:80/", True),
        (b"https://hub.example", True),
        (b"HTTPS://HUB.EXAMPLE", True),
        (b"http://hub.example", False),
        (b"ftp://me.example:80", False),
        (b"me.example:80", False),
        (b"http://me.example", False),
        (b"http://me.example:80.evil.example", False),
        (b"null", False),
        (b"", False),
    ],
)
def test_the_origins_of_sockets(origin: bytes | None, passes: bool) -> None:
    gate = Gate((), origins=("https://Hub.example/",))
    reason = gate.origin_refusal(origin, b"ME.example:80")
    assert (reason is None) is passes
    assert passes or "allowed_origins" in str(reason)
    assert Gate((), origins=("*",)).origin_refusal(origin, b"") is None


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        (b"/secret", b""),
        (b"/secret?a", b"?a"),
        (b"/secret/", b"/"),
        (b"/secret/a/b?c", b"/a/b?c"),
        (b"/secret//a", b"//a"),
        (b"/secret/secret/", b"/secret/"),
        (b"/", None),
        (b"/secre", None),
        (b"/secrets/", None),
        (b"/Secret/", None),
        (b"/%73ecret/", None),
        (b"//secret/", None),
        (b"/a/secret/", None),
        (b"*", None),
    ],
)
def test_targets_below_a_token(target: bytes, rest: bytes | None) -> None:
    assert Gate((), "secret").without_token(target) == rest


# -- codings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], set()),
        ([b""], set()),
        ([b"gzip"], {b"gzip"}),
        ([b"GZip"], {b"gzip"}),
        ([b"x-gzip"], {b"gzip"}),
        ([b"gzip, br, zstd"], {b"gzip", b"br", b"zstd"}),
        ([b"gzip", b"br"], {b"gzip", b"br"}),
        ([b"gzip;q=0"], set()),
        ([b"gzip;q=0.0"], set()),
        ([b"gzip ; q = 0.000"], set()),
        ([b"gzip;q=0.001"], {b"gzip"}),
        ([b"gzip;q=1"], {b"gzip"}),
        ([b"*"], {b"gzip", b"br", b"zstd"}),
        ([b"*;q=0"], set()),
        ([b"gzip;q=0, *"], {b"br", b"zstd"}),
        ([b"gzip, *;q=0"], {b"gzip"}),
        ([b"identity, deflate"], set()),
        ([b"gzipped"], set()),
        ([b",,gzip,"], {b"gzip"}),
    ],
)
def test_accepted_codings(values: list[bytes], codings: set[bytes]) -> None:
    fields = [(b"accept-encoding", value) for value in values]
    assert accepted_codings(fields) == codings
    assert accepts_gzip(fields) == (b"gzip" in codings)


# -- errors and dates ------------------------------------------------------------------------------


def test_an_error_is_one_line_and_closes() -> None:
    head, _, body = error_response(400, "why").partition(b"\r\n\r\n")
    assert body == b"400 Bad Request: why\n"
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in head
    assert b"Content-Length: 21" in head
    assert b"Retry-After" not in head


def test_an_error_without_a_text() -> None:
    assert error_response(404, "").endswith(b"\r\n\r\n404 Not Found\n")


def test_an_error_to_head_has_a_head_only() -> None:
    assert error_response(400, "why", head_only=True).endswith(b"Connection: close\r\n\r\n")


def test_a_503_says_when_to_come_back() -> None:
    assert re.search(rb"\r\nRetry-After: [0-9]+\r\n", error_response(503, "busy"))


def test_the_date_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000.25
    monkeypatch.setattr(time, "time", lambda: now)
    first = date_line()
    now += 0.5
    assert date_line() is first
    now += 0.5
    second = date_line()
    dates = [parsedate_to_datetime(line[6:-2].decode()).timestamp() for line in (first, second)]
    assert dates == [1_700_000_000, 1_700_000_001]
    assert first.endswith(b" GMT\r\n")
    monkeypatch.setattr(framing, "_date", (0, b""))


# -- bodies ----------------------------------------------------------------------------------------


def encoded(pieces: list[bytes], **options: Any) -> tuple[bytes, bytes, bool]:
    """The framing field, the body, and whether it ends with the connection."""
    settings: dict[str, Any] = {"bodiless": False, "length": None, "http11": True, "gzip": False}
    encoder = BodyEncoder(**{**settings, **options})
    head = encoder.head_lines()
    return head, b"".join(map(encoder.encode, pieces)) + encoder.finish(), encoder.until_close


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("pieces", "options", "expected"),
    [
        ([b"abc", b"", b"d"], {}, (CHUNKED, b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", False)),
        ([], {}, (CHUNKED, b"0\r\n\r\n", False)),
        ([b"a" * 16], {}, (CHUNKED, b"10\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n", False)),
        ([b"ab", b"c"], {"length": 3}, (b"Content-Length: 3\r\n", b"abc", False)),
        ([], {"length": 0}, (b"Content-Length: 0\r\n", b"", False)),
        ([b"ab", b"c"], {"http11": False}, (b"", b"abc", True)),
        ([b"abc"], {"http11": False, "length": 3}, (b"Content-Length: 3\r\n", b"abc", False)),
        ([b"abc"], {"bodiless": True}, (b"", b"", False)),
        ([b"abc"], {"bodiless": True, "http11": False}, (b"", b"", False)),
        ([], {"bodiless": True, "length": 9}, (b"Content-Length: 9\r\n", b"", False)),
    ],
    ids=str,
)
def test_framing(
    pieces: list[bytes], options: dict[str, Any], expected: tuple[bytes, bytes, bool]
) -> None:
    assert encoded(pieces, **options) == expected


@pytest.mark.parametrize("http11", [True, False])
def test_gzip_hides_the_length(http11: bool) -> None:
    head, body, until_close = encoded([b"abc", b"def"], length=6, gzip=True, http11=http11)
    assert head == (CHUNKED if http11 else b"")
    assert until_close is not http11
    if not http11:
        assert gzip.decompress(body) == b"abcdef"


@pytest.mark.parametrize("pieces", [[b"abcd"], [b"abc", b"d"]])
def test_a_body_longer_than_declared(pieces: list[bytes]) -> None:
    with pytest.raises(ValueError, match="longer"):
        encoded(pieces, length=3)


@pytest.mark.parametrize("pieces", [[], [b"ab"]])
def test_a_body_shorter_than_declared(pieces: list[bytes]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        encoded(pieces, length=3)
