"""A server that is stopped: what is on its way gets out, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.harness import Peer, _Transport
from helpers import (
    Client,
    Closed,
    Serving,
    Work,
    configure,
    in_thread,
    request,
    run_until_idle,
    serve_until,
    wait_until,
)
from kernels import is_free

from httpuv_kernel import Request, later, list_servers
from httpuv_kernel.network.http1 import Connection

LARGE = 16 * 1024 * 1024


@pytest.fixture
def files(tmp_path: Path) -> Serving:
    configure(stop_timeout=20.0)
    (tmp_path / "f.bin").write_bytes(b"1" * LARGE)
    return Serving({"static_paths": {"/": str(tmp_path)}})


def begin_download(client: Client) -> None:
    client.send(request(target="/f.bin"))
    in_thread(client.read_head)


def test_a_response_on_its_way_gets_out(files: Serving) -> None:
    with files.connect(receive_buffer=65536) as client:
        begin_download(client)
        download = Work(client.read_all)
        files.server.stop()
        assert download.result() == b"1" * LARGE
    assert is_free(files.port)


def test_a_large_body_from_memory_gets_out() -> None:
    configure(stop_timeout=20.0)
    serving = Serving(lambda request: {"body": b"1" * LARGE})
    with serving.connect() as client:
        client.send(request())
        run_until_idle(0.1)
        download = Work(client.read_all)
        serving.server.stop()
        assert download.result().endswith(b"1" * LARGE)


def test_who_comes_meanwhile_is_not_let_in(files: Serving) -> None:
    with files.connect(receive_buffer=65536) as client, files.connect() as idle:
        begin_download(client)
        stop = threading.Thread(target=files.server.stop)
        stop.start()
        assert in_thread(idle.is_closed)
        wait_until(lambda: is_free(files.port))
        assert files.server.is_running
        assert stop.is_alive()
        in_thread(client.read_all)
        stop.join(5)
    assert list_servers() == []


def test_a_client_that_takes_nothing_is_cut_in_time(files: Serving) -> None:
    with files.connect(receive_buffer=4096) as client:
        begin_download(client)
        begun = time.monotonic()
        files.server.stop(timeout=0.2)
        assert time.monotonic() - begun < 10
        with pytest.raises(Closed):
            in_thread(client.read_exactly, LARGE)


def test_its_timeout_may_be_none_at_all(files: Serving) -> None:
    with files.connect(receive_buffer=4096) as client:
        begin_download(client)
        files.server.stop(timeout=0)
        with pytest.raises(Closed):
            in_thread(client.read_exactly, LARGE)


def test_an_idle_client_is_closed_at_once(files: Serving) -> None:
    with files.connect() as idle, files.connect() as half:
        half.send(b"GET / HT")
        run_until_idle(0.1)
        begun = time.monotonic()
        files.server.stop()
        assert time.monotonic() - begun < 10
        assert in_thread(idle.is_closed)
        assert in_thread(half.is_closed)


# -- requests that the main thread is to answer ----------------------------------------------------


def test_from_another_thread_it_waits_for_the_main_thread() -> None:
    configure(stop_timeout=20.0)
    begun = threading.Event()

    def app(request: Request) -> dict[str, object]:
        begun.set()
        wait_until(lambda: is_free(serving.port))  # it is being stopped
        return {"body": "answered"}

    serving = Serving(app)
    with serving.connect() as first, serving.connect() as second:
        first.send(request() + request())
        second.send(request())
        work = Work(lambda: (begun.wait(10), serving.server.stop()))
        serve_until(lambda: not list_servers())
        work.finish()
        reply = in_thread(first.read_reply)
        assert (reply.text, reply.closes) == ("answered", True)
        assert in_thread(first.is_closed)  # what came behind was not begun
        assert in_thread(second.read_reply).text == "answered"


def test_from_another_thread_it_waits_for_a_stream() -> None:
    configure(stop_timeout=20.0)
    begun = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"a" * 100_000
        begun.set()
        wait_until(lambda: is_free(serving.port))
        for _ in range(20):
            yield b"b" * 100_000

    serving = Serving(lambda request: {"body": pieces()})
    with serving.connect() as client:
        client.send(request())
        stop = Work(lambda: (begun.wait(10), serving.server.stop()))
        reply = Work(client.read_reply).finish()
        assert len(reply.body) == 2_100_000
        stop.finish()


def test_a_handler_that_hangs_is_cut_in_time() -> None:
    configure(stop_timeout=0.2)
    serving = Serving(lambda request: {"body": "late"})
    with serving.connect() as client:
        client.send(request())
        wait_until(lambda: serving.server.status().waiting)
        in_thread(serving.server.stop)  # the main thread runs no callback
        assert in_thread(client.is_closed)
    run_until_idle(0.1)
    assert is_free(serving.port)


def test_a_handler_may_stop_its_server() -> None:
    configure(stop_timeout=20.0)
    took: list[float] = []

    def app(request: Request) -> dict[str, object]:
        if request.path == "/later":
            later(serving.server.stop)
        else:
            begun = time.monotonic()
            serving.server.stop()
            took.append(time.monotonic() - begun)
        return {"body": "bye"}

    serving = Serving(app)
    assert serving.ask(target="/later").text == "bye"
    serve_until(lambda: not list_servers())

    serving = Serving(app)
    with serving.connect() as client:  # it cannot be answered: stop() returns before it does
        client.send(request())
        serve_until(lambda: not list_servers())
        assert in_thread(client.is_closed)
    run_until_idle(0.1)
    assert took[0] < 10  # it did not wait for itself


def test_a_stream_may_stop_its_server() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"a"
        serving.server.stop()
        yield b"b"

    serving = Serving(lambda request: {"body": pieces()})
    with serving.connect() as client:
        client.send(request())
        serve_until(lambda: not list_servers())
        with pytest.raises(Closed):
            in_thread(client.read_reply)


def test_many_may_stop_it_at_once(files: Serving) -> None:
    with files.connect(receive_buffer=65536) as client:
        begin_download(client)
        threads = [threading.Thread(target=files.server.stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert len(in_thread(client.read_all)) == LARGE
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    files.server.stop()
    assert not files.server.is_running
    assert is_free(files.port)


def test_a_client_that_is_accepted_while_the_server_ends_is_turned_away() -> None:
    """The system had accepted it before the socket was closed; the loop says so only now."""
    peer = Peer()
    asyncio.run(peer.listener.close())
    late = Connection(peer.listener)
    late.connection_made(transport := _Transport(peer.loop, late))  # type: ignore[arg-type]
    peer.loop.run()
    assert transport.written.startswith(b"HTTP/1.1 503 ")
