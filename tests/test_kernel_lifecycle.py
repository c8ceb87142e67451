"""Starting and stopping: nothing stays behind, whichever way a server, a kernel or a child ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from helpers import wait_until
from kernels import Kernel, ask, free_port, get, is_free, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

HELLO = "app = lambda request: {'body': 'hello'}"
THREADS = "[thread.name for thread in threading.enumerate()]"


@contextmanager
def hammering(port: int, clients: int = 4) -> Iterator[list[int]]:
    """Clients that ask again and again, until their server is gone; the statuses they got."""
    answered: list[int] = []
    over = threading.Event()

    def run() -> None:
        with suppress(OSError, http.client.HTTPException):
            while not over.is_set():
                answered.append(get(port, timeout=5).status)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(answered) > 20)
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join()


def open_sockets(port: int) -> list[socket.socket]:
    """An idle connection, one with half a request, and one whose response is not read."""
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(3)]
    sockets[1].sendall(b"GET / HTTP/1.1\r\nHost: ")
    sockets[2].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return sockets


# -- servers ---------------------------------------------------------------------------------------


def test_stop_all_servers_leaves_no_server_and_frees_the_ports(kernel: Kernel) -> None:
    ports = [kernel.serve(HELLO).port for _ in range(3)]
    assert kernel.value("len(list_servers())") == 3
    kernel.run("stop_all_servers()")
    assert kernel.value("list_servers()") == []
    assert all(is_free(port) for port in ports)


def test_a_stopped_server_leaves_the_others(kernel: Kernel) -> None:
    first, second = kernel.serve(HELLO).port, kernel.serve(HELLO).port
    kernel.run("list_servers()[0].stop()")
    assert is_free(first)
    assert get(second).text == "hello"
    kernel.run("stop_server(server); server.stop()")
    assert kernel.value("(server.is_running, list_servers())") == (False, [])
    assert is_free(second)


def test_the_context_manager_stops(kernel: Kernel) -> None:
    kernel.run("with start_server('127.0.0.1', 0, lambda r: {}) as server: pass")
    assert kernel.value("server.is_running") is False


def test_a_stopped_port_can_be_used_again_at_once(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    for _ in range(3):
        assert get(port).text == "hello"
        kernel.run(f"server.stop(); server = start_server('127.0.0.1', {port}, app)")
    assert get(port).text == "hello"


def test_a_server_may_stop_itself_in_its_callback(kernel: Kernel) -> None:
    port = kernel.serve("def app(request):\n    server.stop()\n    return {}").port
    with suppress(OSError, http.client.HTTPException):
        get(port)
    wait_until(lambda: is_free(port))
    assert kernel.value("list_servers()") == []


@pytest.mark.thread_only("is about the thread")
def test_no_network_thread_is_left(kernel: Kernel) -> None:
    kernel.serve(HELLO)
    assert kernel.value(THREADS).count("httpuv-io") == 1
    kernel.serve(HELLO)
    assert kernel.value(THREADS).count("httpuv-io") == 1
    kernel.run("stop_all_servers()")
    assert "httpuv-io" not in kernel.value(THREADS)


def test_rounds_of_start_and_stop_leave_no_descriptor(kernel: Kernel) -> None:
    def do_round() -> int:
        port = kernel.serve(HELLO).port
        assert get(port).text == "hello"
        sockets = open_sockets(port)
        assert sockets[2].recv(100).startswith(b"HTTP/1.1 200")
        kernel.run("stop_all_servers()")
        for sock in sockets:
            sock.close()
        return kernel.descriptors

    before = do_round()  # what is made once is there
    for _ in range(5):
        do_round()
    wait_until(lambda: kernel.descriptors <= before)


def test_unload_ext_leaves_nothing(kernel: Kernel) -> None:
    def do_round() -> int:
        port = kernel.serve("%load_ext httpuv_kernel\n" + HELLO).port
        assert get(port).text == "hello"
        kernel.run("%unload_ext httpuv_kernel")
        assert is_free(port)
        assert "httpuv-io" not in kernel.value(THREADS)
        return kernel.descriptors

    before = do_round()  # what is made once is there
    for _ in range(3):
        do_round()
    wait_until(lambda: kernel.descriptors <= before)


@pytest.mark.thread_only("is about the thread")
def test_the_switch_interval_is_restored(kernel: Kernel) -> None:
    before = kernel.value("sys.getswitchinterval()")
    kernel.serve(HELLO)
    kernel.serve(HELLO)
    assert kernel.value("sys.getswitchinterval()") == pytest.approx(0.0005)
    kernel.run("server.stop()")
    assert kernel.value("sys.getswitchinterval()") == pytest.approx(0.0005)
    kernel.run("stop_all_servers()")
    assert kernel.value("sys.getswitchinterval()") == before


def test_a_taken_port_names_who_has_it(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    cell = kernel.execute(f"start_server('127.0.0.1', {port}, app)")
    assert cell.reply["ename"] == "PortInUseError"
    assert "a server of this process" in cell.reply["evalue"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        cell = kernel.execute(f"start_server('127.0.0.1', {taken}, app)")
    assert cell.reply["ename"] == "PortInUseError"
    assert "another program" in cell.reply["evalue"]
    assert get(port).text == "hello"


# -- kernels ---------------------------------------------------------------------------------------


def test_shutdown_with_servers_sockets_and_clients(own_kernel: Kernel) -> None:
    ports = [own_kernel.serve(HELLO).port for _ in range(2)]
    sockets = open_sockets(ports[0])
    with hammering(ports[1]) as answered:
        begun = time.monotonic()
        own_kernel.control("shutdown_request", {"restart": False})
        wait_until(lambda: not own_kernel.is_alive, timeout=10)
        took = time.monotonic() - begun
    for sock in sockets:
        sock.close()
    assert took < 4
    assert set(answered) <= {200, 503}
    assert all(is_free(port) for port in ports)
    assert "Traceback" not in own_kernel.log


def test_shutdown_by_the_manager_during_an_endless_callback(own_kernel: Kernel) -> None:
    port, cell = own_kernel.serve("def app(r):\n print('spinning', flush=True)\n while True: pass")
    answer = ask(port)
    cell.wait_output("spinning")
    begun = time.monotonic()
    own_kernel.manager.shutdown_kernel()
    assert time.monotonic() - begun < 4
    assert is_free(port)
    with suppress(OSError, http.client.HTTPException):
        assert answer.result(10).status == 500


def test_shutdown_with_a_coroutine_handler_under_way(own_kernel: Kernel) -> None:
    port, cell = own_kernel.serve(
        "async def app(r):\n print('waiting', flush=True)\n await asyncio.sleep(60)"
    )
    ask(port)
    cell.wait_output("waiting")
    begun = time.monotonic()
    own_kernel.control("shutdown_request", {"restart": False})
    wait_until(lambda: not own_kernel.is_alive, timeout=10)
    assert time.monotonic() - begun < 4
    assert is_free(port)
    assert "Traceback" not in own_kernel.log
    assert "destroyed" not in own_kernel.log


def test_quit_in_a_cell(own_kernel: Kernel) -> None:
    port = own_kernel.serve(HELLO).port
    own_kernel.execute_nowait("quit()")
    wait_until(lambda: not own_kernel.is_alive, timeout=10)
    assert is_free(port)


def test_restart_with_the_same_port(own_kernel: Kernel) -> None:
    port = free_port()
    start = f"{HELLO}\nserver = start_server('127.0.0.1', {port}, app)"
    own_kernel.run(start)
    with hammering(port):
        own_kernel.restart()
    own_kernel.run(start)
    assert get(port).text == "hello"


def test_a_killed_kernel_frees_the_port(own_kernel: Kernel) -> None:
    port = own_kernel.serve(HELLO).port
    own_kernel.signal(signal.SIGKILL)
    wait_until(lambda: not own_kernel.is_alive)
    wait_until(lambda: is_free(port))


def test_sigterm_frees_the_port(own_kernel: Kernel) -> None:
    port = own_kernel.serve(HELLO).port
    own_kernel.signal(signal.SIGTERM)
    wait_until(lambda: not own_kernel.is_alive)
    assert is_free(port)
    assert "Traceback" not in own_kernel.log


def test_reset_leaves_the_server_listed(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    kernel.run("%reset -f")
    kernel.run(
        "import threading, sys, os, asyncio, time, logging, signal\n"
        "from httpuv_kernel import *\nfrom IPython.display import display"
    )
    assert kernel.value("[server.port for server in list_servers()]") == [port]
    assert get(port).text == "hello"


# -- forked children -------------------------------------------------------------------------------

# The child tells what it has and waits until it is told to end.
FORK = """
import multiprocessing, socket, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork; that is the point here

def child(pipe, port):
    listening = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                listening += (
                    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                    and sock.getsockname()[1] == port
                )
        except OSError:
            pass
    running = server.is_running, len(list_servers())
    server.stop()
    with start_server("127.0.0.1", 0, lambda request: {}) as own:
        pass
    pipe.send((listening, *running, own.port > 0))
    pipe.recv()

here, there = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=child, args=(there, server.port))
process.start()
told = here.poll(10) and here.recv()
"""


def test_a_forked_child_has_no_servers_and_no_listening_socket(own_kernel: Kernel) -> None:
    port = own_kernel.serve(HELLO).port
    idle = open_sockets(port)
    own_kernel.run(FORK)
    assert own_kernel.value("told") == (0, False, 0, True)
    assert get(port).text == "hello"
    idle[0].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert idle[0].recv(100).startswith(b"HTTP/1.1 200")
    own_kernel.run("here.send('end'); process.join(10)")
    assert own_kernel.value("process.exitcode") == 0
    assert get(port).text == "hello"
    own_kernel.run("stop_all_servers()")
    assert is_free(port)
    for sock in idle:
        sock.close()


def test_a_forked_child_that_outlives_its_kernel_does_not_hold_the_port(
    own_kernel: Kernel,
) -> None:
    port = own_kernel.serve(HELLO).port
    own_kernel.run(FORK)
    child = own_kernel.value("process.pid")
    try:
        own_kernel.signal(signal.SIGKILL)
        wait_until(lambda: not own_kernel.is_alive)
        assert Path(f"/proc/{child}").exists()
        wait_until(lambda: is_free(port))
        with pytest.raises(ConnectionRefusedError):
            get(port)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_program_does_not_hold_the_port(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    kernel.run("import subprocess; child = subprocess.Popen(['cat'], stdin=subprocess.PIPE)")
    kernel.run("stop_all_servers()")
    assert is_free(port)
    kernel.run("child.stdin.close(); child.wait()")
