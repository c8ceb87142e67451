"""WebSockets byte by byte: handshakes, who may open one, frames, limits, time, back-pressure."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest
from helpers import (
    Client,
    Reply,
    Serving,
    Work,
    configure,
    during,
    in_thread,
    request,
    run_until_idle,
    serve_until,
    wait_until,
)
from websockets.sync.client import connect

from httpuv_kernel import WebSocket, broadcast, later, start_server
from httpuv_kernel.main.runtime import running_runtime

T = TypeVar("T")
Fields = list[tuple[str, object]]

UPGRADE: Fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
UPGRADE += [("Sec-WebSocket-Version", 13), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
DEFLATE: Fields = [("Sec-WebSocket-Extensions", "permessage-deflate")]

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """A frame of a client."""
    mask = 128 if masked else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if len(data) < 126:
        head += bytes([mask | len(data)])
    elif len(data) < 65536:
        head += bytes([mask | 126]) + len(data).to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + len(data).to_bytes(8, "big")
    return head + bytes(4 if masked else 0) + data  # a mask of zeros changes nothing


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def deflated(data: bytes) -> bytes:
    """As permessage-deflate sends it."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(data + b"\0\0\xff\xff")


class Peer(Client):
    """A connection that asks for a WebSocket, with what it sends right behind."""

    def __init__(
        self, port: int, behind: bytes = b"", headers: Fields = UPGRADE, target: str = "/"
    ) -> None:
        super().__init__(port)
        self.send(request("GET", target, headers) + behind)

    def read_frame(self) -> tuple[int, bytes]:
        """The first byte of a frame and its data."""
        first, length = self.read_exactly(2)
        if length > 125:
            length = int.from_bytes(self.read_exactly(2 if length == 126 else 8), "big")
        return first, self.read_exactly(length)

    def read_close(self) -> int:
        """The code of a close frame, before which nothing else comes."""
        first, data = self.read_frame()
        assert first == 128 | CLOSE
        return int.from_bytes(data[:2], "big")


class Room:
    """An app that echoes, and notes what happens."""

    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []
        self.events: list[object] = []

    def on_ws_open(self, ws: WebSocket) -> None:
        self.sockets.append(ws)

        @ws.on_message
        def handle(binary: bool, message: str | bytes) -> None:
            self.events.append(message)
            ws.send(message)

        ws.on_close(lambda: self.events.append(ws.close_code))


def begin(serving: Serving, function: Callable[[Peer], T], *arguments: object) -> Work[T]:
    """Run `function(peer)` in a thread, once the WebSocket is open."""

    def run() -> T:
        with Peer(serving.port, *arguments) as peer:  # type: ignore[arg-type]
            assert peer.read_head().status == 101
            return function(peer)

    return Work(run)


def talk(serving: Serving, function: Callable[[Peer], T], *arguments: object) -> T:
    """The same, and serve until it is done."""
    return begin(serving, function, *arguments).finish()


def ask(serving: Serving, headers: Fields, target: str = "/", method: str = "GET") -> Reply:
    """A handshake on a connection of its own; its answer."""
    return serving.ask(method, target, headers)


# -- the handshake ---------------------------------------------------------------------------------


def test_the_answer_to_a_handshake() -> None:
    reply = ask(Serving(Room()), UPGRADE)
    assert (reply.status, reply.reason) == (101, "Switching Protocols")
    assert reply["upgrade"].lower() == "websocket"
    assert reply["connection"].lower() == "upgrade"
    assert reply["sec-websocket-accept"] == "ICX+Yqv66kxgM0FcWaLWlFLwTAI="
    assert not reply.has("content-length")
    assert not reply.has("sec-websocket-extensions")


@pytest.mark.parametrize("count", [2, 100])
def test_messages_right_behind_the_handshake_are_kept(count: int) -> None:
    messages = [b"%d" % i + b"x" * 10_000 for i in range(count)]

    def client(peer: Peer) -> list[bytes]:
        return [peer.read_frame()[1] for _ in messages]

    behind = b"".join(frame(BINARY, message) for message in messages)
    assert talk(Serving(Room()), client, behind) == messages


def test_a_handshake_behind_a_request() -> None:
    serving = Serving({"call": lambda request: {"body": "a"}, "on_ws_open": Room().on_ws_open})

    def client(connection: Client) -> tuple[str, int, bytes]:
        connection.send(request() + request(headers=UPGRADE) + frame(TEXT, b"x"))
        first, second = connection.read_reply(), connection.read_head()
        return first.text, second.status, connection.read_exactly(3)

    assert serving.run(client) == ("a", 101, b"\x81\1x")


def without(name: str, *instead: tuple[str, object]) -> Fields:
    return [(key, value) for key, value in UPGRADE if key != name] + [*instead]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", without("Sec-WebSocket-Version", ("Sec-WebSocket-Version", 8)), 426),
        ("GET", without("Sec-WebSocket-Version"), 426),
        ("GET", without("Sec-WebSocket-Key"), 400),
        ("GET", without("Sec-WebSocket-Key", ("Sec-WebSocket-Key", "short")), 400),
        ("GET", without("Connection"), 426),
        ("GET", UPGRADE + [("Sec-WebSocket-Extensions", "a; b=;;")], 400),
        ("GET", UPGRADE + [("Sec-WebSocket-Protocol", "a, b c")], 400),
        ("GET", UPGRADE + [("Content-Length", 1)], 400),
        ("POST", UPGRADE, 405),
        ("HEAD", UPGRADE, 405),
    ],
    ids=["version", "no version", "no key", "key", "connection", "extensions", "protocol", "body"]
    + ["POST", "HEAD"],
)
def test_a_handshake_that_is_wrong(method: str, headers: Fields, status: int) -> None:
    room = Room()
    app = {"on_ws_open": room.on_ws_open, "subprotocols": ["a"]}
    serving = Serving(app)
    reply = Work(lambda: _first_reply(serving.port, method, headers)).finish(5)
    assert reply.status == status
    assert method == "HEAD" or len(reply.text.splitlines()) == 1
    assert room.sockets == []


def _first_reply(port: int, method: str, headers: Fields) -> Reply:
    with Client(port, timeout=3) as client:
        return client.ask(method, "/", headers)


@pytest.mark.parametrize("name", ["Sec-WebSocket-Version", "Connection"])
def test_426_says_what_to_upgrade_to(name: str) -> None:
    reply = ask(Serving(Room()), without(name))
    assert reply["upgrade"] == "websocket"  # RFC 9110, section 15.5.22
    assert "Upgrade" in reply.all("connection")
    assert reply["sec-websocket-version"] == "13"  # RFC 6455, section 4.4


def test_a_post_is_told_to_get() -> None:
    reply = ask(Serving(Room()), UPGRADE, method="POST")
    assert reply["allow"] == "GET"
    assert reply.text == "405 Method Not Allowed: a WebSocket is asked for with GET\n"


def test_without_on_ws_open_it_is_a_404() -> None:
    requests: list[object] = []
    serving = Serving(lambda request: requests.append(request))
    with serving.connect() as client:  # no callback runs
        assert in_thread(lambda: client.ask(headers=UPGRADE)).status == 404
    assert requests == []


def test_static_paths_do_not_stand_before_sockets(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    serving = Serving({"static_paths": {"/": str(tmp_path)}, "on_ws_open": Room().on_ws_open})
    assert ask(serving, UPGRADE).status == 101
    assert serving.ask().text == "page"


@pytest.mark.thread_only("watches what reaches the inbox while nothing runs")
def test_too_many_that_wait_are_a_503() -> None:
    configure(pending=1)
    serving = Serving(Room())
    with Peer(serving.port) as first:
        wait_until(lambda: running_runtime().inbox)  # type: ignore[union-attr]
        with serving.connect() as second:
            assert in_thread(lambda: second.ask(headers=UPGRADE)).status == 503
        assert during(first.read_head).status == 101
        assert ask(serving, UPGRADE).status == 101


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.thread_only("watches what reaches the inbox while nothing runs")
def test_one_who_leaves_before_on_ws_open_has_begun(who: str) -> None:
    room = Room()
    serving, other = Serving(room), Serving({})
    sockets, inbox = running_runtime().sockets, running_runtime().inbox  # type: ignore[union-attr]
    if who == "server":
        later(serving.server.stop)  # runs first, when on_ws_open is queued
    before = len(inbox)
    with Peer(serving.port) as peer:
        wait_until(lambda: len(inbox) > before)
        if who == "client":
            peer.reset()
            wait_until(lambda: len(inbox) > 1)
        run_until_idle(0.1)
    assert room.events == [1006] * len(room.sockets)
    assert who == "server" or room.sockets == []
    assert not sockets._open
    assert other.ask().status == 404


# -- who may open one ------------------------------------------------------------------------------

SAME = ["http://localhost", "https://localhost", "HTTP://LocalHost"]
OTHER = ["http://localhost:8888", "null", "http://evil.example", "http://localhost.evil.example"]
OTHER += ["", "localhost", "file://", "http://evil.example/http://localhost"]


@pytest.mark.parametrize(
    ("allowed", "passes", "refused"),
    [
        ([], [None, *SAME], OTHER),
        (["https://hub.example"], [None, *SAME, "https://hub.example"], OTHER),
        (["null"], ["null"], [origin for origin in OTHER if origin != "null"]),
        (["*"], [None, *SAME, *OTHER], []),
    ],
    ids=["none", "one", "null", "all"],
)
def test_the_origin(allowed: list[str], passes: list[str | None], refused: list[str]) -> None:
    configure(allowed_origins=allowed)
    room = Room()
    serving = Serving(room)
    for origin in passes:
        field: Fields = [] if origin is None else [("Origin", origin)]
        assert ask(serving, UPGRADE + field).status == 101, origin
    opened = len(room.sockets)
    assert opened == len(passes)
    for origin in refused:
        reply = ask(serving, UPGRADE + [("Origin", origin)])
        assert reply.status == 403, origin
        assert "allowed_origins" in reply.text
    assert len(room.sockets) == opened


def test_the_host() -> None:
    room = Room()
    serving = Serving(room)
    reply = serving.ask("GET", "/", UPGRADE, host="evil.example")
    assert reply.status == 403
    assert "allowed_hosts" in reply.text
    assert room.sockets == []


def test_the_token() -> None:
    room = Room()
    server = start_server("127.0.0.1", 0, room, token=True)

    def client(target: str) -> int:
        with Peer(server.port, target=target) as peer:
            return peer.read_head().status

    assert [during(client, target) for target in ("/", "/ws", f"/{'x' * 32}/ws")] == [403] * 3
    assert room.sockets == []
    assert during(client, f"/{server.token}/ws?a=1") == 101
    assert room.sockets[0].request.path == "/ws"


def test_on_headers_lets_pass_or_refuses() -> None:
    room = Room()

    def on_headers(request: object) -> object:
        return {"status": 401, "body": "who"} if request["QUERY_STRING"] else None  # type: ignore[index]

    serving = Serving({"on_headers": on_headers, "on_ws_open": room.on_ws_open})
    assert (reply := ask(serving, UPGRADE, "/?x")).status == 401
    assert (reply.text, reply.closes, room.sockets) == ("who", True, [])

    def client(peer: Peer) -> bytes:
        peer.send(frame(TEXT, b"x"))
        return peer.read_frame()[1]

    assert talk(serving, client) == b"x"
    serve_until(lambda: len(room.events) == 2)
    assert len(running_runtime().exchanges) == 0  # type: ignore[union-attr]


# -- frames ----------------------------------------------------------------------------------------


def test_fragments_with_control_frames_between_them() -> None:
    def client(peer: Peer) -> list[tuple[int, bytes]]:
        euro = "€".encode()
        peer.send(frame(TEXT, b"a" + euro[:1], fin=False) + frame(PING, b"1"))
        peer.send(frame(CONT, euro[1:], fin=False) + frame(CONT, fin=False) + frame(PONG, b"2"))
        peer.send(frame(CONT, b"b") + frame(BINARY, b"\1", fin=False) + frame(CONT, b"\2"))
        return [peer.read_frame() for _ in range(3)]

    echoes = [(128 | TEXT, "a€b".encode()), (128 | BINARY, b"\1\2")]
    assert talk(Serving(Room()), client) == [(128 | PONG, b"1"), *echoes]


@pytest.mark.parametrize(
    ("close", "answer", "heard"),
    [(close_frame(3001, b"bye"), 3001, 3001), (frame(CLOSE), 1000, 1005)],
    ids=["with a code", "without"],
)
def test_a_close_between_fragments(close: bytes, answer: int, heard: int) -> None:
    room = Room()

    def client(peer: Peer) -> int:
        peer.send(frame(TEXT, b"a", fin=False) + close + frame(CONT, b"b"))
        return peer.read_close()

    assert talk(Serving(room), client) == answer
    serve_until(lambda: room.events)
    assert room.events == [heard]


def test_a_ping_is_answered_while_no_callback_runs() -> None:
    def client(peer: Peer) -> list[bytes]:
        sent = [b"", b"x" * 125]
        peer.send(b"".join(frame(PING, data) for data in sent))
        assert [peer.read_frame() for _ in sent] == [(128 | PONG, data) for data in sent]
        return sent

    assert len(talk(Serving(Room()), client)) == 2


def test_frames_byte_by_byte() -> None:
    def client(peer: Peer) -> bytes:
        for byte in frame(TEXT, b"x" * 200):
            peer.send(bytes([byte]))
        return peer.read_frame()[1]

    assert talk(Serving(Room()), client) == b"x" * 200


VIOLATIONS = {
    "unmasked": (frame(TEXT, b"x", masked=False), 1002),
    "rsv1": (frame(TEXT, b"x", rsv=4), 1002),
    "rsv2": (frame(TEXT, b"x", rsv=2), 1002),
    "rsv3": (frame(TEXT, b"x", rsv=1), 1002),
    "opcode 3": (frame(3, b"x"), 1002),
    "opcode 11": (frame(11, b"x"), 1002),
    "continues nothing": (frame(CONT, b"x"), 1002),
    "text in fragments": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
    "ping in fragments": (frame(PING, b"x", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "close of a byte": (frame(CLOSE, b"\3"), 1002),
    "close 999": (close_frame(999), 1002),
    "close 1005": (close_frame(1005), 1002),
    "close 1006": (close_frame(1006), 1002),
    "close reason": (close_frame(1000, b"\xff"), 1007),
    "text": (frame(TEXT, b"\xff"), 1007),
    "surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "half a character": (frame(TEXT, b"\xe2", fin=False) + frame(CONT, b"\x82"), 1007),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_ends_the_socket(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, code = VIOLATIONS[name]
    room = Room()

    def client(peer: Peer) -> int:
        peer.send(data + frame(TEXT, b"behind"))
        return peer.read_close()

    assert talk(Serving(room), client) == code
    serve_until(lambda: room.events)
    run_until_idle(0.05)
    assert room.events == [1006]
    assert capsys.readouterr().err == ""


def test_messages_before_a_violation_are_heard() -> None:
    room = Room()
    data = frame(TEXT, b"good") + frame(TEXT, b"\xff") + frame(TEXT, b"behind")
    talk(Serving(room), lambda peer: (peer.send(data), peer.read_all()))
    serve_until(lambda: 1006 in room.events)
    assert room.events == ["good", 1006]


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        (1000, frame(BINARY, bytes(1001))),
        (1000, frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 401)),
        (1 << 20, frame(BINARY, bytes(1 << 23))),
        (1000, frame(BINARY, deflated(bytes(1001)), rsv=4)),
        (1 << 20, frame(BINARY, deflated(bytes(1 << 27)), rsv=4)),
        (1000, frame(BINARY, deflated(bytes(1000)), rsv=4, fin=False) + frame(CONT, bytes(10))),
    ],
    ids=["frame", "fragments", "much", "compressed", "bomb", "compressed fragments"],
)
def test_a_message_above_the_limit_is_1009(limit: int, data: bytes) -> None:
    configure(message_bytes=limit)
    room = Room()

    def client(peer: Peer) -> int:
        with suppress(ConnectionError):  # it closes while much is still to be sent
            peer.send(data)
        return peer.read_close()

    assert talk(Serving(room), client, b"", UPGRADE + DEFLATE) == 1009
    serve_until(lambda: room.events)
    assert room.events == [1006]


def test_a_message_of_the_limit() -> None:
    configure(message_bytes=1000)

    def client(peer: Peer) -> list[int]:
        peer.send(frame(BINARY, bytes(1000)) + frame(BINARY, bytes(600), fin=False))
        peer.send(frame(CONT, bytes(400)) + frame(BINARY, deflated(bytes(1000)), rsv=4))
        return [len(inflated(peer.read_frame()[1])) for _ in range(3)]

    assert talk(Serving(Room()), client, b"", UPGRADE + DEFLATE) == [1000] * 3


# -- compression -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compresses", [True, False])
def test_compression_is_negotiated(compresses: bool) -> None:
    configure(compress_messages=compresses)
    room = Room()
    serving = Serving(room)
    messages = ["x" * 100_000, os.urandom(3_000_000), ""]

    def client() -> tuple[str, list[str | bytes]]:
        with connect(f"ws://127.0.0.1:{serving.port}/", max_size=None) as connection:
            replies = []
            for message in messages:
                connection.send(message)
                replies.append(connection.recv(10))
            assert connection.response is not None
            return connection.response.headers.get("Sec-WebSocket-Extensions", ""), replies

    extensions, replies = during(client)
    assert ("permessage-deflate" in extensions) is compresses
    assert replies == messages


@pytest.mark.parametrize("how", ["send", "broadcast"])
def test_a_compressed_message_is_small_on_the_wire(how: str) -> None:
    def opened(ws: WebSocket) -> None:
        broadcast([ws], "x" * 10_000) if how == "broadcast" else ws.send("x" * 10_000)

    first, data = talk(Serving({"on_ws_open": opened}), Peer.read_frame, b"", UPGRADE + DEFLATE)
    assert first == 0xC0 | TEXT  # RSV1
    assert len(data) < 100
    assert inflated(data) == b"x" * 10_000


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_silent_client_is_pinged_and_one_that_answers_lives() -> None:
    configure(ping_interval=0.03, pong_timeout=0.2)
    room = Room()

    def client(peer: Peer) -> bytes:
        for _ in range(10):
            first, data = peer.read_frame()
            assert first == 128 | PING
            peer.send(frame(PONG, data))
        peer.send(frame(TEXT, b"alive"))
        while (answer := peer.read_frame())[0] == 128 | PING:
            pass
        return answer[1]

    assert talk(Serving(room), client) == b"alive"


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_client_that_answers_no_ping_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    configure(ping_interval=0.03, pong_timeout=0.1)
    room = Room()
    with caplog.at_level(logging.INFO, "httpuv_kernel"):
        received = talk(Serving(room), Peer.read_all)
    assert received.startswith(bytes([128 | PING, 0]))
    serve_until(lambda: room.events)
    assert room.events == [1006]
    assert "does not answer" in caplog.text


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_client_that_never_answers_a_close_is_cut() -> None:
    configure(linger_timeout=0.1)
    room = Room()
    work = begin(Serving(room), Peer.read_all)
    serve_until(lambda: room.sockets)
    room.sockets[0].close(4000)
    assert work.finish() == b"\x88\2" + (4000).to_bytes(2, "big")
    serve_until(lambda: room.events)
    assert room.events == [1006]


# -- back-pressure ---------------------------------------------------------------------------------

PIECE = 64 * 1024


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize("reads", [True, False], ids=["reads at last", "never reads"])
def test_a_slow_reader_is_closed(reads: bool, caplog: pytest.LogCaptureFixture) -> None:
    configure(write_timeout=0.1, linger_timeout=10.0 if reads else 0.1)
    room = Room()
    closed = []

    def client(peer: Peer) -> int:
        wait_until(lambda: "reads too slowly" in caplog.text if reads else closed)
        for _ in range(512 if reads else 0):
            assert peer.read_frame() == (128 | BINARY, bytes(PIECE))
        return peer.read_close() if reads else 1013

    work = begin(Serving(room), client)
    serve_until(lambda: room.sockets)
    room.sockets[0].on_close(lambda: closed.append(room.sockets[0].close_code))
    for _ in range(512):
        room.sockets[0].send(bytes(PIECE))
    assert work.finish() == 1013
    serve_until(lambda: closed)
    assert closed == [1006]
    assert room.sockets[0].buffered_amount == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def flood(peer: Peer, data: bytes, stalled: list[int]) -> None:
    """Send it all; notes how much was sent when the server stopped reading."""
    view = memoryview(data)
    sent = 0
    peer.socket.settimeout(0.3)
    while sent < len(data):
        try:
            sent += peer.socket.send(view[sent : sent + PIECE])
        except TimeoutError:
            stalled.append(sent)
            peer.socket.settimeout(10)


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize(
    ("compresses", "pong_timeout"),
    [(False, 60.0), (True, 60.0), (False, 0.1)],
    ids=["plain", "compressed", "pongs behind what is not read"],
)
def test_a_flood_waits_for_the_callbacks(compresses: bool, pong_timeout: float) -> None:
    configure(ping_interval=0.05, pong_timeout=pong_timeout)
    sockets: list[WebSocket] = []
    numbers: list[int] = []
    closed: list[int | None] = []

    def opened(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.on_message(lambda binary, message: numbers.append(int.from_bytes(message[:4], "big")))
        ws.on_close(lambda: closed.append(ws.close_code))

    payloads = [i.to_bytes(4, "big") + bytes(PIECE - 4) for i in range(512)]
    if compresses:  # many packets all the same
        noise = os.urandom(PIECE - 4)
        payloads = [deflated(payload[:4] + noise) for payload in payloads]
    data = b"".join(frame(BINARY, payload, rsv=4 * compresses) for payload in payloads)
    stalled: list[int] = []

    def client(peer: Peer) -> None:
        flood(peer, data, stalled)
        peer.send(close_frame(1000))
        peer.read_all()

    work = begin(Serving({"on_ws_open": opened}), client, b"", UPGRADE + DEFLATE)
    serve_until(lambda: sockets)
    inbox = running_runtime().inbox  # type: ignore[union-attr]
    wait_until(lambda: stalled or work.is_over)
    assert len(inbox) <= 24  # about 1 MiB
    work.finish()
    serve_until(lambda: closed)
    assert numbers == list(range(512))
    assert closed == [1000]


def test_a_flood_of_small_messages_waits_for_the_callbacks() -> None:
    sockets: list[WebSocket] = []
    heard: list[object] = []

    def opened(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.on_message(lambda binary, message: heard.append(message))

    stalled: list[int] = []
    data = frame(BINARY, bytes(100)) * 100_000
    work = begin(Serving({"on_ws_open": opened}), lambda peer: flood(peer, data, stalled))
    serve_until(lambda: sockets)
    wait_until(lambda: stalled)
    # A message counts 128 bytes more than it has; the packet that reaches the limit comes whole.
    assert len(running_runtime().inbox) < 8192 + 4096  # type: ignore[union-attr]
    work.finish()
    serve_until(lambda: len(heard) == 100_000)


@pytest.mark.thread_only("watches what reaches the inbox while nothing runs")
def test_what_one_read_inflates_to_waits_for_the_callbacks() -> None:
    sockets: list[WebSocket] = []
    numbers: list[int] = []

    def opened(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.on_message(lambda binary, message: numbers.append(int.from_bytes(message[:4], "big")))

    payloads = [deflated(i.to_bytes(4, "big") + bytes(1024 * 1024)) for i in range(50)]
    behind = b"".join(frame(BINARY, payload, rsv=4) for payload in payloads)  # 50 KiB

    def client(peer: Peer) -> None:
        peer.send(close_frame(1000))
        peer.read_all()

    serving = Serving({"on_ws_open": opened})
    work = begin(serving, client, behind, UPGRADE + DEFLATE)
    serve_until(lambda: sockets)
    inbox = running_runtime().inbox  # type: ignore[union-attr]
    wait_until(lambda: len(inbox))
    in_thread(lambda: _first_reply(serving.port, "GET", []))  # the read is over
    assert len(inbox) < 8
    work.finish()
    assert numbers == list(range(50))
