"""WebSockets of a live kernel: idle, beside a cell, inside a cell, interrupted, shut down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import websocket
from helpers import wait_until
from kernels import Kernel, get, is_free, kernel_fixtures
from websocket import ABNF

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

ECHO = """
closed = []
def opened(ws):
    print("open", ws.request.path, flush=True)
    @ws.on_message
    def handle(binary, message):
        print("heard", message, flush=True)
        ws.send(message)
    ws.on_close(lambda: closed.append(ws.close_code))
app = {"on_ws_open": opened, "call": lambda request: {"body": "http"}}
"""

COROUTINE = """
def opened(ws):
    @ws.on_message
    async def handle(binary, message):
        print("heard", message, flush=True)
        await asyncio.sleep(0.01)
        ws.send(message)
app = {"on_ws_open": opened}
"""

ENDLESS = """
def spin():
    print("spinning", flush=True)
    while True:
        pass
def opened(ws):
    @ws.on_message
    def handle(binary, message):
        if message == "spin":
            spin()
        ws.send(message)
app = {"on_ws_open": opened, "call": lambda request: {"body": "http"}}
"""

ENDLESS_COROUTINE = ENDLESS.replace(
    "def handle(binary, message):",
    "async def handle(binary, message):\n        await asyncio.sleep(0.01)",
)


@contextmanager
def connected(port: int, target: str = "/") -> Iterator[websocket.WebSocket]:
    connection = websocket.create_connection(f"ws://127.0.0.1:{port}{target}", timeout=10)
    try:
        yield connection
    finally:
        connection.shutdown()


def asked(connection: websocket.WebSocket, message: str) -> str:
    connection.send(message)
    reply = connection.recv()
    assert isinstance(reply, str)
    return reply


def close_code(connection: websocket.WebSocket) -> int:
    opcode, frame = connection.recv_data_frame(True)
    assert opcode == ABNF.OPCODE_CLOSE
    return int.from_bytes(frame.data[:2], "big")


@pytest.mark.parametrize("code", [ECHO, COROUTINE], ids=["function", "coroutine"])
def test_an_idle_kernel_echoes(kernel: Kernel, code: str) -> None:
    port = kernel.serve(code).port
    with connected(port) as connection:
        assert [asked(connection, str(i)) for i in range(50)] == [str(i) for i in range(50)]
        connection.send_binary(b"\0\1")
        assert connection.recv() == b"\0\1"


def test_on_close_runs_in_an_idle_kernel(kernel: Kernel) -> None:
    port = kernel.serve(ECHO).port
    with connected(port) as connection:
        asked(connection, "x")
        connection.close(3001)
    with connected(port) as connection:
        asked(connection, "x")
    wait_until(lambda: kernel.value("closed") == [3001, 1006])


def test_the_output_of_handlers_goes_to_the_cell_that_started_the_server(kernel: Kernel) -> None:
    port, cell = kernel.serve(ECHO)
    with connected(port, "/there") as connection:
        later = kernel.run("print('another cell')")
        asked(connection, "x")
        cell.wait_output("heard x")
    assert cell.stdout == "open /there\nheard x\n"
    assert later.stdout == "another cell\n"


def test_messages_wait_while_a_cell_runs(kernel: Kernel) -> None:
    port, started = kernel.serve(ECHO + "\nready = False\n")
    with connected(port) as connection:
        code = "print('begun', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
        cell = kernel.begin(code)
        cell.wait_output("begun")
        connection.send("x")
        connection.settimeout(0.3)
        with pytest.raises(websocket.WebSocketTimeoutException):
            connection.recv()
        assert "heard" not in started.stdout
        (kernel._directory / "go").touch()
        connection.settimeout(10)
        assert connection.recv() == "x"
        assert cell.wait().status == "ok"
    (kernel._directory / "go").unlink()


def test_messages_are_answered_inside_service(kernel: Kernel) -> None:
    port, started = kernel.serve(ECHO)
    with connected(port) as connection:
        wait_until(lambda: "open" in started.stdout)
        cell = kernel.begin("heard = [service(10_000) for _ in range(3)]")
        assert [asked(connection, name) for name in "abc"] == list("abc")
        assert cell.wait().status == "ok"
    assert cell.stdout == "heard a\nheard b\nheard c\n"
    assert "heard" not in started.stdout


@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("code", [ENDLESS, ENDLESS_COROUTINE], ids=["function", "coroutine"])
def test_an_interrupt_ends_an_endless_handler(kernel: Kernel, code: str, by: str) -> None:
    port, cell = kernel.serve(code)
    with connected(port) as endless, connected(port) as other:
        assert asked(other, "before") == "before"
        endless.send("spin")
        cell.wait_output("spinning")
        other.send("after")
        kernel.interrupt(by)
        assert close_code(endless) == 1011
        assert other.recv() == "after"
    cell.wait_output("KeyboardInterrupt")
    assert "httpuv_kernel/" not in cell.error
    assert kernel.value("6 * 7") == 42
    assert get(port).text == "http"


def test_a_handler_that_raises_shows_its_traceback_in_the_cell(kernel: Kernel) -> None:
    code = "app = {'on_ws_open': lambda ws: ws.on_message(lambda binary, message: 1 / 0) and None}"
    port, cell = kernel.serve(code)
    with connected(port) as connection:
        connection.send("x")
        assert close_code(connection) == 1011
    cell.wait_output("ZeroDivisionError")
    assert kernel.value("6 * 7") == 42


def test_a_cell_sends_and_broadcasts(kernel: Kernel) -> None:
    port = kernel.serve("sockets = []\napp = {'on_ws_open': sockets.append}").port
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(port)) for _ in range(3)]
        kernel.run("sockets[0].send('one')\nbroadcast(sockets, 'all')")
        assert connections[0].recv() == "one"
        assert [connection.recv() for connection in connections] == ["all"] * 3
        kernel.run("server.stop()")
        assert [close_code(connection) for connection in connections] == [1001] * 3


def test_shutdown_with_open_sockets(own_kernel: Kernel) -> None:
    port = own_kernel.serve(ECHO).port
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(port)) for _ in range(3)]
        assert [asked(connection, "x") for connection in connections] == ["x"] * 3
        begun = time.monotonic()
        own_kernel.control("shutdown_request", {"restart": False})
        wait_until(lambda: not own_kernel.is_alive, timeout=10)
        assert time.monotonic() - begun < 4
        assert [close_code(connection) for connection in connections] == [1001] * 3
    assert is_free(port)
    assert "Traceback" not in own_kernel.log
