"""A storm of SIGINT over a program that serves by a network process: nothing is lost or hangs."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from helpers import wait_until
from kernels import get, is_free
from test_kernel_interrupts import INTERRUPTS, SERVICE_LOOP, Storm
from test_process import children
from test_process_kill import program

CODE = """
signal.signal(signal.SIGINT, signal.default_int_handler)
over, ran = False, []
def app(request):
    global over
    if request.path == "/over":
        over = True
        return {}
    ran.append(int(request.path[1:]))
    sum(range(20_000))
    return {"body": request.path[1:]}
server.replace_app(app)
"""


class Target:
    """A program, as a storm needs it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def signal(self) -> None:
        os.kill(self.pid, signal.SIGINT)


@pytest.mark.slow
def test_a_storm() -> None:
    with program(CODE + SERVICE_LOOP + "print(interrupted, *ran)", subprocess.DEVNULL) as (
        running,
        port,
    ):
        assert running.stdout is not None
        assert running.stdout.readline() == "serving\n"
        (network,) = children(running.pid)
        storm = Storm(Target(running.pid), port)  # type: ignore[arg-type]
        with storm.blowing(clients=32):
            wait_until(lambda: len(storm.status) > 50)
            storm.interrupt(INTERRUPTS)
            count = len(storm.status)
            wait_until(lambda: len(storm.status) > count + 50)
        assert network.is_running()
        assert get(port, "/over").status == 200
        output, _ = running.communicate(timeout=20)
    interrupted, *ran = map(int, output.split())
    assert interrupted > 0
    storm.check(ran)
    assert is_free(port)
