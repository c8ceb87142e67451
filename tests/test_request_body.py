"""A request's body: in memory, as a file, on disk."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import (
    Client,
    Deliveries,
    Serving,
    configure,
    in_thread,
    request,
    seen,
    wait_until,
    watched_deliveries,
)

from httpuv_kernel import Request, run_now
from httpuv_kernel.main.request import InputStream

# -- the body as a file ----------------------------------------------------------------------------

BODY = b"one\ntwo\r\nthree"


@pytest.fixture(params=["memory", "disk"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InputStream]:
    path = tmp_path / "body"
    path.write_bytes(BODY)
    with InputStream(BODY if request.param == "memory" else (str(path), len(BODY))) as stream:
        yield stream


def test_read_gives_all(stream: InputStream) -> None:
    assert stream.read() == BODY
    assert stream.read() == b""


def test_read_gives_some(stream: InputStream) -> None:
    assert [stream.read(2), stream.read(3), stream.read(-1)] == [b"on", b"e\nt", BODY[5:]]


def test_read_lines_gives_all_without_line_ends(stream: InputStream) -> None:
    assert stream.read_lines() == [b"one", b"two", b"three"]
    assert stream.read_lines() == []


def test_read_lines_gives_some(stream: InputStream) -> None:
    assert stream.read_lines(1) == [b"one"]
    assert stream.read_lines(0) == []
    assert stream.read_lines(5) == [b"two", b"three"]


def test_rewind_begins_anew(stream: InputStream) -> None:
    stream.read(5)
    stream.rewind()
    assert stream.read() == BODY


def test_it_is_a_binary_file(stream: InputStream) -> None:
    assert stream.readable()
    assert stream.seekable()
    assert not stream.writable()
    assert io.TextIOWrapper(io.BufferedReader(stream), "ascii").read() == "one\ntwo\nthree"


def test_it_is_iterated_by_line(stream: InputStream) -> None:
    assert list(stream) == [b"one\n", b"two\r\n", b"three"]


def test_its_length_is_the_body_s(stream: InputStream) -> None:
    assert len(stream) == len(BODY)


def test_rook_input_keeps_its_place() -> None:
    def look(request: Request) -> list[bytes]:
        return [request["rook.input"].read(1), request["rook.input"].read(1)]

    assert seen(look, "POST", body=b"ab") == [b"a", b"b"]


# -- bodies on disk --------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 5000


def on_disk(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.mark.parametrize("pieces", [None, 7], ids=["length", "chunks"])
def test_a_large_body_arrives_whole(body_directory: Path, pieces: int | None) -> None:
    body = LARGE if pieces is None else [LARGE[i::pieces] for i in range(pieces)]
    sent = LARGE if pieces is None else b"".join(body)  # type: ignore[arg-type]
    assert seen(lambda request: request.body, "POST", body=body) == sent


def test_a_large_body_is_on_disk_until_the_response(body_directory: Path) -> None:
    assert len(seen(lambda _: on_disk(body_directory), "POST", body=LARGE)) == 1
    wait_until(lambda: not on_disk(body_directory))


def test_a_body_of_one_mib_is_in_memory(body_directory: Path) -> None:
    assert seen(lambda _: on_disk(body_directory), "POST", body=bytes(1024 * 1024)) == []


def test_a_large_body_is_read_by_lines(body_directory: Path) -> None:
    lines = [b"line %d" % i for i in range(200_000)]
    assert seen(lambda r: r["rook.input"].read_lines(), "POST", body=b"\n".join(lines)) == lines


def test_a_large_body_has_gone_after_an_error(
    body_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(request: Request) -> None:
        request["rook.input"].read(1)
        raise ValueError("unread")

    assert Serving(app).ask("POST", body=LARGE).status == 500
    wait_until(lambda: not on_disk(body_directory))


def test_a_large_body_lasts_as_long_as_its_coroutine(body_directory: Path) -> None:
    async def app(request: Request) -> dict[str, object]:
        assert len(on_disk(body_directory)) == 1
        return {"body": str(len(request.body))}

    assert Serving(app).ask("POST", body=LARGE).text == str(len(LARGE))
    wait_until(lambda: not on_disk(body_directory))


@pytest.mark.parametrize("when", ["while it sends", "while it waits"])
def test_a_large_body_has_gone_when_the_client_left(body_directory: Path, when: str) -> None:
    with watched_deliveries() as deliveries:
        leave_with_a_body(deliveries, LARGE if when == "while it waits" else LARGE[:-1])
        wait_until(lambda: not on_disk(body_directory))


def leave_with_a_body(deliveries: Deliveries, body: bytes) -> None:
    """Send it to a server that expects all of LARGE, and leave."""
    serving = Serving(lambda _: {})
    head = request("POST", headers=[("Content-Length", len(LARGE))])

    def client(connection: Client) -> None:
        connection.send(head + body)
        deliveries.wait(connection.port, len(head + body))

    with serving.connect() as connection:
        port = connection.port
        in_thread(client, connection)
    in_thread(deliveries.wait_end, port)
    run_now()


def test_a_large_body_has_gone_when_its_server_stops(body_directory: Path) -> None:
    with watched_deliveries() as deliveries:
        serving = Serving(lambda _: {})
        whole = request("POST", body=LARGE)
        with serving.connect() as client:
            in_thread(client.send, whole)
            in_thread(deliveries.wait, client.port, len(whole))
            assert len(on_disk(body_directory)) == 1
            serving.server.stop()
            assert client.is_closed()
    wait_until(lambda: not on_disk(body_directory))


def test_from_which_size_bodies_are_on_disk_can_be_set(body_directory: Path) -> None:
    configure(spool_bytes=10)
    assert len(seen(lambda _: on_disk(body_directory), "POST", body=b"eleven bytes")) == 1


def test_no_room_for_a_body_is_a_507(body_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body_directory.rmdir()
    reply = Serving(lambda _: {}).ask("POST", body=LARGE)
    assert reply.status == 507
    assert re.search("room", reply.text)


def test_a_body_may_be_read_twice(body_directory: Path) -> None:
    def look(request: Request) -> bool:
        return request.body == request["rook.input"].read() == LARGE

    assert seen(look, "POST", body=LARGE)


def test_unread_files_are_closed(body_directory: Path) -> None:
    """A file that stays open would be a ResourceWarning, which is an error in these tests."""
    kept: list[Request] = []

    def app(request: Request) -> dict[str, object]:
        request["rook.input"].read(1)
        kept.append(request)
        return {}

    Serving(app).ask("POST", body=LARGE)
    assert kept[0].input.closed
