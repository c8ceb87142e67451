"""The stop button: it ends one callback, or the cell that waits, and loses nothing."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from helpers import wait_until
from kernels import Kernel, ask, get, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

ENDLESS = """
def spin():
    print("spinning", flush=True)
    while True:
        pass
def app(request):
    if request.path == "/endless":
        spin()
    return {"body": "quick"}
"""

ENDLESS_COROUTINE = """
async def app(request):
    await asyncio.sleep(0.01)
    if request.path == "/endless":
        print("spinning", flush=True)
        while True:
            pass
    return {"body": "quick"}
"""


def assert_serves_on(kernel: Kernel, port: int) -> None:
    """The next cell runs, the next request is answered, SIGINT is as an idle kernel has it."""
    assert kernel.value("6 * 7") == 42
    assert get(port).status == 200
    wait_until(lambda: kernel.ignores_sigint)


# -- one callback ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("code", [ENDLESS, ENDLESS_COROUTINE], ids=["function", "coroutine"])
def test_an_endless_callback(kernel: Kernel, code: str, by: str) -> None:
    port, cell = kernel.serve(code)
    answer = ask(port, "/endless")
    cell.wait_output("spinning")
    kernel.interrupt(by)
    assert answer.result(10).status == 500
    assert_serves_on(kernel, port)
    cell.wait_output("/endless failed")


def test_its_traceback_has_no_frames_of_the_library(kernel: Kernel) -> None:
    port, cell = kernel.serve(ENDLESS)
    answer = ask(port, "/endless")
    cell.wait_output("spinning")
    kernel.interrupt()
    assert answer.result(10).status == 500
    cell.wait_output("KeyboardInterrupt")
    wait_until(lambda: cell.error)
    assert "spin()" in cell.error
    assert "httpuv_kernel/" not in cell.error
    assert "asyncio/" not in cell.error


def test_the_traceback_of_an_endless_coroutine_names_the_line(kernel: Kernel) -> None:
    port, cell = kernel.serve(ENDLESS_COROUTINE)
    answer = ask(port, "/endless")
    cell.wait_output("spinning")
    kernel.interrupt()
    assert answer.result(10).status == 500
    wait_until(lambda: cell.error)
    assert "while True:" in cell.error
    assert "httpuv_kernel/" not in cell.error


def test_those_who_wait_behind_it_are_served(kernel: Kernel) -> None:
    port, cell = kernel.serve(ENDLESS)
    endless = ask(port, "/endless")
    cell.wait_output("spinning")
    waiting = [ask(port) for _ in range(5)]
    kernel.interrupt()
    assert endless.result(10).status == 500
    assert [answer.result(10).status for answer in waiting] == [200] * 5


def test_an_endless_generator(kernel: Kernel) -> None:
    code = """
    closed = []
    def pieces():
        try:
            yield "begun"
            print("spinning", flush=True)
            while True:
                pass
        finally:
            closed.append(True)
    app = lambda request: {"body": pieces() if request.path == "/endless" else "quick"}
    """
    port, cell = kernel.serve(code)
    answer = ask(port, "/endless")
    cell.wait_output("spinning")
    kernel.interrupt()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.result(10)
    assert_serves_on(kernel, port)
    assert kernel.value("closed") == [True]


def test_an_endless_later(kernel: Kernel) -> None:
    port = kernel.serve(ENDLESS).port
    cell = kernel.run("later(spin)")
    cell.wait_output("spinning")
    kernel.interrupt()
    cell.wait_output("KeyboardInterrupt")
    assert_serves_on(kernel, port)


def test_a_stubborn_callback_needs_one_interrupt_for_each_catch(kernel: Kernel) -> None:
    code = """
    caught = 0
    def app(request):
        global caught
        while caught < 3:
            try:
                print("spinning", caught, flush=True)
                while True:
                    pass
            except KeyboardInterrupt:
                caught += 1
        return {"body": str(caught)}
    """
    port, cell = kernel.serve(code)
    answer = ask(port)
    for n in range(3):
        cell.wait_output(f"spinning {n}")
        kernel.interrupt()
    assert (answer.result(10).status, answer.result().text) == (200, "3")
    assert_serves_on(kernel, port)


@pytest.mark.parametrize("number", [0, 1, "'text'", "None"])
def test_sys_exit_is_a_500(kernel: Kernel, number: object) -> None:
    code = f"""
    def app(request):
        if request.path == "/exit":
            sys.exit({number})
        return {{}}
    """
    port, cell = kernel.serve(code)
    assert get(port, "/exit").status == 500
    cell.wait_output("SystemExit")
    assert_serves_on(kernel, port)


@pytest.mark.parametrize("pause", ["await asyncio.sleep(0.01)", "pass"])
def test_sys_exit_in_a_coroutine_is_a_500(kernel: Kernel, pause: str) -> None:
    code = f"""
    async def app(request):
        {pause}
        if request.path == "/exit":
            sys.exit(1)
        return {{}}
    """
    port, cell = kernel.serve(code)
    assert get(port, "/exit").status == 500
    cell.wait_output("SystemExit")
    assert_serves_on(kernel, port)


@pytest.mark.parametrize("error", ["SystemExit(1)", "KeyboardInterrupt()"])
def test_an_exit_in_an_async_generator_is_a_500(kernel: Kernel, error: str) -> None:
    code = f"""
    async def pieces():
        await asyncio.sleep(0)
        raise {error}
        yield
    app = lambda request: {{"body": pieces()}} if request.path == "/exit" else {{}}
    """
    port = kernel.serve(code).port
    assert get(port, "/exit").status == 500
    assert_serves_on(kernel, port)


def test_an_idle_kernel_ignores_an_interrupt(kernel: Kernel) -> None:
    port = kernel.serve(ENDLESS).port
    wait_until(lambda: kernel.ignores_sigint)
    for _ in range(10):
        kernel.interrupt()
    assert_serves_on(kernel, port)


# -- cells -----------------------------------------------------------------------------------------


def test_a_callback_inside_service_ends_and_the_cell_stops(kernel: Kernel) -> None:
    port = kernel.serve(ENDLESS).port
    cell = kernel.begin("service(0); reached = True")
    answer = ask(port, "/endless")
    cell.wait_output("spinning")
    kernel.interrupt()
    assert answer.result(10).status == 500
    assert cell.wait().status == "error"
    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert kernel.value("'reached' in globals()") is False
    assert_serves_on(kernel, port)


@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("wait", ["service(0)", "service(60_000)", "run_now(60)"])
def test_a_cell_that_waits_stops(kernel: Kernel, wait: str, by: str) -> None:
    port = kernel.serve(ENDLESS).port
    cell = kernel.begin(f"later(lambda: print('waiting', flush=True))\nservice(1000)\n{wait}")
    cell.wait_output("waiting")
    kernel.interrupt(by)
    assert cell.wait(5).reply["ename"] == "KeyboardInterrupt"
    assert_serves_on(kernel, port)


def test_the_interrupt_of_a_waiting_cell_loses_no_request(kernel: Kernel) -> None:
    code = "ran = []\ndef app(request):\n    ran.append(request.path)\n    return {}"
    port = kernel.serve(code).port
    answered = []
    for n in range(10):
        cell = kernel.begin("service(0)")
        answers = {f"/{n}/{m}": ask(port, f"/{n}/{m}") for m in range(4)}
        kernel.interrupt()
        assert cell.wait().reply["ename"] == "KeyboardInterrupt"
        status = {path: answer.result(10).status for path, answer in answers.items()}
        # The interrupt may come while a handler runs; no other request may suffer.
        assert sorted(status.values())[:3] == [200] * 3
        answered += [path for path in status if status[path] == 200]
    ran = kernel.value("ran")
    assert len(ran) == len(set(ran))
    assert set(answered) <= set(ran)
    assert_serves_on(kernel, port)


def test_a_plain_cell_is_interrupted_as_ever(kernel: Kernel) -> None:
    port = kernel.serve(ENDLESS).port
    cell = kernel.begin("print('running', flush=True)\nwhile True: pass")
    cell.wait_output("running")
    kernel.interrupt()
    assert cell.wait(5).reply["ename"] == "KeyboardInterrupt"
    assert_serves_on(kernel, port)


def test_a_callback_beside_an_async_cell(kernel: Kernel) -> None:
    port, start = kernel.serve(ENDLESS)
    cell = kernel.begin("await asyncio.sleep(60)")
    answer = ask(port, "/endless")
    start.wait_output("spinning")
    kernel.interrupt()
    assert answer.result(10).status == 500
    assert cell.wait(10).status == "error"  # both: ipykernel cancels the cell that awaits
    assert_serves_on(kernel, port)


# -- storms ----------------------------------------------------------------------------------------

NUMBERED = """
ran = []
def app(request):
    ran.append(int(request.path[1:]))
    sum(range(20_000))
    return {"body": request.path[1:]}
"""

INTERRUPTS = 2000


class Storm:
    """Numbered requests on kept-alive connections, while interrupts rain down."""

    def __init__(self, kernel: Kernel, port: int) -> None:
        self._kernel = kernel
        self._port = port
        self._numbers = itertools.count()
        self._over = threading.Event()
        self.status: dict[int, int] = {}
        """By the number of the request."""

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._over.is_set():
            number = next(self._numbers)
            connection.request("GET", f"/{number}")
            response = connection.getresponse()
            body = response.read()
            assert number not in self.status
            self.status[number] = response.status
            if response.status == 200:  # else a second answer to an earlier one may be read here
                assert body == b"%d" % number
        connection.close()

    @contextmanager
    def blowing(self, clients: int = 4) -> Iterator[None]:
        with ThreadPoolExecutor(clients) as pool:
            futures = [pool.submit(self._client) for _ in range(clients)]
            try:
                yield
            finally:
                self._over.set()
        for future in futures:
            future.result()

    def interrupt(self, count: int) -> None:
        for _ in range(count):
            self._kernel.signal()
            self._over.wait(0.0004)  # a signal that is still pending would swallow the next

    def check(self, ran: list[int]) -> None:
        """Each request one answer; each ran once, but those that were interrupted may not have."""
        times = Counter(ran)
        assert sorted(self.status) == list(range(len(self.status)))
        assert set(self.status.values()) <= {200, 500}
        assert not [number for number, count in times.items() if count > 1]
        answered = {number for number, status in self.status.items() if status == 200}
        assert answered <= set(times)
        assert set(times) <= set(self.status)


@pytest.mark.slow
def test_a_storm_over_an_idle_kernel(own_kernel: Kernel) -> None:
    port = own_kernel.serve(NUMBERED).port
    storm = Storm(own_kernel, port)
    with storm.blowing():
        wait_until(lambda: len(storm.status) > 20)
        storm.interrupt(INTERRUPTS)
        assert own_kernel.is_alive
        count = len(storm.status)
        wait_until(lambda: len(storm.status) > count + 20)
    storm.check(own_kernel.value("ran"))
    assert 500 in storm.status.values()
    own_kernel.run("app = lambda request: {}")
    assert_quiet(own_kernel, port)


# The nesting is for an interrupt of the lines that take note of one.
SERVICE_LOOP = """
interrupted = 0
def serve():
    while not over:
        service(20)
def persist(function):
    global interrupted
    while True:
        try:
            return function()
        except KeyboardInterrupt:
            interrupted += 1
print("serving", flush=True)
persist(lambda: persist(lambda: persist(serve)))
"""


@pytest.mark.slow
def test_a_storm_over_a_cell_in_service(own_kernel: Kernel) -> None:
    code = """
    def app(request):
        global over
        if request.path == "/over":
            over = True
            return {}
        ran.append(int(request.path[1:]))
        sum(range(20_000))
        return {"body": request.path[1:]}
    over, ran = False, []
    """
    port = own_kernel.serve(code).port
    storm = Storm(own_kernel, port)
    cell = own_kernel.begin(SERVICE_LOOP)
    cell.wait_output("serving")
    with storm.blowing():
        wait_until(lambda: len(storm.status) > 20)
        storm.interrupt(INTERRUPTS)
        assert own_kernel.is_alive
        count = len(storm.status)
        wait_until(lambda: len(storm.status) > count + 20)
    assert get(port, "/over").status == 200
    assert cell.wait().status == "ok", cell.error
    storm.check(own_kernel.value("ran"))
    assert own_kernel.value("interrupted") > 0
    assert_quiet(own_kernel, port)


def assert_quiet(kernel: Kernel, port: int) -> None:
    """After a storm: all as before it."""
    wait_until(lambda: kernel.ignores_sigint)
    assert get(port, "/1000000").status == 200
    cell = kernel.begin("while True: pass")
    kernel.interrupt()
    assert cell.wait(5).reply["ename"] == "KeyboardInterrupt"
    assert "Traceback" not in kernel.log
