"""HTTP/1.1 as bytes: what each request gets, fed whole, byte by byte and split at every index."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import Client, Closed, Serving, Split, during, in_thread, request, send_split
from helpers import watched_deliveries as watched

from httpuv_kernel import Request

OK = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Want(NamedTuple):
    """A response; body None: any."""

    status: int
    body: bytes | None = None
    method: str = "GET"


class Case(NamedTuple):
    id: str
    data: bytes
    wanted: list[Want]
    open: bool = True
    """Whether the connection can be used afterwards."""


def answered(id: str, data: bytes, *bodies: str, open: bool = True) -> Case:
    return Case(id, data, [Want(200, body.encode()) for body in bodies], open)


def closed(id: str, data: bytes, *bodies: str) -> Case:
    return answered(id, data, *bodies, open=False)


def refused(id: str, data: bytes, status: int = 400) -> Case:
    return Case(id, data, [Want(status)], open=False)


def host(value: str) -> bytes:
    return request(host=value)


def length(value: str) -> bytes:
    return POST + f"Content-Length: {value}\r\n\r\nabc".encode()


def coding(value: str) -> bytes:
    return POST + f"Transfer-Encoding: {value}\r\n\r\n0\r\n\r\n".encode()


ANSWERED = [
    answered("get", request(target="/a"), "GET /a"),
    answered("query", request(target="/a?b=c&d=%20"), "GET /a?b=c&d=%20"),
    answered("empty query", request(target="/a?"), "GET /a"),
    answered("percent-encoded path", request(target="/a%20b%2Fc"), "GET /a%20b%2Fc"),
    answered("path with two slashes", request(target="//a.example/b"), "GET //a.example/b"),
    answered("long target", request(target="/" + "a" * 2000), "GET /" + "a" * 2000),
    *(
        answered(method, request(method, "/m"), f"{method} /m")
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND")
    ),
    answered("keep-alive", request(headers=[("Connection", "keep-alive")]), "GET /"),
    closed("close", request(headers=[("Connection", "close")]), "GET /"),
    closed("close in capitals", request(headers=[("Connection", "CLOSE")]), "GET /"),
    closed("close in a list", request(headers=[("Connection", "x-hop, close")]), "GET /"),
    closed("the app closes", request(target="/close"), "GET /close"),
    closed("1.0", request(version="HTTP/1.0"), "GET /"),
    closed("1.0 without host", request(version="HTTP/1.0", host=None), "GET /"),
    answered(
        "1.0 keep-alive",
        request(version="HTTP/1.0", headers=[("Connection", "keep-alive")]),
        "GET /",
    ),
    closed("1.0 with a body", request("POST", version="HTTP/1.0", body=b"abc"), "POST / abc"),
    closed("1.0, a stream", request(target="/stream", version="HTTP/1.0"), "one two "),
    closed(
        "1.0 keep-alive, a stream",
        request(target="/stream", version="HTTP/1.0", headers=[("Connection", "keep-alive")]),
        "one two ",
    ),
    answered("stream", request(target="/stream"), "one two "),
    answered("stream, then another", request(target="/stream") * 2, "one two ", "one two "),
    # No body, whatever the app says
    Case("head", request("HEAD"), [Want(200, b"", "HEAD")]),
    Case("head 1.0", request("HEAD", version="HTTP/1.0"), [Want(200, b"", "HEAD")], open=False),
    Case("head of a stream", request("HEAD", "/stream"), [Want(200, b"", "HEAD")]),
    Case("head of a file", request("HEAD", "/file/a.txt"), [Want(200, b"", "HEAD")]),
    Case("204", request(target="/status/204"), [Want(204, b"")]),
    Case("304", request(target="/status/304"), [Want(304, b"")]),
    Case("304 to head", request("HEAD", "/status/304"), [Want(304, b"", "HEAD")]),
    # Pipelining
    answered("two", request(target="/1") + request(target="/2"), "GET /1", "GET /2"),
    Case(
        "head between",
        request(target="/1") + request("HEAD", "/2") + request(target="/3"),
        [Want(200, b"GET /1"), Want(200, b"", "HEAD"), Want(200, b"GET /3")],
    ),
    answered(
        "posts",
        request("POST", "/1", body=b"abc") + request("POST", "/2", body=[b"d", b"ef"]),
        "POST /1 abc",
        "POST /2 def",
    ),
    answered(
        "files and app",
        request(target="/file/a.txt") + request(target="/1") + request(target="/file/a.txt"),
        "a file",
        "GET /1",
        "a file",
    ),
    Case(
        "204 between",
        request(target="/1") + request(target="/status/204") + request(target="/2"),
        [Want(200, b"GET /1"), Want(204, b""), Want(200, b"GET /2")],
    ),
    Case(
        "then malformed",
        request(target="/1") + b"nonsense\r\n\r\n",
        [Want(200, b"GET /1"), Want(400)],
        open=False,
    ),
    Case(
        "then a bad body",
        request(target="/1") + CHUNKED + b"zz\r\n",
        [Want(200, b"GET /1"), Want(400)],
        open=False,
    ),
    closed(
        "after close nothing counts",
        request(target="/1", headers=[("Connection", "close")]) + request(target="/2"),
        "GET /1",
    ),
    closed(
        "after close not even nonsense",
        request("POST", "/1", [("Connection", "close")], b"abc") + b"\0nonsense\r\n",
        "POST /1 abc",
    ),
    closed("after 1.0", request(target="/1", version="HTTP/1.0") + request(), "GET /1"),
    # Line ends before a request, RFC 9112 section 2.2
    answered("CRLF before", b"\r\n" + request(), "GET /"),
    answered("CRLFs before", b"\r\n\r\n\r\n" + request(), "GET /"),
    answered("CRLF between", request() + b"\r\n" + request(target="/2"), "GET /", "GET /2"),
    # Bodies
    answered("content-length", request("POST", body=b"abc"), "POST / abc"),
    answered("get with a body", request("GET", body=b"abc"), "GET / abc"),
    answered("content-length 0", POST + b"Content-Length: 0\r\n\r\n", "POST /"),
    answered("content-length 003", length("003"), "POST / abc"),
    answered("content-length with spaces", length(" \t3 \t"), "POST / abc"),
    answered("neither length nor chunks", POST + b"\r\n", "POST /"),
    answered(
        "a body like a request",
        request("POST", body=OK + b"\r\n"),
        "POST / " + ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ),
    answered("chunks", request("POST", body=[b"a", b"bc", b"d" * 30]), "POST / abc" + "d" * 30),
    answered("no chunks", request("POST", body=[]), "POST /"),
    answered(
        "chunk size in capitals", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", "POST / 0123456789"
    ),
    answered("chunk size with zeros", CHUNKED + b"0003\r\nabc\r\n000\r\n\r\n", "POST / abc"),
    answered("chunk extension", CHUNKED + b"3;a=b\r\nabc\r\n0;c\r\n\r\n", "POST / abc"),
    answered("quoted extension", CHUNKED + b'3;a="b;c"\r\nabc\r\n0\r\n\r\n', "POST / abc"),
    answered("trailers", CHUNKED + b"3\r\nabc\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n", "POST / abc"),
    answered(
        "trailers change nothing",
        CHUNKED + b"3\r\nabc\r\n0\r\nHost: b\r\n\r\n" + request(),
        "POST / abc",
        "GET /",
    ),
    answered("Chunked", coding("Chunked"), "POST /"),
    # Expect
    answered(
        "100-continue",
        request("POST", headers=[("Expect", "100-continue")], body=b"abc"),
        "POST / abc",
    ),
    answered(
        "100-Continue",
        request("POST", headers=[("Expect", "100-Continue")], body=b"abc"),
        "POST / abc",
    ),
    answered(
        "100-continue, chunks",
        request("POST", headers=[("Expect", "100-continue")], body=[b"abc"]),
        "POST / abc",
    ),
    answered("100-continue without a body", request(headers=[("Expect", "100-continue")]), "GET /"),
    closed(
        "100-continue in 1.0",
        request("POST", "/", [("Expect", "100-continue")], b"abc", version="HTTP/1.0"),
        "POST / abc",
    ),
    # Targets, RFC 9112 section 3.2
    answered("absolute", request(target="http://localhost/a?b"), "GET /a?b"),
    answered("absolute, https", request(target="https://localhost/a"), "GET /a"),
    answered("absolute, capitals", request(target="HTTP://localhost/a"), "GET /a"),
    answered("absolute without a path", request(target="http://localhost"), "GET /"),
    answered("absolute with a query only", request(target="http://localhost?b"), "GET /?b"),
    answered("absolute with a port", request(target="http://127.0.0.1:8000/a"), "GET /a"),
    answered(
        "absolute replaces Host",
        request(target="http://localhost/a", host="evil.example"),
        "GET /a",
    ),
    answered("a file by absolute target", request(target="http://localhost/file/a.txt"), "a file"),
    answered("OPTIONS *", request("OPTIONS", "*"), "OPTIONS *"),
    # Host
    *(
        answered(f"host {value}", host(value), "GET /")
        for value in (
            "localhost",
            "LocalHost",
            "localhost.",
            "localhost:8000",
            "localhost:",
            "a.localhost",
            "a.b.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8000",
            "192.0.2.7",
        )
    ),
    answered("host without a space", b"GET / HTTP/1.1\r\nHost:localhost\r\n\r\n", "GET /"),
    answered("host with spaces", b"GET / HTTP/1.1\r\nhOST: \t localhost \t \r\n\r\n", "GET /"),
    # Fields
    answered("empty value", OK + b"X-A:\r\nX-B: \r\n\r\n", "GET /"),
    answered("every token character", OK + b"!#$%&'*+-.^_`|~09Az: b\r\n\r\n", "GET /"),
    answered("obs-text", OK + b"X-A: \xe4\xff\r\n\r\n", "GET /"),
    answered("many fields", OK + b"X-A: b\r\n" * 60 + b"\r\n", "GET /"),
    # An upgrade to what is not spoken here
    answered("h2c", request(headers=[("Connection", "Upgrade"), ("Upgrade", "h2c")]), "GET /"),
    answered(
        "h2c, then another",
        request(target="/1", headers=[("Connection", "Upgrade"), ("Upgrade", "h2c")])
        + request(target="/2"),
        "GET /1",
        "GET /2",
    ),
    answered(
        "h2c with a body, then another",
        request("POST", "/1", [("Connection", "Upgrade"), ("Upgrade", "h2c")], b"abc")
        + request("POST", "/2", body=b"def"),
        "POST /1 abc",
        "POST /2 def",
    ),
    answered(
        "h2c twice",
        request(headers=[("Connection", "Upgrade"), ("Upgrade", "h2c")]) * 2,
        "GET /",
        "GET /",
    ),
    closed(
        "h2c and close",
        request(headers=[("Connection", "close, Upgrade"), ("Upgrade", "h2c")]) + request(),
        "GET /",
    ),
    answered("Upgrade alone", request(headers=[("Upgrade", "h2c")]) * 2, "GET /", "GET /"),
]

REFUSED = [
    # Host, RFC 9112 section 3.2
    refused("no host", b"GET / HTTP/1.1\r\n\r\n"),
    refused("two hosts", OK + b"Host: 127.0.0.1\r\n\r\n"),
    refused("the same host twice", OK + b"Host: localhost\r\n\r\n"),
    *(
        refused(f"host {value!r}", host(value))
        for value in (
            "",
            "a b",
            "localhost:x",
            "me@localhost",
            "localhost/",
            "[::1",
            "localhost:1:2",
        )
    ),
    *(
        refused(f"host {value}", host(value), 403)
        for value in (
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "127.1",
        )
    ),
    refused("absolute, foreign", request(target="http://evil.example/"), 403),
    refused("absolute, bad host", request(target="http://a b/")),
    # Versions
    *(
        refused(version, request(version=version), 505)
        for version in ("HTTP/9.9", "HTTP/2.0", "HTTP/3.0", "HTTP/0.9")
    ),
    refused("PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    refused("no version", b"GET /\r\n\r\n", 505),
    *(
        refused(version, request(version=version))
        for version in ("http/1.1", "HTTP/1.10", "HTTP/11", "HTTP/1.x", "HTTP", "HTTP/1.1 x")
    ),
    refused("RTSP", request("SETUP", version="RTSP/1.0")),
    # Content-Length and Transfer-Encoding, RFC 9112 section 6.3
    refused("length and chunks", POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    refused("chunks and length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
    refused("two lengths", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    refused("the same length twice", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    *(
        refused(f"length {value!r}", length(value))
        for value in ("", "+3", "-3", "0x3", "3.0", "3 3", "3, 3", "three", "9" * 30, "\xb3")
    ),
    refused("length above the limit", length("9999999999"), 413),
    refused("gzip", coding("gzip"), 501),
    refused("gzip, chunked", coding("gzip, chunked"), 501),
    refused("identity", coding("identity"), 501),
    refused("xchunked", coding("xchunked"), 501),
    refused("chunked, chunked", coding("chunked, chunked")),
    refused("chunked, gzip", coding("chunked, gzip")),
    refused("chunked twice", coding("chunked\r\nTransfer-Encoding: chunked")),
    refused("chunks in 1.0", request("POST", version="HTTP/1.0", body=[b"abc"])),
    *(
        refused(f"chunk {chunk!r}", CHUNKED + chunk)
        for chunk in (
            b"g\r\nabc\r\n0\r\n\r\n",
            b"\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc0\r\n\r\n",
            b"3;a\nb\r\nabc\r\n0\r\n\r\n",
            b"11111111111111113\r\nabc\r\n0\r\n\r\n",
        )
    ),
    # Fields, RFC 9112 section 5
    refused("obs-fold", OK + b"X-A: b\r\n c\r\n\r\n"),
    refused("space before the first field", b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    refused("space before the colon", OK + b"X-A : b\r\n\r\n"),
    refused("tab before the colon", OK + b"X-A\t: b\r\n\r\n"),
    refused("no colon", OK + b"X-A\r\n\r\n"),
    refused("no name", OK + b": b\r\n\r\n"),
    refused("name with a space", OK + b"X A: b\r\n\r\n"),
    refused("name with obs-text", OK + b"X\xe4: b\r\n\r\n"),
    refused("LF for CRLF", OK.replace(b"\r\n", b"\n") + b"\n"),
    refused("LF after a field", OK + b"X-A: b\nX-C: d\r\n\r\n"),
    refused("LF at the end", OK + b"\n"),
    refused("CR in a value", OK + b"X-A: b\rc\r\n\r\n"),
    refused("CR after a field", OK + b"X-A: b\rX-C: d\r\n\r\n"),
    refused("NUL in a value", OK + b"X-A: b\0c\r\n\r\n"),
    refused("NUL in a name", OK + b"X\0A: b\r\n\r\n"),
    refused("DEL in a value", OK + b"X-A: b\x7fc\r\n\r\n"),
    refused("ESC in a value", OK + b"X-A: b\x1bc\r\n\r\n"),
    # Request lines, RFC 9112 section 3
    refused("unknown method", request("BREW")),
    refused("method in small letters", request("get")),
    refused("method with a colon", request("GE:T")),
    refused("CONNECT", request("CONNECT", "localhost:80"), 501),
    refused("CONNECT then data", request("CONNECT", "localhost:80") + b"\x16\x03\x01", 501),
    refused("fragment", request(target="/a#b")),
    refused("fragment in an absolute target", request(target="http://localhost/#b")),
    refused("relative target", request(target="a")),
    refused("asterisk", request(target="*")),
    refused("ftp", request(target="ftp://localhost/")),
    refused("absolute without a host", request(target="http:///a")),
    refused("space in a target", request(target="/a b")),
    refused("NUL in a target", request(target="/a\0b")),
    refused("control in a target", request(target="/a\x1bb")),
    refused("obs-text in a target", request(target="/\xe4")),
    refused("no target", b"GET HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32))),
    refused("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    refused("NULs", bytes(8)),
    refused("words", b"hello there\r\n\r\n"),
    refused("a response", b"HTTP/1.1 200 OK\r\n\r\n"),
    # What is understood, but not done
    refused("expectation", request(headers=[("Expect", "200-ok")]), 417),
    refused("two expectations", request(headers=[("Expect", "100-continue, x")]), 417),
    Case("no host to head", b"HEAD / HTTP/1.1\r\n\r\n", [Want(400, b"", "HEAD")], open=False),
]

CASES = ANSWERED + REFUSED


def app(request: Request) -> dict[str, object]:
    path = request.path
    if path == "/stream":
        return {"body": iter(["one ", "", "two "])}
    if path.startswith("/status/"):
        return {"status": int(path[8:]), "body": "of this nothing is sent"}
    query, body = request["QUERY_STRING"], request.body.decode()
    text = f"{request.method} {request['PATH_INFO']}{query and '?' + query}{body and ' ' + body}"
    return {"headers": {"Connection": "close"} if path == "/close" else None, "body": text}


class Outcome(NamedTuple):
    replies: list[tuple[int, bytes]]
    end: str


def observe(client: Client, case: Case) -> Outcome:
    """What a client sees that has sent this; it goes on until it knows whether it is closed."""
    replies = []
    closes = False
    try:
        for want in case.wanted:
            reply = client.read_reply(want.method)
            while reply.status == 100:
                reply = client.read_reply(want.method)
            replies.append((reply.status, reply.body))
            closes = reply.closes
        if closes:
            return Outcome(replies, "closed" if client.is_closed() else "more")
        probe = client.ask(target="/probe")
        return Outcome(replies, "open" if probe.body == b"GET /probe" else str(probe))
    except (Closed, TimeoutError) as error:
        return Outcome(replies, str(error))


def fed(tmp_path: Path, case: Case, splits: list[Split], *, hold: bool = False) -> list[Outcome]:
    """The outcome of every split; with `hold` no callback runs before all of it has arrived."""
    (tmp_path / "a.txt").write_text("a file")
    with ExitStack() as stack:
        deliveries = stack.enter_context(watched())
        pool = stack.enter_context(ThreadPoolExecutor(16))
        serving = Serving({"call": app, "static_paths": {"/file": str(tmp_path)}})
        clients = [stack.enter_context(serving.connect(timeout=3)) for _ in splits]

        def send(client: Client, split: Split) -> None:
            send_split(client, case.data, split, deliveries)
            if hold:
                deliveries.wait(client.port, len(case.data))

        def send_all() -> None:
            list(pool.map(send, clients, splits))

        def observe_all() -> list[Outcome]:
            return list(pool.map(observe, clients, [case] * len(clients)))

        (in_thread if hold else during)(send_all)
        return during(observe_all)


def agrees(outcome: Outcome, case: Case) -> bool:
    """Whether it is what was wanted; where any body will do, that it is one line of text."""
    if outcome.end != ("open" if case.open else "closed"):
        return False
    if len(outcome.replies) != len(case.wanted):
        return False
    return all(
        status == want.status
        and (body == want.body if want.body is not None else is_one_line(status, body))
        for (status, body), want in zip(outcome.replies, case.wanted, strict=True)
    )


def is_one_line(status: int, body: bytes) -> bool:
    return body.startswith(b"%d " % status) and body.find(b"\n") == len(body) - 1


# Of a long one the first and last 100, and some between.
def indexes(case: Case) -> list[int]:
    size = len(case.data)
    return [i for i in range(1, size) if i < 100 or i >= size - 100 or i % 13 == 0]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
class TestFeeding:
    def test_whole(self, tmp_path: Path, case: Case) -> None:
        # Repeated, for the server remembers requests by their bytes.
        for outcome in fed(tmp_path, case, [None] * 3):
            assert agrees(outcome, case), outcome

    @pytest.mark.thread_only("the connections of the network thread are watched")
    def test_byte_by_byte(self, tmp_path: Path, case: Case) -> None:
        whole, outcome = fed(tmp_path, case, [None, "bytes"])
        assert outcome == whole

    @pytest.mark.parametrize("hold", [False, True], ids=["at once", "held"])
    @pytest.mark.thread_only("the connections of the network thread are watched")
    def test_split_at_every_index(self, tmp_path: Path, case: Case, hold: bool) -> None:
        splits = indexes(case)
        whole, *outcomes = fed(tmp_path, case, [None, *splits], hold=hold)
        assert {i: o for i, o in zip(splits, outcomes, strict=True) if o != whole} == {}
