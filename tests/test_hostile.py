"""Clients that send too much, too small, or leave: others are served, and nothing stays behind."""

from __future__ import annotations

import itertools
import os
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    Client,
    Serving,
    Work,
    configure,
    in_thread,
    request,
    run_until_idle,
    serve_until,
    wait_until,
)

from httpuv_kernel import HTTPUV, Request, WebSocket, static_path
from httpuv_kernel.messages import TCP
from httpuv_kernel.network import body
from httpuv_kernel.network.binding import bind
from httpuv_kernel.network.body import BodyBuffer
from httpuv_kernel.network.exchange import Exchange
from httpuv_kernel.network.gate import Gate
from httpuv_kernel.network.known import KnownRequests
from httpuv_kernel.network.reading import RequestReader

UPGRADE = request("POST", "/", [("Connection", "Upgrade"), ("Upgrade", "h2c")], b"a")
WEBSOCKET: list[tuple[str, object]] = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
WEBSOCKET += [("Sec-WebSocket-Version", 13), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
MIB = 1024 * 1024


def echo(request: Request) -> dict[str, object]:
    return {"body": b"%s %d" % (request.path.encode(), len(request.body))}


# -- too much at once ------------------------------------------------------------------------------


def test_a_pipeline_of_a_thousand_is_answered_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    serving = Serving({"call": echo, "static_paths": {"/f": str(tmp_path)}})
    data = b"".join(
        request(target="/f/a") if i % 2 else request("POST", f"/{i}", body=b"abc")
        for i in range(1000)
    )

    def client(connection: Client) -> list[bytes]:
        connection.send(data)
        return [connection.read_reply().body for _ in range(1000)]

    wanted = [b"file" if i % 2 else b"/%d 3" % i for i in range(1000)]
    assert serving.run(client) == wanted


def test_a_pipeline_that_ends_at_once_is_answered_from_disk(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    serving = Serving({"static_paths": {"/": str(tmp_path)}})
    answer = serving.exchange(request(target="/a") * 5000, half_close=True)
    assert answer.count(b"HTTP/1.1 200 ") == 5000


def test_many_upgrades_with_bodies() -> None:
    """Each has a parser of its own; once they were nested."""

    def client(connection: Client) -> set[bytes]:
        connection.send(UPGRADE * 3000)
        return {connection.read_reply().body for _ in range(3000)}

    assert Serving(echo).run(client) == {b"/ 1"}


def test_upgrades_are_not_nested() -> None:
    class Sink:
        """Counts bodies."""

        count = 0

        def head_begun(self) -> None:
            pass

        def request_read(self, exchange: Exchange) -> None:
            pass

        def body_read(self, exchange: Exchange) -> None:
            self.count += 1

        body_refused = request_read

    sink = Sink()
    limits = HTTPUV.instance().limits()
    reader = RequestReader(sink, limits, Gate(None), KnownRequests(limits.header_bytes))
    data = UPGRADE * 3000
    while data:
        data = reader.feed(data)
    assert sink.count == 3000


def test_what_stands_behind_an_unanswered_request_is_not_parsed() -> None:
    serving = Serving(echo)
    with serving.connect() as client:
        small = request()
        in_thread(client.send, small * 5000)
        wait_until(lambda: serving.server.status().waiting)
        assert in_thread(_ask, serving.port).status == 403
        assert serving.server.status().requests <= 16 * 1024 // len(small) + 2
        assert Work(_read, client, 5000).finish() == {200}


def _ask(port: int) -> Any:
    """Something that needs no callback."""
    with Client(port) as client:
        return client.ask("GET", "/__httpuv__/none")


def _read(client: Client, count: int) -> set[int]:
    return {client.read_reply().status for _ in range(count)}


def test_others_have_their_turn_in_a_flood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("file")
    feeds: list[tuple[RequestReader, int]] = []
    feed = RequestReader.feed

    def watched(self: RequestReader, data: bytes) -> bytes:
        feeds.append((self, len(data)))
        return feed(self, data)

    monkeypatch.setattr(RequestReader, "feed", watched)
    configure(isolation="thread")
    serving = Serving({"static_paths": {"/": str(tmp_path)}})
    flood = request(target="/a") * 10_000

    def client(_: Client) -> None:
        with serving.connect() as greedy, serving.connect() as other:
            sending = Work(greedy.send, flood)
            for _ in range(50):
                assert other.ask("GET", "/a").body == b"file"
            assert _read(greedy, 10_000) == {200}
            sending.result()

    serving.run(client)
    assert max(size for _, size in feeds) <= 16 * 1024


# -- too small -------------------------------------------------------------------------------------


def test_chunks_of_a_byte_take_the_memory_of_their_body() -> None:
    configure(isolation="thread")  # it is this process whose memory is measured
    serving = Serving(echo)
    size = 900_000
    head = request("POST", headers=[("Transfer-Encoding", "chunked")])
    with serving.connect() as client:
        tracemalloc.start()
        try:
            in_thread(client.send, head + b"1\r\na\r\n" * size)
            in_thread(_ask, serving.port)
            client.send(b"0\r\n\r\n")
            assert Work(client.read_reply).finish().body == b"/ %d" % size
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 20 * MIB  # of it 6 are what the client sends


@pytest.mark.parametrize("size", [1, 7, 1000, 65536, 100_000])
def test_a_body_in_pieces_is_whole(body_directory: Path, size: int) -> None:
    data = os.urandom(300_000)
    for spool in (1000, 1_000_000):
        buffer = BodyBuffer(spool)
        for start in range(0, len(data), size):
            buffer.append(data[start : start + size])
        buffer.end()
        found = buffer.finish()
        if isinstance(found, bytes):
            assert (spool, found) == (1_000_000, data)
        else:
            assert (found[1], Path(found[0]).read_bytes()) == (len(data), data)
        buffer.discard()
    assert list(body_directory.iterdir()) == []


class Nearly:
    """A file on a disk that takes a part of what is written, as a disk may that is nearly full."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.writes = 0

    def write(self, data: Any) -> int:
        self.writes += 1
        return int(self._file.write(data[: max(1, len(data) // 2)]))

    def close(self) -> None:
        self._file.close()


def test_what_a_disk_takes_in_parts_is_whole(
    body_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[Nearly] = []

    def opened(*args: Any, **kwargs: Any) -> Nearly:
        files.append(Nearly(open(*args, **kwargs)))  # noqa: SIM115
        return files[-1]

    monkeypatch.setattr(body.os, "fdopen", opened)  # type: ignore[attr-defined]
    data = os.urandom(200_000)
    buffer = BodyBuffer(10)
    for i in range(0, len(data), 10):
        buffer.append(data[i : i + 10])
    buffer.end()
    path, size = buffer.finish()
    assert (size, Path(path).read_bytes()) == (len(data), data)  # type: ignore[arg-type]
    assert files[0].writes < 100
    buffer.discard()


def test_a_body_whose_end_has_no_room_is_a_507(
    body_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: BodyBuffer) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BodyBuffer, "end", full)
    configure(spool_bytes=10, isolation="thread")
    calls: list[Request] = []
    answer = Serving(calls.append).exchange(request("POST", body=bytes(100)) + request())
    assert answer.startswith(b"HTTP/1.1 507 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert calls == []
    wait_until(lambda: not list(body_directory.iterdir()))


# -- too many --------------------------------------------------------------------------------------


def test_a_flood_of_clients_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    configure(connections=10)
    serving = Serving(echo)
    descriptors = len(os.listdir("/proc/self/fd"))
    clients: list[Client] = []
    with serving.connect() as first:
        assert Work(first.ask).finish().status == 200
        most = 0
        for _ in range(600):
            try:
                clients.append(serving.connect())
            except ConnectionError:
                continue
            most = max(most, serving.server.status().connections)
        assert most <= 10 + 100 + 1
        assert caplog.text.count("10 connections are open") < 10
        assert Work(first.ask).finish().status == 200
    for client in clients:
        client.socket.close()
    wait_until(lambda: serving.server.status().connections == 0)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def test_a_client_that_takes_nothing_costs_the_system_little() -> None:
    """What a socket holds for it, beside what it takes in hand."""
    (binding,) = bind((TCP, [("127.0.0.1", 0)]))
    binding.sock.listen()
    with Client(binding.port, receive_buffer=4096), binding.sock:
        server, _ = binding.sock.accept()
        with server:
            server.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while True:
                    sent += server.send(bytes(64 * 1024))
    assert sent < MIB  # without the limit some 2.5 MiB


# -- leaving ---------------------------------------------------------------------------------------

PHASES = {
    "connected": b"",
    "in a header block": b"GET / HTTP/1.1\r\nHost: loc",
    "in a body": request("POST", headers=[("Content-Length", 1000)]) + bytes(10),
    "in a spooled body": request("POST", headers=[("Content-Length", 900_000)]) + bytes(500_000),
    "in a chunk": request("POST", headers=[("Transfer-Encoding", "chunked")]) + b"ff\r\nabc",
    "in trailers": request("POST", headers=[("Transfer-Encoding", "chunked")]) + b"0\r\nX: y",
    "before 100": request("POST", headers=[("Expect", "100-continue"), ("Content-Length", 9)]),
    "refused": b"nonsense\r\n\r\n" + bytes(10),
    "waiting": request(),
    "waiting with others behind": request() * 2000,
    "in a stream": request(target="/stream"),
    "in a large file": request(target="/f/large"),
    "behind a large file": request(target="/f/large") * 2000,
    "in a handshake": request(target="/ws", headers=WEBSOCKET),
    "in a frame": request(target="/ws", headers=WEBSOCKET) + b"\x82\xfe\xff\xff",
}


def endless() -> Iterator[bytes]:
    return itertools.repeat(bytes(50_000))


def busy(request: Request) -> dict[str, object]:
    return {"body": endless()} if request.path == "/stream" else {"body": "x"}


def opened(ws: WebSocket) -> None:
    ws.on_message(lambda binary, message: ws.send(message))


@pytest.mark.parametrize("serves", [False, True], ids=["busy kernel", "idle kernel"])
@pytest.mark.parametrize("how", ["reset", "close", "half"])
@pytest.mark.parametrize("phase", PHASES)
def test_who_leaves_leaves_nothing_behind(
    tmp_path: Path,
    body_directory: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    phase: str,
    how: str,
    serves: bool,
) -> None:
    configure(spool_bytes=100_000, linger_timeout=0.05)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(30 * MIB)
    app = {"call": busy, "on_ws_open": opened, "static_paths": {"/f": static_path(tmp_path)}}
    serving = Serving(app)
    assert serving.ask().status == 200
    wait_until(lambda: serving.server.status().connections == 0)
    descriptors = len(os.listdir("/proc/self/fd"))
    with serving.connect() as client:
        client.socket.setblocking(False)
        client.socket.send(PHASES[phase])
        wait_until(lambda: serving.server.status().connections == 1)
        if serves:
            run_until_idle(0.01)
        if how == "reset":
            client.reset()
        elif how == "half":
            client.finish_sending()
            client.socket.settimeout(0.05)
            with suppress(OSError):  # reads a little of what comes, then leaves
                client.socket.recv(1000)
    serve_until(lambda: serving.server.status().connections == 0)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert serving.ask().status == 200
    assert list(body_directory.glob("httpuv-body-*")) == []
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


# -- endless and inflated --------------------------------------------------------------------------


def test_an_endless_stream_is_compressed_as_it_is_read() -> None:
    closed: list[bool] = []
    made = itertools.count()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                next(made)
                yield os.urandom(30_000)
        finally:
            closed.append(True)

    def app(request: Request) -> dict[str, object]:
        return {"headers": {"Content-Type": "text/plain"}, "body": pieces()}

    serving = Serving(app)
    with serving.connect(receive_buffer=16 * 1024) as client:
        client.send(request(headers=[("Accept-Encoding", "gzip")]))
        head = Work(client.read_head).finish()
        assert head["content-encoding"] == "gzip"
        first = Work(client.read_chunk).finish()
        assert zlib.decompressobj(wbits=31).decompress(first)
        run_until_idle(0.2)
        assert next(made) < 400  # 12 MB: what the window and the system's buffers hold
    serve_until(lambda: closed)


def test_a_compression_bomb_stops_at_the_limit() -> None:
    """A frame of 1 MiB that would become 1 GiB."""
    configure(isolation="thread")
    closed: list[int | None] = []

    def on_ws_open(ws: WebSocket) -> None:
        ws.on_close(lambda: closed.append(ws.close_code))

    compressor = zlib.compressobj(wbits=-15, level=9)
    block = bytes(16 * MIB)
    payload = b"".join(compressor.compress(block) for _ in range(64))
    payload += compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    assert 1_000_000 < len(payload) < 1_200_000
    head = b"\xc2\xff" + len(payload).to_bytes(8, "big") + bytes(4)
    headers = [*WEBSOCKET, ("Sec-WebSocket-Extensions", "permessage-deflate")]
    serving = Serving({"on_ws_open": on_ws_open})

    def client(connection: Client) -> bytes:
        connection.send(request(headers=headers))
        assert connection.read_head().status == 101
        tracemalloc.start()
        with suppress(ConnectionError):
            connection.send(head + payload)
        return connection.read_exactly(4)

    try:
        first = serving.run(client)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (first[0], int.from_bytes(first[2:], "big")) == (0x88, 1009)
    assert peak < 80 * MIB  # the limit of a message is 16 MiB
    serve_until(lambda: closed)


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("follow", [True, "inside", False])
@pytest.mark.parametrize(
    "target",
    [
        "/../secret",
        "/%2e%2e/secret",
        "/a/../../secret",
        "/..%2fsecret",
        "/..%5csecret",
        "/..\\secret",
        "//../secret",
        "/%2fetc/passwd",
        "//etc/passwd",
        "/a/..;/../secret",
        "/.%00./secret",
    ],
)
def test_to_follow_links_opens_no_dots(tmp_path: Path, target: str, follow: Any) -> None:
    """As CVE-2024-23334 did."""
    (tmp_path / "pub/a").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    paths = {"/": static_path(tmp_path / "pub", follow_symlinks=follow, listing=True)}
    reply = Serving({"static_paths": paths}).ask(target=target)
    assert reply.status == 404
    assert "secret" not in reply.text
