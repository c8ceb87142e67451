"""Bodies that an app makes piece by piece, from generators of both kinds."""

from __future__ import annotations

import asyncio
import io
import logging
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers import Client, Closed, Reply, Serving, Work, request, run_until_idle, serve_until

from httpuv_kernel import Request, Response

KIB = 1024
MIB = 1024 * KIB

Make = Callable[[list[Any]], Any]


class Log(list[str]):
    """What a generator did."""


def plain(pieces: list[Any], log: Log | None = None) -> Iterator[Any]:
    try:
        for piece in pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        if log is not None:
            log.append("closed")


async def asynchronous(pieces: list[Any], log: Log | None = None) -> AsyncIterator[Any]:
    try:
        for piece in pieces:
            if isinstance(piece, BaseException):
                raise piece
            await asyncio.sleep(0)
            yield piece
    finally:
        if log is not None:
            log.append("closed")


kinds = pytest.mark.parametrize("make", [plain, asynchronous], ids=["plain", "async"])


def serving(body: Callable[[], object], **response: object) -> Serving:
    """A server with a stream at /, and something else elsewhere."""

    def app(request: Request) -> dict[str, object]:
        if request.path == "/other":
            return {"body": "other"}
        return {"body": body(), **response}

    return Serving(app)


# -- framing ---------------------------------------------------------------------------------------


@kinds
def test_each_piece_is_a_chunk(make: Make) -> None:
    def client(connection: Client) -> tuple[Reply, list[bytes]]:
        connection.send(request())
        return connection.read_head(), [connection.read_chunk() for _ in range(5)]

    head, chunks = serving(lambda: make(["ä", b"b", "", bytearray(b"c"), memoryview(b"d")])).run(
        client
    )
    assert head["transfer-encoding"] == "chunked"
    assert not head.has("content-length")
    assert chunks == ["ä".encode(), b"b", b"c", b"d", b""]


@kinds
@pytest.mark.parametrize("pieces", [[], ["", ""]], ids=["none", "empty"])
def test_a_stream_without_content(make: Make, pieces: list[Any]) -> None:
    reply = serving(lambda: make(pieces)).ask()
    assert (reply.status, reply.body) == (200, b"")


@kinds
def test_the_connection_lives_after_a_stream(make: Make) -> None:
    def client(connection: Client) -> list[str]:
        return [connection.ask().text, connection.ask().text]

    assert serving(lambda: make(["a", "b"])).run(client) == ["ab", "ab"]


@kinds
def test_to_http10_until_the_connection_closes(make: Make) -> None:
    raw = serving(lambda: make(["a", "b"])).exchange(request(version="HTTP/1.0"))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == b"ab"
    assert b"Connection: close" in head
    assert b"Transfer-Encoding" not in head


@kinds
def test_a_declared_length_is_kept(make: Make) -> None:
    def client(connection: Client) -> tuple[Reply, str]:
        return connection.ask(), connection.ask(target="/other").text

    reply, other = serving(lambda: make(["ab", "c"]), headers={"Content-Length": 3}).run(client)
    assert reply["content-length"] == "3"
    assert not reply.has("transfer-encoding")
    assert (reply.text, other) == ("abc", "other")


@kinds
@pytest.mark.parametrize(
    ("length", "text"), [(5, "longer than its Content-Length"), (7, "shorter than its")]
)
@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_another_length_than_declared_cuts(
    make: Make, length: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = serving(lambda: make(["abc", "def"]), headers={"Content-Length": length})
    with pytest.raises(Closed):
        served.ask()
    assert text in caplog.text


@kinds
def test_thousands_of_pieces_arrive_in_order(make: Make) -> None:
    pieces = [f"{i}," for i in range(5000)]
    assert serving(lambda: make(pieces)).ask().text == "".join(pieces)


@kinds
def test_a_large_piece_arrives_whole(make: Make) -> None:
    piece = bytes(range(256)) * 4 * 4096
    assert serving(lambda: make([piece, b"end"])).ask().body == piece + b"end"


@kinds
def test_a_piece_is_sent_before_the_next_is_made(make: Make) -> None:
    got: list[bytes] = []

    def pieces() -> Iterator[str]:
        yield "first"
        got.append(connection.read_head().reason.encode())
        got.append(connection.read_chunk())
        yield "second"

    async def pieces_async() -> AsyncIterator[str]:
        for piece in pieces():
            yield piece

    served = serving(pieces if make is plain else pieces_async)
    with served.connect(timeout=3) as connection:
        connection.send(request())
        serve_until(lambda: len(got) == 2)
        assert got == [b"OK", b"first"]


def test_a_file_like_body() -> None:
    content = bytes(range(256)) * 1000
    assert serving(lambda: io.BytesIO(content)).ask().body == content


def test_a_text_file_like_body() -> None:
    assert serving(lambda: io.StringIO("line\n" * 3)).ask().text == "line\n" * 3


def test_a_coroutine_may_return_a_stream() -> None:
    async def app(request: Request) -> Response:
        return Response(body=asynchronous(["a", "b"]))

    assert Serving(app).ask().text == "ab"


def test_an_object_with_aiter() -> None:
    class Feed:
        def __aiter__(self) -> AsyncIterator[str]:
            return asynchronous(["a", "b"])

    assert serving(Feed).ask().text == "ab"


# -- no body ---------------------------------------------------------------------------------------


def endless() -> Iterator[bytes]:
    while True:
        yield bytes(1000)


async def endless_async() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0)
        yield bytes(1000)


@kinds
def test_head_gets_no_piece(make: Make) -> None:
    def client(connection: Client) -> tuple[Reply, str]:
        return connection.ask("HEAD"), connection.ask(target="/other").text

    reply, other = serving(lambda: make(["a", "b"])).run(client)
    assert (reply.status, other) == (200, "other")


@pytest.mark.parametrize("body", [endless, endless_async])
def test_head_ends_a_stream_that_would_not_end(body: Callable[[], object]) -> None:
    def ask_both(client: Client) -> str:
        client.ask("HEAD")
        return client.ask(target="/other").text

    served = serving(body)
    with served.connect(timeout=2) as client:
        assert Work(ask_both, client).finish() == "other"


def test_204_has_no_piece() -> None:
    def client(connection: Client) -> tuple[int, str]:
        return connection.ask().status, connection.ask(target="/other").text

    assert serving(lambda: plain(["a"]), status=204).run(client) == (204, "other")


# -- gzip ------------------------------------------------------------------------------------------

HTML = {"Content-Type": "text/html"}
GZIP = [("Accept-Encoding", "gzip")]


@kinds
def test_a_compressed_stream(make: Make) -> None:
    reply = serving(lambda: make(["a" * 500, "b" * 500]), headers=HTML).ask(headers=GZIP)
    assert reply["content-encoding"] == "gzip"
    assert reply["vary"] == "Accept-Encoding"
    assert reply.unzipped == b"a" * 500 + b"b" * 500


def test_a_compressed_piece_can_be_read_at_once() -> None:
    def client(connection: Client) -> list[bytes]:
        connection.send(request(headers=GZIP))
        connection.read_head()
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        return [inflate.decompress(connection.read_chunk()) for _ in range(2)]

    assert serving(lambda: plain(["one", "two"]), headers=HTML).run(client) == [b"one", b"two"]


def test_a_compressed_stream_has_no_declared_length() -> None:
    headers = {**HTML, "Content-Length": 1000}
    reply = serving(lambda: plain(["a" * 1000]), headers=headers).ask(headers=GZIP)
    assert not reply.has("content-length")
    assert reply.unzipped == b"a" * 1000


def test_events_are_not_compressed() -> None:
    headers = {"Content-Type": "text/event-stream"}
    reply = serving(lambda: plain(["data: a\n\n"]), headers=headers).ask(headers=GZIP)
    assert reply.text == "data: a\n\n"


# -- errors ----------------------------------------------------------------------------------------


@kinds
def test_an_error_before_the_first_piece_is_a_500(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    def client(connection: Client) -> list[int]:
        return [connection.ask().status, connection.ask(target="/other").status]

    assert serving(lambda: make([ValueError("early")])).run(client) == [500, 200]
    assert "ValueError: early" in capsys.readouterr().err


@kinds
def test_an_error_after_a_piece_cuts(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Closed):
        serving(lambda: make(["a", ValueError("late")])).ask()
    assert "ValueError: late" in capsys.readouterr().err


@kinds
def test_what_came_before_an_error_arrives(make: Make) -> None:
    served = serving(lambda: make([*"abcde", ValueError("late")]))

    def client(connection: Client) -> list[bytes]:
        connection.send(request())
        connection.read_head()
        pieces = [connection.read_chunk() for _ in range(5)]
        with pytest.raises(Closed):
            connection.read_chunk()
        return pieces

    for _ in range(20):  # whatever of it is written in one turn
        assert served.run(client) == [b"a", b"b", b"c", b"d", b"e"]


@kinds
def test_to_http10_an_error_after_a_piece_resets(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of the connection would be the regular end."""
    served = serving(lambda: make(["a", ValueError("late")]))

    def client(connection: Client) -> None:
        connection.send(request(version="HTTP/1.0"))
        while connection.socket.recv(1000):
            pass

    with pytest.raises(ConnectionResetError):
        served.run(client)


@kinds
@pytest.mark.parametrize("piece", [5, None, ["a"], object()], ids=["int", "none", "list", "object"])
def test_a_piece_of_another_type_is_named(
    make: Make, piece: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serving(lambda: make([piece])).ask().status == 500
    assert repr(piece) in capsys.readouterr().err


@kinds
def test_a_piece_of_another_type_closes_the_generator(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    with pytest.raises(Closed):
        serving(lambda: make(["a", 5, "b"], log)).ask()
    serve_until(lambda: log)
    assert log == ["closed"]


@kinds
def test_sys_exit_in_a_stream_is_an_error(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    assert serving(lambda: make([SystemExit(3)])).ask().status == 500
    assert "SystemExit" in capsys.readouterr().err


# -- clients that leave ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@kinds
def test_a_generator_is_closed_when_the_client_leaves(make: Make, how: str) -> None:
    log = Log()
    served = serving(lambda: make([bytes(1000)] * 10**6, log))
    with served.connect() as client:
        client.send(request())
        Work(client.read_head).finish()
        if how == "reset":
            client.reset()
    serve_until(lambda: log)
    assert log == ["closed"]


@kinds
def test_a_generator_that_waits_for_the_client_is_closed_when_it_leaves(make: Make) -> None:
    log = Log()
    served = serving(lambda: make([bytes(100 * KIB)] * 1000, log))
    with served.connect(receive_buffer=4096) as client:
        client.send(request())
        run_until_idle()
        assert log == []
    serve_until(lambda: log)
    assert log == ["closed"]


def test_a_generator_whose_close_fails_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ""

    def body() -> Iterator[bytes]:
        try:
            yield from endless()
        finally:
            raise LookupError("while closing")

    with serving(body).connect() as client:
        client.send(request())
        Work(client.read_head).finish()

    def has_shown() -> bool:
        nonlocal shown
        shown += capsys.readouterr().err
        return "LookupError: while closing" in shown

    serve_until(has_shown)


def test_a_half_closed_client_gets_the_rest() -> None:
    def client(connection: Client) -> tuple[list[bytes], bytes]:
        connection.send(request())
        connection.read_head()
        first = connection.read_chunk()
        connection.finish_sending()
        return [first, *iter(connection.read_chunk, b"")], b""

    chunks, _ = serving(lambda: plain(["a"] * 2000)).run(client)
    assert b"".join(chunks) == b"a" * 2000


# -- back-pressure ---------------------------------------------------------------------------------


def counted(made: list[int], count: int) -> Iterator[bytes]:
    for i in range(count):
        made.append(i)
        yield bytes(64 * KIB)


async def counted_async(made: list[int], count: int) -> AsyncIterator[bytes]:
    for piece in counted(made, count):
        yield piece


@pytest.mark.parametrize("make", [counted, counted_async], ids=["plain", "async"])
def test_a_generator_waits_for_a_client_that_does_not_read(make: Any) -> None:
    made: list[int] = []
    count = 1024
    served = serving(lambda: make(made, count))
    with served.connect(receive_buffer=16 * KIB) as client:
        client.send(request())
        run_until_idle()
        # Our window and the transport's, and what the system keeps for a socket: at most 4 MiB.
        assert len(made) * 64 * KIB < 6 * MIB
        assert len(Work(client.read_reply).finish().body) == count * 64 * KIB


def test_others_are_served_while_a_stream_waits() -> None:
    served = serving(lambda: counted([], 1024))
    with served.connect(receive_buffer=16 * KIB) as client:
        client.send(request())
        run_until_idle()
        assert served.ask(target="/other").text == "other"


def test_others_are_served_while_a_stream_runs() -> None:
    served = serving(endless)
    with served.connect() as client:
        client.send(request())
        Work(client.read_head).finish()
        drain = Work(client.read_all)
        assert [served.ask(target="/other").text for _ in range(5)] == ["other"] * 5
        served.server.stop()
        drain.finish()


def test_two_streams_share_the_main_thread() -> None:
    served = serving(lambda: plain(["a"] * 1000))
    works = [served.begin(lambda client: client.ask().text) for _ in range(2)]
    assert [work.finish() for work in works] == ["a" * 1000] * 2


def test_nothing_is_logged_of_a_regular_stream(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "httpuv_kernel"):
        serving(lambda: plain(["a", "b"])).ask()
    assert caplog.text == ""
