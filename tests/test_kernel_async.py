"""asyncio in a live kernel: cells that await, and handlers that return what is to be waited for."""

from __future__ import annotations

import http.client

import pytest
from helpers import wait_until
from kernels import Kernel, ask, get, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

HELLO = """
def app(request):
    return {"body": f"hello {request.path}"}
"""


# -- async cells -----------------------------------------------------------------------------------


def test_callbacks_run_while_an_async_cell_awaits(kernel: Kernel) -> None:
    port = kernel.serve("event = asyncio.Event()\ndef app(request):\n event.set()\n return {}").port
    cell = kernel.begin("await asyncio.wait_for(event.wait(), 10)")
    assert get(port).status == 200
    assert cell.wait().status == "ok"


def test_service_async_returns_after_a_callback(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    code = """
    begun = time.monotonic()
    returned = await service_async(10_000)
    took = time.monotonic() - begun
    """
    cell = kernel.begin(code)
    assert get(port).status == 200
    cell.wait()
    returned, took = kernel.value("(returned, took)")
    assert returned is True
    assert took < 5


def test_service_async_returns_after_its_time(kernel: Kernel) -> None:
    kernel.serve(HELLO)
    kernel.run(
        "begun = time.monotonic()\nawait service_async(100)\ntook = time.monotonic() - begun"
    )
    assert 0.1 <= kernel.value("took") < 2


def test_service_async_without_limit_ends_with_interrupt(kernel: Kernel) -> None:
    code = """
    ran = []
    later(lambda: ran.append(1), 0.05)
    later(interrupt, 0.1)
    await service_async(0)
    """
    kernel.run(code)
    assert kernel.value("ran") == [1]


# -- what handlers may return ----------------------------------------------------------------------


def test_a_coroutine_handler_shares_the_loop_with_the_cells(kernel: Kernel) -> None:
    code = """
    queue = asyncio.Queue()
    async def app(request):
        await asyncio.sleep(0.01)
        return {"body": await queue.get()}
    """
    port = kernel.serve(code).port
    answer = ask(port)
    kernel.run("await queue.put('from a cell')")
    assert answer.result(10).text == "from a cell"


def test_coroutine_handlers_run_side_by_side(kernel: Kernel) -> None:
    code = """
    gate = asyncio.Event()
    async def app(request):
        if request.path == "/open":
            gate.set()
        await asyncio.wait_for(gate.wait(), 10)
        return {"body": "done"}
    """
    port = kernel.serve(code).port
    waiting = ask(port, "/wait")
    assert get(port, "/open").text == "done"
    assert waiting.result(10).text == "done"


def test_a_concurrent_future_is_waited_for(kernel: Kernel) -> None:
    code = """
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(1)
    def work():
        return {"body": threading.current_thread() is threading.main_thread() and "main" or "pool"}
    app = lambda request: pool.submit(work)
    """
    assert get(kernel.serve(code).port).text == "pool"


def test_a_failed_concurrent_future_is_a_500(kernel: Kernel) -> None:
    code = """
    from concurrent.futures import Future
    def app(request):
        future = Future()
        future.set_exception(LookupError("not there"))
        return future
    """
    port, cell = kernel.serve(code)
    assert get(port).status == 500
    cell.wait_output("LookupError: not there")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_generator_streams(kernel: Kernel, kind: str) -> None:
    code = f"""
    {kind} pieces():
        for n in range(3):
            yield f"piece {{n}}\\n"
    app = lambda request: {{"body": pieces()}}
    """
    answer = get(kernel.serve(code).port)
    assert answer.text == "piece 0\npiece 1\npiece 2\n"
    assert answer.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    ("kind", "pause"), [("def", "pass"), ("async def", "await asyncio.sleep(0)")]
)
def test_a_generator_is_closed_when_the_client_leaves(
    kernel: Kernel, kind: str, pause: str
) -> None:
    code = f"""
    closed = []
    {kind} pieces():
        try:
            while True:
                {pause}
                yield "x" * 1000
        finally:
            closed.append(True)
    app = lambda request: {{"body": pieces()}}
    """
    port, cell = kernel.serve(code)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.read(10_000) == b"x" * 10_000
    response.close()
    connection.close()
    wait_until(lambda: kernel.value("closed") == [True], timeout=10)
    assert kernel.run("1").status == "ok"
    assert "Traceback" not in cell.output
