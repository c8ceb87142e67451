"""What `Server.log()` says of each request, however it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import (
    Client,
    Reply,
    Serving,
    configure,
    in_thread,
    request,
    run_until_idle,
    serve_until,
    wait_until,
)
from websocket_peer import UPGRADE

from httpuv_kernel import LogEntry, Request, WebServer, start_server

LARGE = 32 * 1024 * 1024
PIECE = b"x" * 1000


def only(server: WebServer) -> LogEntry:
    """The one entry, once it is there; no callback runs meanwhile."""
    wait_until(server.log)
    (entry,) = server.log()
    return entry


# -- whole responses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "size"),
    [
        pytest.param(request(target="/whole?a=1"), 200, 5, id="from memory"),
        pytest.param(request(target="/pieces"), 200, 3000, id="streamed"),
        pytest.param(request("HEAD", "/whole"), 200, 0, id="HEAD"),
        pytest.param(request(target="/nothing"), 204, 0, id="no body"),
        pytest.param(request("POST", body=[b"x" * 200]), 413, 0, id="refused"),
    ],
)
def test_a_whole_response(data: bytes, status: int, size: int) -> None:
    def app(request: Request) -> dict[str, object]:
        if request.path == "/nothing":
            return {"status": 204}
        return {"body": [PIECE] * 3 if request.path == "/pieces" else "whole"}

    configure(body_bytes=100)
    serving = Serving(app)

    def client(connection: Client) -> Reply:
        connection.send(data)
        return connection.read_reply(data.split()[0].decode())

    assert serving.run(client).status == status
    entry = only(serving.server)
    assert (entry.status, entry.size, entry.client) == (status, size, "127.0.0.1")
    assert [entry.method, entry.target] == data.decode().split()[:2]
    assert 0 <= entry.waited <= entry.seconds


def test_requests_of_one_connection_are_in_their_order() -> None:
    serving = Serving(lambda request: {"body": "a"})
    serving.run(lambda client: [client.ask(target=f"/{i}") for i in range(30)])
    assert [entry.target for entry in serving.server.log()] == [f"/{i}" for i in range(10, 30)]
    assert [entry.target for entry in serving.server.log(2)] == ["/28", "/29"]
    assert serving.server.log(0) == []


# -- responses that are cut ------------------------------------------------------------------------


def forever() -> Iterator[bytes]:
    while True:
        yield PIECE


def fails() -> Iterator[bytes]:
    yield PIECE
    raise ValueError("in the middle")


@pytest.mark.parametrize("body", [forever, fails], ids=["client leaves", "generator raises"])
def test_a_stream_that_is_cut_has_the_bytes_so_far(body: Callable[[], object]) -> None:
    serving = Serving(lambda request: {"body": body()})

    def client(connection: Client) -> None:
        connection.send(request(target="/stream"))
        connection.read_exactly(1000)

    serving.run(client)
    serve_until(serving.server.log)
    entry = only(serving.server)
    assert (entry.status, entry.target) == (200, "/stream")
    assert entry.size >= len(PIECE)
    assert entry.size % len(PIECE) == 0


def test_a_file_that_is_cut_has_the_bytes_so_far(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGE)
    server = start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}})

    def client() -> None:
        with Client(server.port, receive_buffer=4096) as connection:
            connection.send(request(target="/large"))
            connection.read_exactly(100_000)

    in_thread(client)
    entry = only(server)
    assert (entry.status, entry.target) == (200, "/large")
    assert 100_000 <= entry.size < LARGE


# -- clients that leave ----------------------------------------------------------------------------

LEAVES = {
    "waits": request(target="/a"),
    "sends its body": request("POST", "/a", [("Content-Length", 10)]) + b"12345",
    "waits for a socket": request(target="/a", headers=UPGRADE),
}


class App:
    """One that may be asked for everything."""

    def call(self, request: Request) -> dict[str, object]:
        return {"body": "late"}

    def on_ws_open(self, ws: object) -> None:
        pass


@pytest.mark.parametrize("how", [Client.finish_sending, Client.reset], ids=["closes", "resets"])
@pytest.mark.parametrize("data", LEAVES.values(), ids=LEAVES)
def test_a_client_that_leaves_before_its_response(
    data: bytes, how: Callable[[Client], None]
) -> None:
    server = start_server("127.0.0.1", 0, App())
    with Client(server.port) as client:
        client.send(data)
        wait_until(lambda: server.status().requests)
        how(client)
        entry = only(server)
    assert (entry.status, entry.size, entry.target) == (499, 0, "/a")
    run_until_idle()
    assert only(server).status == 499  # and nothing more
    assert server.status().waiting == 0


def test_a_client_that_leaves_after_its_response_is_logged_once() -> None:
    serving = Serving(lambda request: {"body": "a"})
    serving.ask(target="/a")
    wait_until(lambda: serving.server.status().connections == 0)
    assert only(serving.server).status == 200


# -- the logger ------------------------------------------------------------------------------------


@pytest.mark.thread_only("its log lines come when the main thread looks")
@pytest.mark.parametrize("wanted", [True, False], ids=["wanted", "not wanted"])
def test_the_logger_says_the_same(wanted: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpuv_kernel.access")
    server = start_server("127.0.0.1", 0, App(), access_log=wanted)
    with Client(server.port) as client:
        client.send(LEAVES["waits"])
        wait_until(lambda: server.status().requests)
    only(server)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines] == (
        ["127.0.0.1 GET /a 499"] if wanted else []
    )
