"""Targets that are a connection: bytes in, bytes out. Each docstring is the invariant."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fuzz.harness import Peer, read_responses
from hypothesis import strategies as st

from httpuv_kernel.network.reading import Reading

__all__ = [
    "FRAMES",
    "PATHS",
    "REQUESTS",
    "SPLITS",
    "corpus",
    "paths_below_a_root",
    "ranges_of_a_file",
    "requests_in_any_split",
    "requests_nobody_answers",
    "socket_frames",
]

_FOLDER = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[bytes]:
    """Cases from a file: one a line, as a Python bytes literal without its quotes."""
    lines = (_FOLDER / f"{name}.txt").read_text().splitlines()
    escaped = [line for line in lines if line and not line.startswith("#")]
    return [line.encode("latin-1").decode("unicode_escape").encode("latin-1") for line in escaped]


# -- requests --------------------------------------------------------------------------------------

_METHODS = [
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"get",
    b"G\0T",
    b"",
]
_TARGETS = [
    *(b"/", b"/a?b=c", b"*", b"http://localhost/a", b"//a//b", b"/%2e%2e/%zz", b"a", b""),
    *(b"http://x@localhost/", b"/__httpuv__/", b"/\xff", b"/a b", b"/" + b"a" * 300),
]
_FIELDS = [
    *(b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: +5", b"Content-Length: 5, 5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: x"),
    *(b"Transfer-Encoding : chunked", b"Host: localhost", b"Host: evil.example", b"Host:"),
    *(
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ),
    *(
        b"Upgrade: h2c",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
    ),
    *(b"Expect: 100-continue", b"Accept-Encoding: gzip;q=0, *", b" folded", b"X: a\0b", b"X\0: a"),
    *(
        b"Range: bytes=0-0,-1",
        b"If-None-Match: *",
        b"X-Long: " + b"x" * 700,
        b"No colon",
        b": none",
    ),
]
_ENDS = [b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n", b""]
_BODIES = [
    b"",
    b"",
    b"abcde",
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"5;x=y\r\nabcde\r\n0\r\nT: t\r\n\r\n",
    b"-1\r\n",
]


@st.composite
def _requests(draw: Callable[..., Any]) -> bytes:
    """Something like one request."""
    end = draw(st.sampled_from(_ENDS))
    version = draw(
        st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.10", b""])
    )
    line = b" ".join((draw(st.sampled_from(_METHODS)), draw(st.sampled_from(_TARGETS)), version))
    fields = draw(st.lists(st.sampled_from(_FIELDS), max_size=5))
    host = [b"Host: localhost"] if draw(st.integers(0, 5)) else []
    body = draw(st.sampled_from(_BODIES))
    return b"\r\n".join([line, *host, *fields, b""]) + end + body


REQUESTS = st.one_of(
    st.lists(st.one_of(_requests(), st.sampled_from(corpus("requests"))), min_size=1, max_size=4),
    st.lists(st.one_of(_requests(), st.binary(max_size=40)), min_size=1, max_size=3),
).map(b"".join)
SPLITS = st.lists(st.integers(0, 400), max_size=6)


def _pieces(data: bytes, splits: list[int]) -> list[bytes]:
    cuts = sorted({min(cut, len(data)) for cut in splits})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _outcome(pieces: list[bytes], *, on_headers: bool) -> tuple[list[int], list[object], bool]:
    """The statuses, the bodies that the app got, and whether the connection was closed."""
    peer = Peer(on_headers=on_headers, header_bytes=1024, body_bytes=64, linger_timeout=0)
    for piece in pieces:
        peer.send(piece)
    reading = peer.connection._reader.phase
    responses, rest = read_responses(peer.written, peer.methods)
    statuses = [response.status for response in responses]
    assert 101 in statuses or not rest
    if 101 in statuses:
        assert len(statuses) == peer.began
    elif reading in (Reading.IDLE, Reading.HEAD):
        assert len(statuses) == peer.began, (statuses, peer.began)
    elif reading is Reading.BODY:
        assert len(statuses) in (peer.began, peer.began - 1)
    else:
        assert 1 <= len(statuses) <= peer.began
    closed = peer.is_closed or reading is Reading.DISCARD
    peer.leave()
    if not peer.is_closed:
        peer.transport.close()
        peer.loop.run()
    assert peer.left_behind == 0
    return statuses, peer.bridge.bodies, closed


def requests_in_any_split(case: tuple[bytes, list[int], bool]) -> None:
    """However bytes are split: no exception leaves the connection, what it writes is a sequence of
    well-formed responses, one for each request that was begun, or the connection is closed; the
    app gets the same bodies and the client the same statuses as unsplit; nothing is left behind
    when it is over.
    """
    data, splits, on_headers = case
    whole = _outcome([data], on_headers=on_headers)
    assert _outcome(_pieces(data, splits), on_headers=on_headers) == whole


def requests_nobody_answers(case: tuple[bytes, bool]) -> None:
    """When the client leaves before the main side has answered: it is told once of each request
    that it has, and of the end of each socket; nothing is left behind.
    """
    data, on_headers = case
    peer = Peer(on_headers=on_headers, answers=False, header_bytes=1024, body_bytes=64)
    peer.send(data)
    peer.leave()
    if not peer.is_closed:
        peer.transport.close()
        peer.loop.run()
    told = [(message[0], message[1]) for message in peer.bridge.posted]
    asked = {number for kind, number in told if kind in ("request", "headers", "ws_open")}
    opened = [number for kind, number in told if kind == "ws_open"]
    assert sorted(number for kind, number in told if kind == "gone") == sorted(asked)
    assert [number for kind, number in told if kind == "ws_closed"] == opened
    assert peer.left_behind == 0


# -- files -----------------------------------------------------------------------------------------

_SECRET = b"SECRET-OUTSIDE-THE-ROOT"
_PATHS = [
    *(
        "..",
        ".",
        "",
        "a.txt",
        "sub",
        "b.txt",
        "out",
        "in",
        "secret.txt",
        ".hidden",
        "con",
        "a.txt:x",
    ),
    *(
        "%2e%2e",
        "%2E.",
        "..%2f",
        "..%5c",
        "..\\",
        "%00",
        "%c0%ae%c0%ae",
        "\u2025",
        "a.txt%00",
        "C:",
    ),
    *("closed", "..;", "....", "%252e%252e", "out%2fsecret.txt", "dir-out", "\udcff", "a.txt/"),
]

PATHS = st.lists(st.one_of(st.sampled_from(_PATHS), st.text(max_size=4)), max_size=6)


@functools.cache
def _root() -> str:
    """A directory with links that lead out of it, beside a secret."""
    folder = Path(tempfile.mkdtemp(prefix="httpuv-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "secret.txt").write_bytes(_SECRET)
    root = folder / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "b.txt").write_text("b")
    (root / ".hidden").write_bytes(_SECRET)
    (root / "out").symlink_to(folder / "secret.txt")
    (root / "out.gz").symlink_to(folder / "secret.txt")
    (root / "a.txt.gz").symlink_to(folder / "secret.txt")
    (root / "dir-out").symlink_to(folder)
    (root / "in").symlink_to(root / "a.txt")
    os.mkfifo(root / "fifo")
    return str(root)


def paths_below_a_root(case: tuple[list[str], str, bool]) -> None:
    """Whatever a path is made of: no byte of a file outside the root or of a hidden one comes back,
    there is exactly one response, and a FIFO or a device holds nothing up.
    """
    segments, method, encode = case
    path = "/" + "/".join(segments)
    wire = path.encode("utf-8", "surrogateescape")
    target = quote(wire, safe="/%" if not encode else "/").encode() if encode else wire
    target = re.sub(rb"[\0-\x20\x7f]", b"_", target)
    peer = Peer(_root())
    peer.send(b"%s %s HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n" % (
        method.encode(), target
    ))  # fmt: skip
    responses, rest = read_responses(peer.written, peer.methods)
    assert _SECRET not in peer.written
    assert len(responses) == 1
    assert not rest
    assert responses[0].status in (200, 304, 308, 400, 404)


def ranges_of_a_file(case: tuple[str, dict[bytes, str]]) -> None:
    """Of a real file: one well-formed response; a 206 of one part has exactly the bytes that its
    Content-Range names, a 200 all of them, a 304 and a 416 none.
    """
    text, conditions = case
    content = b"a"
    lines = b"Range: %s\r\n" % re.sub(rb"[\r\n\0]", b"", text.encode("latin-1"))
    for name, value in conditions.items():
        lines += b"%s: %s\r\n" % (name, value.encode("latin-1"))
    peer = Peer(_root())
    peer.send(b"GET /a.txt HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % lines)
    ((status, fields, body),), rest = read_responses(peer.written)
    assert not rest
    assert status in (200, 206, 304, 400, 412, 416)
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/1", fields["content-range"])
        assert match is not None
        assert body == content[int(match[1]) : int(match[2]) + 1]
    elif status == 200:
        assert body == content
    elif status in (304, 416):
        assert body == b""


# -- WebSockets ------------------------------------------------------------------------------------

_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)
_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@st.composite
def _frames(draw: Callable[..., Any]) -> bytes:
    """Something like one frame of a client."""
    payload = draw(
        st.one_of(st.binary(max_size=130), st.sampled_from([b"\x03\xe8", b"\xff", b"\x03"]))
    )
    first = draw(st.one_of(st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8A, 0xC1]),
                           st.integers(0, 255)))  # fmt: skip
    masked = 0x80 if draw(st.integers(0, 9)) else 0
    length = draw(st.sampled_from([len(payload)] * 8 + [125, 126, 127]))
    head = bytes([first, masked | (length if length < 126 else 126)])
    if length == 127:
        head = bytes([first, masked | 127]) + draw(
            st.sampled_from([b"\0" * 7 + b"\x05", b"\xff" * 8])
        )
    elif length == 126 or len(payload) > 125:
        head = bytes([first, masked | 126]) + len(payload).to_bytes(2, "big")
    return head + (b"\0\0\0\0" if masked else b"") + payload


FRAMES = st.lists(_frames(), min_size=1, max_size=6)
_SERVER_OPCODES = {0x1, 0x2, 0x8, 0x9, 0xA, 0x0}


def _read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Frames of a server, strictly."""
    found = []
    while data:
        first, size = data[0], data[1]
        assert first & 0x0F in _SERVER_OPCODES
        assert not size & 0x80, "a server does not mask"
        data = data[2:]
        if size >= 126:
            width = 2 if size == 126 else 8
            size, data = int.from_bytes(data[:width], "big"), data[width:]
        assert len(data) >= size
        found.append((first & 0x0F, data[:size]))
        data = data[size:]
    return found


def _socket_outcome(pieces: list[bytes], *, deflate: bool) -> tuple[list[object], bool, int]:
    peer = Peer(message_bytes=200)
    peer.send(_HANDSHAKE % (_DEFLATE if deflate else b""))
    for piece in pieces:
        peer.send(piece)
    closed = peer.is_closed
    peer.leave()
    if not peer.is_closed:
        peer.transport.close()
        peer.loop.run()
    assert peer.left_behind == 0
    responses, rest = read_responses(peer.written)
    assert [response.status for response in responses] == [101]
    frames = _read_frames(rest)
    closes = [payload for opcode, payload in frames if opcode == 8]
    assert len(closes) <= 1
    assert not closes or frames[-1][0] == 8, "a frame follows the close frame"
    told = [message for message in peer.bridge.posted if message[0] == "ws_message"]
    ends = [message[0] for message in peer.bridge.posted].count("ws_closed")
    assert ends == 1, "the main side hears of the end exactly once"
    assert all(len(message[3]) <= 200 for message in told)
    code = int.from_bytes(closes[0][:2], "big") if closes and closes[0] else 0
    # Of two errors in one read, the one in the framing comes first.
    return [message[2:] for message in told], closed, 1002 if code == 1007 else code


def socket_frames(case: tuple[list[bytes], list[int], bool]) -> None:
    """Whatever frames come, however split, with compression or without: no exception, only valid
    frames back, nothing after a close frame and one at most, no message over the limit, the same
    messages and the same kind of end as unsplit, and the main side hears of the end exactly once.
    """
    frames, splits, deflate = case
    data = b"".join(frames)
    whole = _socket_outcome([data], deflate=deflate)
    assert _socket_outcome(_pieces(data, splits), deflate=deflate) == whole
