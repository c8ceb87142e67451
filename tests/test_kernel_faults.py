"""A kernel that dies or hangs while it answers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers import Client, Closed, request, wait_until
from kernels import Kernel, get, is_free, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

FILE = "open('large.bin', 'wb').write(bytes(24 * 1024 * 1024)); app = {'static_paths': {'/': '.'}}"
HELLO = "HTTPUV.instance().isolation = 'thread'\napp = lambda request: {'body': 'fine'}"
CHILDREN = "[each.pid for each in __import__('psutil').Process().children()]"


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_kernel_that_is_killed_cuts_its_responses(own_kernel: Kernel, isolation: str) -> None:
    port = own_kernel.serve(f"HTTPUV.instance().isolation = {isolation!r}\n{FILE}").port
    children = own_kernel.value(CHILDREN)
    with Client(port, receive_buffer=4096) as client, Client(port) as idle:
        client.send(request(target="/large.bin"))
        client.read_head()
        own_kernel.signal(signal.SIGKILL)
        with pytest.raises(Closed):
            client.read_exactly(24 * 1024 * 1024)
        assert idle.is_closed()
    wait_until(lambda: is_free(port))
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_cell_that_stops_a_server_lets_a_download_out(kernel: Kernel, isolation: str) -> None:
    port = kernel.serve(f"HTTPUV.instance().isolation = {isolation!r}\n{FILE}").port
    with Client(port) as client:
        client.send(request(target="/large.bin"))
        client.read_head()
        cell = kernel.begin("server.stop(timeout=20)")
        assert len(client.read_exactly(24 * 1024 * 1024)) == 24 * 1024 * 1024
        assert client.is_closed()
        assert cell.wait().status == "ok"
    assert is_free(port)


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_an_error_that_ends_programs_ends_a_request(kernel: Kernel, error: str) -> None:
    served = kernel.serve(
        f"""
        def app(request):
            if request.path == "/end":
                raise {error}("the end")
            return {{"body": "fine"}}
        """
    )
    assert get(served.port, "/end").status == 500
    assert get(served.port).text == "fine"
    served.cell.wait_output(error)


def test_a_stopped_kernel_goes_on(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    with Client(port) as client:
        kernel.signal(signal.SIGSTOP)
        client.send(request())
        os.kill(kernel.pid, signal.SIGCONT)
        assert client.read_reply().text == "fine"
