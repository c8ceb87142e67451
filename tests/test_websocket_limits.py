"""WebSockets byte by byte: handshakes, who may open one, frames, limits, time, back-pressure."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

import pytest
from helpers import (
    Serving,
    configure,
    during,
    in_thread,
    run_until_idle,
    serve_until,
    wait_until,
)
from websocket_peer import (
    BINARY,
    CLOSE,
    CONT,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Peer,
    Room,
    begin,
    close_frame,
    deflated,
    first_reply,
    frame,
    inflated,
    talk,
)
from websockets.sync.client import connect

from httpuv_kernel import WebSocket, broadcast
from httpuv_kernel.main.runtime import running_runtime

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
    in_thread(lambda: first_reply(serving.port, "GET", []))  # the read is over
    assert len(inbox) < 8
    work.finish()
    assert numbers == list(range(50))
