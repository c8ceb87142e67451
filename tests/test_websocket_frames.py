"""Frames as reads cut them: a short message in a read of its own does without the library.

What is heard and what is answered must not depend on that, wherever the reads begin and end.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from test_websocket_limits import VIOLATIONS
from websocket_peer import (
    BINARY,
    CONT,
    PING,
    PONG,
    TEXT,
    close_frame,
    deflated,
    frame,
)
from websockets.extensions.permessage_deflate import PerMessageDeflate

from httpuv_kernel.messages import WS_MESSAGE, WS_MESSAGE_COST
from httpuv_kernel.network import websocket
from httpuv_kernel.network.websocket import WebSocketConnection

Heard = tuple[list[object], bytes, bool]
"""The messages, what was written, and whether the connection was closed."""


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.paused = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Socket:
    """A WebSocket without a server."""

    def __init__(self, limit: int = 1 << 20, *, compresses: bool = False) -> None:
        self.messages: list[object] = []
        self._cost = 0
        self.wire = Wire()
        listener: Any = SimpleNamespace(
            limits=SimpleNamespace(message_bytes=limit, linger_timeout=1),
            bridge=SimpleNamespace(post=self._post),
        )
        extensions = [PerMessageDeflate(True, True, 15, 15)] if compresses else []
        self.connection = WebSocketConnection(listener, 1, self.wire, extensions)

    def _post(self, posted: tuple[Any, ...]) -> None:
        assert posted[0] == WS_MESSAGE
        _, _, binary, message = posted
        assert isinstance(message, bytes if binary else str)
        self.messages.append(message)
        data = message if isinstance(message, bytes) else message.encode()
        self._cost += len(data) + WS_MESSAGE_COST

    def handle(self) -> None:
        """As the main side does: all that was heard has been handled."""
        while self._cost:
            cost, self._cost = self._cost, 0
            self.connection.handled(cost)

    def hear(self, *reads: bytes, handles: bool = True) -> Heard:
        for read in reads:
            self.connection.data_received(read)
        if handles:
            self.handle()
        return self.messages, self.wire.written, self.wire.closed


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The reads that the library did not see."""
    taken: list[bytes] = []
    decide = WebSocketConnection._is_short_message

    def noted(connection: WebSocketConnection, data: bytes) -> bool:
        decision = decide(connection, data)
        if decision:
            taken.append(data)
        return decision

    monkeypatch.setattr(WebSocketConnection, "_is_short_message", noted)
    return taken


def keyed(opcode: int, data: bytes, key: bytes = b"\x01\x82\xff\x40") -> bytes:
    """A short frame with a key that changes it."""
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(data))
    return bytes([128 | opcode, 128 | len(data)]) + key + masked


# -- what is short ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", "größer €😀".encode(), b"x" * 125])
def test_a_short_message_in_a_read_of_its_own(data: bytes, short: list[bytes]) -> None:
    reads = [keyed(TEXT, data), keyed(BINARY, data), keyed(TEXT, data)]
    assert Socket().hear(*reads)[0] == [data.decode(), data, data.decode()]
    assert short == reads


INNER = keyed(TEXT, b"not a message")
LONG = frame(BINARY, INNER + b"x" * 200)
NOT_SHORT = {
    "behind a head": [LONG[:8], INNER, LONG[8 + len(INNER) :]],
    "behind half a head": [frame(BINARY, INNER)[:1], frame(BINARY, INNER)[1:]],
    "behind a short head": [frame(BINARY, INNER)[:6], INNER],
    "behind a key's half": [LONG[:6], LONG[6:]],
    # The first byte of a long length is 126 or 127, which would fit a read of so many bytes, too.
    "126 bytes, cut": [frame(BINARY, b"x" * 126)[:132], frame(BINARY, b"x" * 126)[132:]],
    "65,536 bytes, cut": [frame(BINARY, bytes(65536))[:133], frame(BINARY, bytes(65536))[133:]],
    "two": [frame(TEXT, b"a") * 2],
    "fragments": [frame(TEXT, fin=False), frame(CONT, b"a")],
    "a ping": [frame(PING, b"a"), frame(PONG, b"a")],
    **{name: [data] for name, (data, _) in VIOLATIONS.items() if name not in ("text", "surrogate")},
}


@pytest.mark.parametrize("name", NOT_SHORT)
def test_what_is_not_a_short_message(name: str, short: list[bytes]) -> None:
    reads = NOT_SHORT[name]
    byte_by_byte = [bytes([byte]) for read in reads for byte in read]
    assert Socket().hear(*reads) == Socket().hear(*byte_by_byte)
    assert short == []


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("ping", [frame(PING, b"a")]),
        ("two", [frame(TEXT, b"a") * 2]),
        ("fragments", [frame(TEXT, b"a", fin=False), frame(CONT, b"b")]),
        ("126", [frame(BINARY, bytes(126))]),
        ("65,536", [frame(BINARY, bytes(65536))]),
        ("cut", [frame(TEXT, b"abc")[:5], frame(TEXT, b"abc")[5:]]),
    ],
)
def test_behind_whole_frames_they_are_short_again(
    name: str, reads: list[bytes], short: list[bytes]
) -> None:
    socket = Socket()
    socket.hear(*reads)
    assert short == []
    assert socket.hear(INNER)[0][-1] == "not a message"
    assert short == [INNER]


def test_behind_a_length_in_more_bytes_than_it_needs() -> None:
    wasteful = bytes([128 | BINARY, 128 | 126, 0, 1, 0, 0, 0, 0]) + b"x"
    assert Socket().hear(wasteful, INNER)[0] == [b"x", "not a message"]


def test_a_whole_message_between_fragments_is_1002(short: list[bytes]) -> None:
    messages, written, closed = Socket().hear(frame(TEXT, fin=False), INNER)
    assert (messages, written[2:4], closed) == ([], (1002).to_bytes(2, "big"), True)
    assert short == []


def test_text_that_is_no_utf8_is_1007(short: list[bytes]) -> None:
    read = keyed(TEXT, b"a\xff")
    messages, written, closed = Socket().hear(read, INNER)
    assert (messages, written[2:4], closed) == ([], (1007).to_bytes(2, "big"), True)
    assert short == [read]


def test_a_limit_below_a_short_message_holds() -> None:
    socket = Socket(limit=100)
    messages, written, closed = socket.hear(keyed(TEXT, b"x" * 100), keyed(TEXT, b"x" * 101))
    assert (messages, written[2:4], closed) == (["x" * 100], (1009).to_bytes(2, "big"), True)


TOO_LARGE = {
    "a frame": frame(TEXT, b"x" * 2000),
    "a bomb": frame(BINARY, deflated(bytes(1_000_000)), rsv=4),
}


@pytest.mark.parametrize("name", [*VIOLATIONS, *TOO_LARGE])
def test_the_log_says_why_a_socket_was_closed(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpuv_kernel")
    data, code = VIOLATIONS[name] if name in VIOLATIONS else (TOO_LARGE[name], 1009)
    Socket(1000, compresses=name in TOO_LARGE).hear(data, keyed(TEXT, b"behind"))
    said = [message for message in caplog.messages if "a WebSocket was" in message]
    assert [message.partition(": ")[0] for message in said] == [
        f"a WebSocket was closed with {code}"
    ]


GOES = [close_frame(1000), close_frame(4000, b"bye"), b"", frame(TEXT)]
GOES.append(frame(TEXT, fin=False) + close_frame(1000))


@pytest.mark.parametrize("data", GOES)
def test_how_a_client_goes_is_not_in_the_log(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpuv_kernel")
    socket = Socket()
    socket.hear(data)
    socket.connection.eof_received()
    assert "a WebSocket was" not in caplog.text


def test_what_follows_a_close_of_the_app_s_is_not_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "httpuv_kernel")
    socket = Socket()
    socket.connection.close_with(1000, "")
    socket.hear(VIOLATIONS["unmasked"][0])
    assert "a WebSocket was" not in caplog.text


def test_where_messages_are_compressed_one_may_not_be(short: list[bytes]) -> None:
    reads = [keyed(TEXT, b"a"), frame(TEXT, deflated(b"b"), rsv=4), keyed(TEXT, b"c")]
    assert Socket(compresses=True).hear(*reads)[0] == ["a", "b", "c"]
    assert short == []


# -- any frames, in any reads ----------------------------------------------------------------------

TEXTS = ["", "x", "größer €😀", "x" * 64, "x" * 125, "x" * 126, "€" * 50]


def some_frames(chance: random.Random) -> list[bytes]:
    """Of a client that may do something wrong."""
    frames: list[bytes] = []
    for _ in range(chance.randrange(1, 16)):
        data = chance.choice(TEXTS).encode()
        key = chance.randbytes(4)
        kind = chance.randrange(60)
        if kind < 40:
            opcode = chance.choice((TEXT, BINARY))
            frames.append(keyed(opcode, data, key) if len(data) < 126 else frame(opcode, data))
        elif kind < 46:
            cut = chance.randrange(len(data) + 1)
            between = [frame(PING, b"p")] * chance.randrange(2)
            frames += [frame(TEXT, data[:cut], fin=False), *between, frame(CONT, data[cut:])]
        elif kind < 50:
            frames.append(frame(chance.choice((PING, PONG)), data[:125]))
        elif kind < 54:
            frames.append(frame(BINARY, INNER * chance.randrange(1, 9)))
        elif kind == 54:
            frames.append(bytes([128 | BINARY, 128 | 126, 0, 1, 0, 0, 0, 0]) + b"x")
        elif kind == 55:
            frames.append(chance.choice(list(VIOLATIONS.values()))[0])
        elif kind == 56:
            frames.append(close_frame(3001, b"bye"))
        elif kind == 57:
            frames.append(keyed(TEXT, chance.randbytes(chance.randrange(126)), key))
    return frames


def some_reads(frames: list[bytes], chance: random.Random) -> Iterable[bytes]:
    """Most end where a frame ends, some elsewhere."""
    ends, place = {sum(map(len, frames))}, 0
    for each in frames:
        place += len(each)
        if chance.random() < 0.8:
            ends.add(place)
        if chance.random() < 0.2:
            ends.add(place - chance.randrange(len(each)))
        if each.endswith(INNER) and chance.random() < 0.5:
            ends.add(place - len(INNER))
    data, begin = b"".join(frames), 0
    for end in sorted(ends):
        if end > begin:
            yield data[begin:end]
        begin = end


def test_the_messages_and_the_close_are_those_of_the_library_alone(
    monkeypatch: pytest.MonkeyPatch, short: list[bytes]
) -> None:
    monkeypatch.setattr(websocket, "_WINDOW_BYTES", 2 * WS_MESSAGE_COST)  # so that reads wait, too

    def hear(seed: int) -> Heard:
        chance = random.Random(seed)
        socket = Socket(chance.choice([124, 125, 1 << 20, 1 << 20, 1 << 20]))
        handled = chance.choice([0.3, 1.0, 1.0])
        for read in some_reads(some_frames(chance), chance):
            socket.hear(read, handles=chance.random() < handled)
        return socket.hear()

    mixed = [hear(seed) for seed in range(600)]
    count = len(short)
    monkeypatch.setattr(WebSocketConnection, "_is_short_message", lambda *_: False)
    for seed, heard in enumerate(mixed):
        assert hear(seed) == heard, seed
    assert count > 500
