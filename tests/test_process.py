"""The network side in a process of its own: all is served as ever, and nothing is left of it."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import (
    Client,
    Closed,
    Serving,
    configure,
    during,
    in_thread,
    run_until_idle,
    serve_until,
    wait_until,
)
from kernels import get, is_free
from websocket import create_connection

from httpuv_kernel import (
    Request,
    StaticPath,
    broadcast,
    later,
    run_now,
    service,
    start_pipe_server,
    start_server,
    stop_all_servers,
)


@pytest.fixture(autouse=True)
def _in_a_process() -> None:
    configure(isolation="process")


def child() -> psutil.Process:
    """The network process of this one."""
    (found,) = children()
    return found


def children(pid: int | None = None) -> list[psutil.Process]:
    """Those of a process, by default of this one."""
    found = []
    for process in psutil.Process(pid).children():
        with suppress(psutil.Error):  # it has just ended
            if "network.child" in " ".join(process.cmdline()):
                found.append(process)
    return found


def is_restarted(first: psutil.Process) -> bool:
    """Whether another has taken its place."""
    found = children()
    return len(found) == 1 and found[0].pid != first.pid


# -- requests --------------------------------------------------------------------------------------


def test_requests_on_one_connection() -> None:
    serving = Serving(lambda request: {"body": f"{request.method} {request.path}"})
    paths = [f"/{i}" for i in range(50)]
    bodies = serving.run(lambda client: [client.ask("GET", path).text for path in paths])
    assert bodies == [f"GET {path}" for path in paths]


def test_it_runs_beside_a_network_thread() -> None:
    servers = [
        start_server("127.0.0.1", 0, lambda request: {"body": "x"}, isolation=isolation)
        for isolation in ("thread", "process", "thread")
    ]
    answers = during(lambda: [get(server.port).text for server in servers])
    assert answers == ["x"] * 3
    assert len(children()) == 1


@pytest.mark.parametrize("size", [0, 1, 100_000, 1_048_577, 5_000_000])
def test_a_body_there_and_back(size: int) -> None:
    body = os.urandom(size)
    serving = Serving(lambda request: {"body": request.body})
    assert serving.ask("POST", "/", body=body).body == body


@pytest.mark.parametrize("killed", [False, True], ids=["answered", "killed"])
def test_a_spooled_body_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []

    def app(request: Request) -> dict[str, str]:
        seen.append(len(list(tmp_path.rglob("httpuv-body-*"))))
        if killed:
            child().kill()
        return {"body": str(len(request.body))}

    serving = Serving(app)
    work = serving.begin(lambda client: client.ask("POST", "/", body=bytes(2_000_000)))
    if killed:
        with pytest.raises(Closed):
            work.finish()
        serving.server.stop()
    else:
        assert work.finish().text == "2000000"
    wait_until(lambda: not list(tmp_path.rglob("httpuv-body-*")))
    assert seen == [1]


def test_a_stream_of_100_mb_takes_little_memory() -> None:
    piece, count = bytes(1_000_000), 100
    serving = Serving(lambda request: {"body": (piece for _ in range(count))})

    def read(client: Client) -> int:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.read_head()
        return sum(map(len, iter(client.read_chunk, b"")))

    assert serving.run(read) == count * len(piece)
    assert child().memory_info().rss < 80_000_000


def test_a_slow_reader_holds_back_the_stream() -> None:
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        for _ in range(200):
            made += 1
            yield bytes(1_000_000)

    serving = Serving(lambda request: {"body": pieces()})
    with serving.connect(receive_buffer=4096) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        serve_until(lambda: made)
        run_until_idle()
        assert made <= 30
    serve_until(lambda: serving.server.status().connections == 0)


def test_static_files_are_served_without_the_main_thread(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("file")
    app = {"call": lambda request: {"body": "app"}, "static_paths": {"/s": StaticPath(tmp_path)}}
    server = start_server("127.0.0.1", 0, app)
    assert in_thread(get, server.port, "/s/a.txt").text == "file"
    server.remove_static_path("/s")
    assert during(get, server.port, "/s/a.txt").text == "app"


def test_replace_app_status_and_log() -> None:
    serving = Serving(lambda request: {"body": "old"})
    assert serving.ask().text == "old"
    serving.server.replace_app(lambda request: {"body": "new"})
    assert serving.ask("GET", "/x").text == "new"
    assert serving.server.status().requests == 2
    assert [entry.target for entry in serving.server.log()] == ["/", "/x"]


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with start_pipe_server(path, None, lambda request: {"body": "unix"}):

        def ask() -> str:
            with Client(path) as client:
                return client.ask().text

        assert during(ask) == "unix"
    assert not os.path.exists(path)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="is used by another"):
            start_server("127.0.0.1", taken.getsockname()[1], lambda request: {})
    assert children() == []


# -- WebSockets ------------------------------------------------------------------------------------


def test_broadcast_to_sockets_of_both_isolations() -> None:
    sockets: list[Any] = []

    def on_ws_open(ws: Any) -> None:
        sockets.append(ws)
        ws.on_message(lambda binary, message: broadcast(sockets, message))

    servers = [
        start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open}, isolation=isolation)
        for isolation in ("thread", "process")
    ]

    def run() -> list[Any]:
        urls = [f"ws://127.0.0.1:{server.port}/" for server in servers]
        clients = [create_connection(url, timeout=10) for url in urls]
        wait_until(lambda: len(sockets) == 2)
        for client in clients:
            client.send("from one")
        heard = [client.recv() for client in clients for _ in clients]
        for client in clients:
            client.close()
        return heard

    assert during(run) == ["from one"] * 4


def test_a_flood_of_messages_stays_in_order() -> None:
    def on_ws_open(ws: Any) -> None:
        ws.on_message(lambda binary, message: ws.send(message))

    server = start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open})

    def run() -> list[int]:
        client = create_connection(f"ws://127.0.0.1:{server.port}/", timeout=10)
        sender = threading.Thread(target=lambda: [client.send(str(i)) for i in range(5000)])
        sender.start()
        heard = [int(client.recv()) for _ in range(5000)]
        sender.join()
        client.close()
        return heard

    assert during(run) == list(range(5000))


def test_questions_of_other_threads_reorder_nothing() -> None:
    heard: list[int] = []

    def on_ws_open(ws: Any) -> None:
        ws.on_message(lambda binary, message: heard.append(int(message)))

    server = start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open})
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            server.status()

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()

    def run() -> None:
        client = create_connection(f"ws://127.0.0.1:{server.port}/", timeout=10)
        for i in range(3000):
            client.send(str(i))
        wait_until(lambda: len(heard) == 3000, 20)
        client.close()

    during(run)
    over.set()
    for thread in asking:
        thread.join()
    assert heard == list(range(3000))


# -- the main side beside it -----------------------------------------------------------------------


def test_waiting_for_callbacks_uses_no_processor() -> None:
    start_server("127.0.0.1", 0, lambda request: {})
    before = time.process_time()
    service(500)
    assert time.process_time() - before < 0.25


def test_later_fires_with_nothing_but_a_network_process() -> None:
    start_server("127.0.0.1", 0, lambda request: {})
    ran: list[int] = []
    for i in range(3):
        later(lambda i=i: ran.append(i), 0.05 * i)
    serve_until(lambda: ran == [0, 1, 2])


def test_what_it_logs_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpuv_kernel")
    serving = Serving(lambda request: {})
    assert b" 400 " in serving.exchange(b"GARBAGE\r\n\r\n")
    serve_until(lambda: "refused with 400" in caplog.text)
    (record,) = [record for record in caplog.records if "refused" in record.getMessage()]
    assert (record.name, record.levelno) == ("httpuv_kernel", logging.INFO)


def test_a_log_handler_may_ask_the_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpuv_kernel")
    serving = Serving(lambda request: {})
    statuses: list[Any] = []

    class Asks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "refused" in record.getMessage():
                statuses.append(serving.server.status())

    handler = Asks()
    logging.getLogger("httpuv_kernel").addHandler(handler)
    try:
        serving.exchange(b"GARBAGE\r\n\r\n")
        serve_until(lambda: statuses)
    finally:
        logging.getLogger("httpuv_kernel").removeHandler(handler)


def test_what_nobody_wants_logged_does_not_wake_the_main_side() -> None:
    server = start_server("127.0.0.1", 0, {"static_paths": {"/": "."}})
    service(50)
    for _ in range(3):
        in_thread(get, server.port, "/pyproject.toml")
    assert not run_now(0.05)


# -- its life --------------------------------------------------------------------------------------


def test_it_starts_quickly() -> None:
    begun = time.monotonic()
    start_server("127.0.0.1", 0, lambda request: {})
    assert time.monotonic() - begun < 2.0  # 0.2 s on a quiet machine


def test_it_ends_with_its_last_server_and_the_next_has_another() -> None:
    server = start_server("127.0.0.1", 0, lambda request: {})
    other = start_server("127.0.0.1", 0, lambda request: {})
    first = child()
    other.stop()
    assert child().pid == first.pid
    stop_all_servers()
    assert children() == []
    assert is_free(server.port)
    start_server("127.0.0.1", 0, lambda request: {})
    assert child().pid != first.pid


def test_nothing_is_left_of_many_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    start_server("127.0.0.1", 0, lambda request: {}).stop()
    before, threads = psutil.Process().num_fds(), threading.active_count()
    for _ in range(5):
        start_server("127.0.0.1", 0, lambda request: {}).stop()
    assert psutil.Process().num_fds() == before
    wait_until(lambda: threading.active_count() <= threads)
    assert list(tmp_path.iterdir()) == []


def test_it_inherits_nothing_else() -> None:
    with open(__file__) as secret, socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(secret.fileno(), True)
        os.set_inheritable(listening.fileno(), True)
        start_server("127.0.0.1", 0, lambda request: {})
        where = f"/proc/{child().pid}/fd"
        open_there = {int(fd): os.readlink(f"{where}/{fd}") for fd in os.listdir(where)}
        ours = {os.fstat(fd).st_ino for fd in (secret.fileno(), listening.fileno())}
        theirs = {os.stat(f"{where}/{fd}").st_ino for fd in open_there if fd > 2}
    assert open_there[0] == os.devnull
    assert ours & theirs == set()
    kinds = sorted(name.partition(":")[0].strip("[]") for fd, name in open_there.items() if fd > 2)
    # The link, the listening socket, and what the loop has of its own.
    assert set(kinds) <= {"anon_inode", "socket", "pipe", "/memfd", os.devnull}
    assert len(kinds) <= 14


def test_an_alarm_survives_its_network(caplog: pytest.LogCaptureFixture) -> None:
    start_server("127.0.0.1", 0, lambda request: {})
    ran: list[bool] = []
    later(lambda: ran.append(True), 0.3)
    service(20)
    child().kill()
    serve_until(lambda: ran)
    serve_until(lambda: "killed by signal 9" in caplog.text)
