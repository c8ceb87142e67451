"""The network process of a real kernel: it serves while a cell holds everything up."""

from __future__ import annotations

import json
import os
import signal
import statistics

import psutil
import pytest
from helpers import wait_until
from kernels import Kernel, ask, get, is_free, kernel_fixtures
from test_process import children
from websocket import create_connection

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

APP = """
HTTPUV.instance().isolation = "{isolation}"
open("a.txt", "w").write("file")
def call(request):
    print("asked for", request.path)
    if request.path == "/endless":
        while True:
            pass
    return {{"body": request.path}}
def on_ws_open(ws):
    ws.on_message(lambda binary, message: ws.send(message))
app = {{"call": call, "on_ws_open": on_ws_open, "static_paths": {{"/s": "."}}}}
"""

PURE = """
print("running", flush=True)
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    sum(range(1000))
"""

# A regular expression holds the GIL until it is done; a PyDLL's function does so, too.
HOLDING = """
import ctypes
print("running", flush=True)
ctypes.PyDLL(None).usleep(int({seconds} * 1e6))
"""


def serve(kernel: Kernel, isolation: str = "process") -> int:
    return kernel.serve(APP.format(isolation=isolation)).port


def begin(kernel: Kernel, code: str) -> None:
    kernel.begin(code).wait_output("running")


def test_a_request_to_an_idle_kernel(kernel: Kernel) -> None:
    served = kernel.serve(APP.format(isolation="process"))
    assert get(served.port, "/x").text == "/x"
    served.cell.wait_output("asked for /x")
    assert len(children(kernel.pid)) == 1


def test_an_interrupt_ends_one_callback(kernel: Kernel) -> None:
    served = kernel.serve(APP.format(isolation="process"))
    answer = ask(served.port, "/endless")
    served.cell.wait_output("asked for /endless")
    kernel.interrupt()
    assert answer.result(10).status == 500
    assert get(served.port).status == 200
    assert kernel.value("6 * 7") == 42


@pytest.mark.parametrize("cell", [PURE, HOLDING], ids=["pure Python", "C with the GIL"])
def test_files_beside_a_cell(kernel: Kernel, cell: str) -> None:
    port = serve(kernel)
    begin(kernel, cell.format(seconds=1.5))
    answers = [get(port, "/s/a.txt") for _ in range(50)]
    assert {answer.text for answer in answers} == {"file"}
    assert statistics.median(answer.seconds for answer in answers) < 0.1
    assert kernel.value("6 * 7") == 42


def test_requests_wait_for_the_cell(kernel: Kernel) -> None:
    port = serve(kernel)
    begin(kernel, HOLDING.format(seconds=0.5))
    answers = [ask(port, f"/{i}") for i in range(5)]
    assert [answer.result(10).text for answer in answers] == [f"/{i}" for i in range(5)]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_published_page_moves_with_the_cell(kernel: Kernel, isolation: str) -> None:
    port = serve(kernel, isolation)
    cell = kernel.begin("""
    i = 0
    over = time.monotonic() + 20
    while not os.path.exists("seen") and time.monotonic() < over:
        i += 1
        server.publish("/n", i)
    os.unlink("seen")
    """)
    seen: list[int] = []

    def moves() -> bool:
        answer = get(port, "/n")
        seen.append(int(answer.text))
        return len(set(seen)) > 5

    wait_until(lambda: get(port, "/n").headers["content-type"] == "application/json")
    wait_until(moves)
    open(kernel._directory / "seen", "w").close()
    assert cell.wait().status == "ok"
    assert seen == sorted(seen)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_progress_moves_with_the_cell(kernel: Kernel, isolation: str) -> None:
    port = serve(kernel, isolation)
    cell = kernel.begin("""
    from httpuv_kernel.main.publish import progress
    for i in progress(range(200), server, label="counting"):
        if i == 0:
            print("begun", flush=True)
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
    """)
    cell.wait_output("begun")  # what is asked before waits for the cell's end
    states: list[tuple[int, str]] = []

    def is_done() -> bool:
        answer = get(port, "/progress.json")
        if answer.headers.get("content-type") == "application/json":
            figures = json.loads(answer.body)
            states.append((figures["done"], figures["state"]))
        return bool(states) and states[-1] == (200, "done")

    wait_until(is_done, 20)
    assert cell.wait().status == "ok"
    assert states == sorted(states, key=lambda state: state[0])
    assert len(set(states)) > 4
    assert "<progress" in get(port, "/progress").text


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_busy_timeout(kernel: Kernel, isolation: str) -> None:
    kernel.run("HTTPUV.instance().busy_timeout = 0.2")
    try:
        port = serve(kernel, isolation)
        begin(kernel, PURE.format(seconds=3))
        answer = get(port)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert kernel.value("6 * 7") == 42
        assert get(port).status == 200
    finally:
        kernel.run("HTTPUV.instance().busy_timeout = 0.0")


def test_a_handshake_waits_for_the_cell(kernel: Kernel) -> None:
    port = serve(kernel)
    begin(kernel, HOLDING.format(seconds=0.5))
    socket = create_connection(f"ws://127.0.0.1:{port}/", timeout=10)
    socket.send("hello")
    assert socket.recv() == "hello"
    socket.close()


def test_a_killed_process_comes_back_while_a_cell_runs(kernel: Kernel) -> None:
    port = serve(kernel)
    (first,) = children(kernel.pid)
    kernel.run("server.publish('/state', 'here')")
    begin(kernel, PURE.format(seconds=3))
    first.kill()
    wait_until(lambda: [c for c in children(kernel.pid) if c.pid != first.pid])
    wait_until(lambda: not is_free(port))
    wait_until(lambda: get(port, "/s/a.txt").text == "file")
    wait_until(lambda: get(port, "/state").text == "here")
    assert kernel.value("6 * 7") == 42
    assert get(port, "/x").text == "/x"


@pytest.mark.parametrize("how", ["restart", "shutdown", "os._exit", "SIGKILL"])
def test_it_ends_with_the_kernel(own_kernel: Kernel, how: str) -> None:
    port = serve(own_kernel)
    (network,) = children(own_kernel.pid)
    if how == "restart":
        own_kernel.restart()
    elif how == "shutdown":
        own_kernel.control("shutdown_request", {"restart": False})
    elif how == "os._exit":
        own_kernel.execute_nowait("os._exit(1)")
    else:
        os.kill(own_kernel.pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(network.pid) or network.status() == "zombie", 10)
    wait_until(lambda: is_free(port))
