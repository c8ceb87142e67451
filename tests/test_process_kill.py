"""What is killed: the network process under load, and programs and kernels that have one.

HTTPUV_KILLS says how often each is killed at random moments; 20 for a thorough run.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import (
    Client,
    Reply,
    Serving,
    Work,
    configure,
    during,
    run_until_idle,
    serve_until,
    wait_until,
)
from kernels import Kernel, get, is_free, kernel_fixtures
from test_process import child, children, is_restarted
from websocket import WebSocketException, create_connection

from httpuv_kernel import list_servers, start_pipe_server, start_server
from httpuv_kernel.main import runtime

# Clients that lose their server while they connect leave their sockets to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

KILLS = int(os.environ.get("HTTPUV_KILLS", "3"))

shared_kernel, kernel, own_kernel = kernel_fixtures()


@pytest.fixture(autouse=True)
def _in_a_process() -> None:
    configure(isolation="process")


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def get_again(port: int, path: str = "/") -> Reply:
    """GET, from a server that may just be starting again."""
    answers: list[Reply] = []

    def answered() -> bool:
        with suppress(OSError), Client(port) as client:
            answers.append(client.ask("GET", path))
        return bool(answers)

    wait_until(answered, 10)
    return answers[0]


@contextmanager
def under_load(port: int, clients: int = 4) -> Iterator[list[int]]:
    """While requests come without end; each that fails is tried again. The list counts answers."""
    over = threading.Event()
    counts = [0]

    def run() -> None:
        while not over.is_set():
            with suppress(OSError), Client(port) as client:
                while not over.is_set():
                    client.ask()
                    counts[0] += 1

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        over.set()
        for thread in threads:
            thread.join()


# -- the network process ---------------------------------------------------------------------------


@pytest.mark.slow
def test_kills_under_load(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "_MOST_RESTARTS", 1000)
    serving = Serving(lambda request: {"body": "x"})
    serving.server.publish("/state", "published")
    port = serving.port
    chance = random.Random(1)

    def kill_all() -> list[psutil.Process]:
        dead = []
        with under_load(port) as counts:
            for _ in range(KILLS):
                wait_until(lambda seen=counts[0]: counts[0] > seen, 20)
                time.sleep(chance.random() * 0.1)
                dead.append(child())
                dead[-1].kill()
                wait_until(lambda: is_restarted(dead[-1]), 10)
                assert get_again(port).text == "x"
                wait_until(lambda: get_again(port, "/state").text == "published")
        return dead

    during(get, port)
    before = psutil.Process().num_fds()
    dead = Work(kill_all).finish(60 + 5 * KILLS)
    run_until_idle()
    assert all(map(is_gone, dead))
    assert len(children()) == 1
    assert caplog.text.count("the network process has ended (killed by signal 9") == KILLS
    wait_until(lambda: psutil.Process().num_fds() <= before + 1)
    assert len(runtime.get_runtime().exchanges) == 0


def test_its_sockets_are_closed_and_their_callbacks_run() -> None:
    opened: list[Any] = []
    closed: list[int | None] = []

    def on_ws_open(ws: Any) -> None:
        opened.append(ws)
        ws.on_close(lambda: closed.append(ws.close_code))

    server = start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open})
    url = f"ws://127.0.0.1:{server.port}/"
    clients = during(lambda: [create_connection(url, timeout=10) for _ in range(3)])
    serve_until(lambda: len(opened) == 3)
    child().kill()
    serve_until(lambda: closed == [1006] * 3)
    for ws in opened:
        assert not ws.is_open
        ws.send("to nobody")
    with pytest.raises((OSError, WebSocketException)):
        clients[0].recv()
    for client in clients:
        client.shutdown()
    during(get_again, server.port)


def test_a_unix_socket_listens_again(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    start_pipe_server(path, None, lambda request: {"body": "unix"})
    first = child()
    first.kill()
    serve_until(lambda: is_restarted(first))

    asked: list[str] = []

    def ask() -> bool:
        with suppress(OSError), Client(path) as client:
            asked.append(client.ask().text)
        return bool(asked)

    during(wait_until, ask)
    assert asked == ["unix"]


def test_it_listens_again_with_what_was_changed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("file")
    serving = Serving(lambda request: {"body": "old"})
    serving.server.replace_app(lambda request: {"body": "new"})
    serving.server.set_static_path({"/s": tmp_path})
    first = child()
    first.kill()
    serve_until(lambda: is_restarted(first))
    assert during(get_again, serving.port).text == "new"
    assert during(get_again, serving.port, "/s/a.txt").text == "file"


def test_a_server_that_is_started_right_after_a_kill() -> None:
    serving = Serving(lambda request: {"body": "one"})
    child().kill()
    with start_server("127.0.0.1", 0, lambda request: {"body": "two"}) as other:
        assert during(get_again, other.port).text == "two"
        assert during(get_again, serving.port).text == "one"
        assert len(children()) == 1


def test_a_server_that_is_stopped_right_after_a_kill() -> None:
    server = start_server("127.0.0.1", 0, lambda request: {})
    child().kill()
    server.stop()
    assert not server.is_running
    wait_until(lambda: children() == [])
    assert is_free(server.port)


def test_the_restart_can_be_turned_off(caplog: pytest.LogCaptureFixture) -> None:
    configure(restart_network=False)
    server = start_server("127.0.0.1", 0, lambda request: {})
    child().kill()
    serve_until(lambda: not server.is_running)
    assert "HTTPUV.restart_network is off" in caplog.text
    assert children() == []
    assert list_servers() == []
    assert server.status().requests == 0
    server.publish("/late", "nobody sees it")
    server.stop()
    assert "stopped" in repr(server)


def test_it_gives_up_on_a_process_that_always_ends(caplog: pytest.LogCaptureFixture) -> None:
    serving = Serving(lambda request: {"body": "x"})
    for _ in range(5):
        first = child()
        first.kill()
        serve_until(lambda first=first: is_restarted(first))
        assert during(get_again, serving.port).text == "x"
    child().kill()
    serve_until(lambda: not serving.server.is_running)
    assert "6 times within a minute" in caplog.text
    assert children() == []
    assert Serving(lambda request: {"body": "y"}).ask().text == "y"


def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    from httpuv_kernel.main import process

    monkeypatch.setattr(process, "_SEND_TIMEOUT", 0.2)
    serving = Serving(lambda request: {"body": "x"})
    first = child()
    first.suspend()
    serving.server.publish("/large", bytes(50_000_000))
    serve_until(lambda: is_gone(first))
    assert during(get_again, serving.port).text == "x"
    during(wait_until, lambda: len(get_again(serving.port, "/large").body) == 50_000_000)


# -- programs --------------------------------------------------------------------------------------

SERVING = """
import os, signal, sys, threading, time
from httpuv_kernel import *
server = start_server("127.0.0.1", 0, lambda request: {"body": "x"}, isolation="process")
print(server.port, flush=True)
"""


@contextmanager
def program(
    code: str, errors: int = subprocess.PIPE
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A running program and the port of its server."""
    running = subprocess.Popen(
        [sys.executable, "-c", SERVING + textwrap.dedent(code)],
        stdout=subprocess.PIPE, stderr=errors, text=True,
        # What runs the tests in the background may have it ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL) and None,
    )  # fmt: skip
    with running:
        assert running.stdout is not None
        line = running.stdout.readline()
        try:
            yield running, int(line or "0")
        finally:
            running.kill()


def test_it_ends_with_its_program() -> None:
    with program("") as (running, port):
        _, errors = running.communicate(timeout=20)
    assert (running.returncode, errors) == (0, "")
    assert is_free(port)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_a_program_that_is_killed(number: int) -> None:
    with program("service(0)") as (running, port):
        (network,) = children(running.pid)
        running.send_signal(number)
        wait_until(lambda: is_gone(network))
        wait_until(lambda: is_free(port))


@pytest.mark.parametrize("fork", ["os.fork()", "__import__('ctypes').CDLL(None).fork()"])
def test_it_ends_with_a_program_whose_forked_child_lives(fork: str) -> None:
    code = f"""
    pid = {fork}
    if pid == 0:
        if "os.fork" in {fork!r}:
            server.status(), server.stop(), stop_all_servers()  # not ours here
        time.sleep(60)
        os._exit(0)
    print(pid, flush=True)
    service(0)
    """
    with program(code) as (running, port):
        assert running.stdout is not None
        forked = psutil.Process(int(running.stdout.readline()))
        try:
            assert get(port).text == "x"
            (network,) = children(running.pid)
            running.kill()
            wait_until(lambda: is_gone(network))
            assert forked.is_running()
            wait_until(lambda: is_free(port))
        finally:
            forked.kill()


ODD = {
    "a module that hides one of the library": """
        open("socket.py", "w").write("raise ImportError('hidden')")
        open("struct.py", "w").write("raise ImportError('hidden')")
        sys.path.insert(0, os.getcwd())
        sys.path.insert(0, "")
    """,
    "no working directory": "os.rmdir(os.getcwd())",
    "no stdin": "os.close(0)",
    "no standard streams": "out = os.dup(1); os.close(0); os.close(1); os.close(2)",
    "a path of no text": "sys.path.insert(0, b'bytes'); sys.path.append(None)",
}


@pytest.mark.parametrize("code", ODD.values(), ids=ODD)
def test_an_odd_program(tmp_path: Path, code: str) -> None:
    work = tmp_path / "work"
    work.mkdir()
    lines = ["import os, sys, signal, struct, socket", "from httpuv_kernel import *", "out = 1"]
    start = """
    server = start_server("127.0.0.1", 0, lambda request: {"body": "x"}, isolation="process")
    os.write(out, b"%d\\n" % server.port)
    service(0)
    """
    text = "\n".join([*lines, textwrap.dedent(code), textwrap.dedent(start)])
    with subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, cwd=work, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert get(int(running.stdout.readline() or "0")).text == "x"
        finally:
            running.kill()


# -- kernels ---------------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.slow
def test_kernels_that_are_killed_under_load(own_kernel: Kernel) -> None:
    chance = random.Random(2)
    for _ in range(max(1, KILLS // 2)):
        own_kernel.run("HTTPUV.instance().isolation = 'process'")
        port = own_kernel.serve("app = lambda request: {'body': 'x'}").port
        (network,) = children(own_kernel.pid)
        with under_load(port) as counts:
            wait_until(lambda: counts[0] > 20, 20)
            time.sleep(chance.random() * 0.2)
            own_kernel.signal(signal.SIGKILL)
            begun = time.monotonic()
            wait_until(lambda: is_gone(network))  # noqa: B023
            assert time.monotonic() - begun < 1.0
            assert is_free(port)
        own_kernel.restart()


def test_a_key_that_was_used_is_so_after_a_restart() -> None:
    """It stands in a notebook that may have been saved."""
    server = start_server("127.0.0.1", 0, lambda request: {}, token=True)
    found = re.search(r"key&quot;: &quot;([^&]+)&quot;", server._repr_mimebundle_()["text/html"])
    assert found is not None

    def claim() -> int:
        with Client(server.port) as client:
            return client.ask("POST", "/__httpuv__/claim", [("X-Httpuv-Key", found[1])]).status

    assert during(claim) == 200
    first = child()
    first.kill()
    serve_until(lambda: is_restarted(first) and not is_free(server.port))
    assert during(claim) == 403
