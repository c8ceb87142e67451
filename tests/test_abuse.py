"""What once went wrong under clients and apps that behave badly; each of these was a bug."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import (
    Serving,
    Work,
    configure,
    in_thread,
    request,
    run_until_idle,
    serve_until,
    wait_until,
)

from httpuv_kernel import Request, static_path
from httpuv_kernel.main.runtime import running_runtime

LARGE = bytes(8 * 1024 * 1024)


def echo(request: Request) -> dict[str, object]:
    if request.path == "/large":
        return {"body": LARGE}
    return {"body": b"%s %s %s" % (request.method.encode(), request.path.encode(), request.body)}


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (request(target="/a"), request(target="/b"), [b"GET /a ", b"GET /b "]),
        (
            request("POST", "/a", body=request(target="/b"))[: -len(request(target="/b"))],
            request(target="/b"),
            [b"POST /a " + request(target="/b")],
        ),
    ],
    ids=["two requests", "a body that looks like a request"],
)
def test_what_comes_behind_a_response_that_nobody_reads_keeps_its_order(
    first: bytes, second: bytes, wanted: list[bytes]
) -> None:
    serving = Serving(echo)
    with serving.connect() as client:
        client.send(request(target="/large"))
        client.send(first)
        run_until_idle(0.2)
        client.send(second)
        run_until_idle(0.2)
        replies = [Work(client.read_reply).finish() for _ in range(1 + len(wanted))]
    assert [reply.body for reply in replies] == [LARGE, *wanted]


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "close"])
def test_a_client_that_reads_slowly_gets_it_all(close: bool) -> None:
    configure(linger_timeout=0.1, keep_alive_timeout=0.1, write_timeout=0.3)
    serving = Serving(echo)
    headers = [("Connection", "close")] if close else []
    got = b""
    with serving.connect() as client:
        client.send(request(target="/large", headers=headers))
        for _ in range(8):  # each pause is longer than the timeouts, together with the last
            run_until_idle(0.08)
            got += in_thread(client.read_exactly, 700_000)
        got += in_thread(client.read_all)
    assert got.partition(b"\r\n\r\n")[2] == LARGE


def test_an_app_s_odd_future_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Odd:
        def add_done_callback(self, callback: object) -> None:
            raise RuntimeError("the cluster is gone")

    serving = Serving(lambda request: Odd() if request.path == "/odd" else {"body": "fine"})
    assert serving.ask(target="/odd").status == 500
    assert serving.ask().text == "fine"
    assert "the cluster is gone" in capsys.readouterr().err


def test_endless_trailers_are_a_431() -> None:
    configure(header_bytes=4096)
    start = request("POST", headers=[("Transfer-Encoding", "chunked")]) + b"1\r\nx\r\n0\r\nX: "
    serving = Serving(echo)
    with serving.connect() as client:
        client.send(start)
        client.send(b"a" * 600_000)  # more than is read at once
        assert in_thread(client.read_reply).status == 431


def test_two_transfer_encodings_are_one_list() -> None:
    headers = [("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]
    serving = Serving(echo)
    assert b" 501 " in serving.exchange(request("POST", headers=headers))[:30]


@pytest.mark.thread_only("counts the descriptors of this process")
def test_refused_clients_do_not_stay() -> None:
    configure(connections=1, linger_timeout=0.1)
    serving = Serving(echo)
    with serving.connect() as first:
        refused = [serving.connect() for _ in range(20)]
        for client in refused:
            assert in_thread(client.read_reply).status == 503
        before = len(os.listdir("/proc/self/fd"))
        wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before - 20)
        for client in refused:
            client.socket.close()
        first.socket.close()


def test_stop_closes_the_generator_of_a_client_that_does_not_read() -> None:
    closed: list[bool] = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(65536)
        finally:
            closed.append(True)

    serving = Serving(lambda request: {"body": pieces()})
    with serving.connect() as client:
        client.send(request())
        run_until_idle(0.2)
        serving.server.stop()
        serve_until(lambda: closed)
    runtime = running_runtime()
    assert runtime is not None
    assert len(runtime.exchanges) == 0


@pytest.mark.thread_only("looks at the descriptors of this process")
def test_stop_takes_no_descriptor_of_others_along(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(LARGE)
    serving = Serving({"static_paths": {"/": str(tmp_path)}})
    clients = [serving.connect() for _ in range(3)]
    for client in clients:
        client.send(request(target="/f.bin"))
    run_until_idle(0.1)
    serving.server.stop()
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    gc.collect()
    for fd in files:
        os.fstat(fd)  # raises for one that was closed
        os.close(fd)
    for client in clients:
        client.socket.close()


def test_a_default_timeout_of_the_user_s_sockets_does_not_hold_up_others(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(bytes(150_000))
    (tmp_path / "a.txt").write_text("a")
    serving = Serving({"static_paths": {"/": str(tmp_path)}})
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        with serving.connect() as greedy, serving.connect(timeout=10) as other:
            greedy.send(request(target="/f.bin") * 100)
            assert in_thread(other.ask, "GET", "/a.txt").text == "a"
    finally:
        socket.setdefaulttimeout(before)


def test_what_one_rule_may_follow_another_may_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "f.txt").write_text("public")
    paths = {
        "/open": static_path(root, follow_symlinks=True),
        "/closed": static_path(root),
    }
    serving = Serving({"static_paths": paths})
    with serving.connect() as client:
        assert in_thread(client.ask, "GET", "/closed/f.txt").text == "public"
        (root / "f.txt").unlink()
        (root / "f.txt").symlink_to(tmp_path / "secret.txt")
        assert in_thread(client.ask, "GET", "/open/f.txt").text == "secret"
        assert in_thread(client.ask, "GET", "/closed/f.txt").status == 404


@pytest.mark.thread_only("watches what reaches the inbox while nothing runs")
def test_an_owned_file_goes_also_when_its_client_has_left(tmp_path: Path) -> None:
    path = tmp_path / "mine.bin"
    called = []

    def app(request: Request) -> dict[str, object]:
        path.write_bytes(b"x")
        called.append(request)
        client.reset()
        wait_until(lambda: running_runtime().inbox)  # type: ignore[union-attr]
        return {"body": {"file": path, "owned": True}}

    serving = Serving(app)
    with serving.connect() as client:
        client.send(request())
        serve_until(lambda: called)
        wait_until(lambda: not path.exists())


def test_the_limit_of_gzip_holds_for_files_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 2000)
    configure(gzip_bytes=4000)
    serving = Serving({"static_paths": {"/": str(tmp_path)}})
    reply = serving.ask(target="/a.txt", headers=[("Accept-Encoding", "gzip")])
    assert (reply.has("content-encoding"), reply.text) == (False, "a" * 2000)


@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_a_flood_of_requests_that_wait_does_not_flood_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    configure(pending=1)
    serving = Serving(echo)
    with serving.connect() as first, serving.connect() as other:
        first.send(request())
        wait_until(lambda: serving.server.status().waiting)
        statuses = {in_thread(other.ask).status for _ in range(100)}
        assert Work(first.read_reply).finish().status == 200
    assert statuses == {503}
    assert 0 < caplog.text.count("1 wait for the kernel") < 10


def test_who_has_said_all_gets_the_response_on_its_way_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(LARGE)
    serving = Serving({"static_paths": {"/": str(tmp_path)}})
    with serving.connect(receive_buffer=65536, timeout=5) as client:
        client.send(request(target="/f.bin") * 2)
        head = in_thread(client.read_head)
        client.finish_sending()
        assert in_thread(client.read_all) == LARGE
    assert head.status == 200


def test_what_comes_behind_an_early_answer_is_not_stored(body_directory: Path) -> None:
    configure(spool_bytes=1000)
    early = {"status": 403, "body": "no"}
    serving = Serving({"on_headers": lambda request: early, "call": echo})
    with serving.connect() as client:
        client.send(request("POST", headers=[("Content-Length", 3_000_000)]))
        assert Work(client.read_reply).finish().text == "no"
        client.send(bytes(2_000_000))
        wait_until(lambda: serving.server.status().connections == 1)
        assert list(body_directory.iterdir()) == []
        client.send(bytes(1_000_000))
    wait_until(lambda: serving.server.status().connections == 0)
    assert list(body_directory.iterdir()) == []
