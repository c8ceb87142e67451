"""Where output of callbacks goes: to the cell that started them, or to the one that runs them."""

from __future__ import annotations

import http.client

import pytest
from helpers import wait_until
from kernels import Kernel, ask, get, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

# What a callback can show, and how it is found.
SHOWN = {
    "print": "print('shown')",
    "display": "display('shown')",
    "stderr": "print('shown', file=sys.stderr)",
    "logging": "logging.getLogger('app').warning('shown')",
    "traceback": "raise LookupError('shown')",
}

HANDLERS = {
    "function": "def app(request):\n    {show}\n    return {{}}",
    "coroutine": "async def app(request):\n    await asyncio.sleep(0)\n    {show}\n    return {{}}",
    "generator": (
        "def pieces():\n    yield 'begun'\n    {show}\n"
        "def app(request):\n    return {{'body': pieces()}}"
    ),
    "future": (
        "class Soon:\n"
        "    def add_done_callback(self, done):\n        done(self)\n"
        "    def result(self):\n        {show}\n        return {{}}\n"
        "def app(request):\n    return Soon()"
    ),
    "object": (
        "class App:\n    def call(self, request):\n        {show}\n        return {{}}\napp = App()"
    ),
}


@pytest.mark.parametrize("show", SHOWN)
@pytest.mark.parametrize("handler", HANDLERS)
def test_output_goes_to_the_starting_cell(kernel: Kernel, handler: str, show: str) -> None:
    port, cell = kernel.serve(HANDLERS[handler].format(show=SHOWN[show]))
    later_cells = [kernel.run("1"), kernel.run("2")]
    if (handler, show) == ("generator", "traceback"):  # the response has begun
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            get(port)
    else:
        assert get(port).status == (500 if show == "traceback" else 200)
    cell.wait_output("shown")
    assert not any("shown" in other.output for other in later_cells)


def test_on_headers_prints_to_the_starting_cell(kernel: Kernel) -> None:
    port, cell = kernel.serve("app = {'on_headers': lambda r: print('asked') or {'status': 403}}")
    other = kernel.run("1")
    assert get(port).status == 403
    cell.wait_output("asked")
    assert "asked" not in other.output


def test_two_servers_print_to_their_cells(kernel: Kernel) -> None:
    one = kernel.serve("app = lambda request: print('one') or {}")
    two = kernel.serve("app = lambda request: print('two') or {}")
    for port in (one.port, two.port, one.port):
        assert get(port).status == 200
    wait_until(lambda: one.cell.stdout == "one\none\n")
    wait_until(lambda: two.cell.stdout == "two\n")


def test_a_traceback_shows_user_code_only(kernel: Kernel) -> None:
    code = """
    def inner(request):
        return {}["key"]
    def app(request):
        return inner(request)
    """
    port, cell = kernel.serve(code)
    assert get(port, "/path").status == 500
    cell.wait_output("KeyError")
    assert "inner(request)" in cell.error
    assert "GET /path failed" in cell.stderr
    assert "httpuv_kernel/" not in cell.error


def test_a_traceback_of_a_coroutine_shows_user_code_only(kernel: Kernel) -> None:
    code = """
    async def app(request):
        await asyncio.sleep(0)
        return {}["key"]
    """
    port, cell = kernel.serve(code)
    assert get(port).status == 500
    cell.wait_output("KeyError")
    assert 'return {}["key"]' in cell.error
    assert "httpuv_kernel/" not in cell.error


def test_a_traceback_of_an_async_generator_shows_user_code_only(kernel: Kernel) -> None:
    code = """
    async def pieces():
        yield {}["key"]
    app = lambda request: {"body": pieces()}
    """
    port, cell = kernel.serve(code)
    assert get(port).status == 500
    cell.wait_output("KeyError")
    assert 'yield {}["key"]' in cell.error
    assert "httpuv_kernel/" not in cell.error


def test_what_cannot_be_sent_is_named(kernel: Kernel) -> None:
    port, cell = kernel.serve("app = lambda request: 42")
    assert get(port).status == 500
    cell.wait_output("ResponseError")
    assert "42" in cell.error


def test_a_failing_callback_leaves_the_running_cell_ok(kernel: Kernel) -> None:
    port = kernel.serve("def app(request):\n    raise LookupError('mine')").port
    cell = kernel.begin("await asyncio.sleep(0.5)")
    assert get(port).status == 500
    assert cell.wait().status == "ok"
    assert "LookupError" not in cell.output


# -- inside service() ------------------------------------------------------------------------------


@pytest.mark.parametrize("show", SHOWN)
def test_inside_service_output_goes_to_the_running_cell(kernel: Kernel, show: str) -> None:
    port, start = kernel.serve(f"def app(request):\n    {SHOWN[show]}\n    return {{}}")
    cell = kernel.begin("service(10_000)")
    get(port)
    cell.wait().wait_output("shown")
    assert "shown" not in start.output


def test_after_service_output_goes_to_the_starting_cell_again(kernel: Kernel) -> None:
    port, start = kernel.serve("def app(request):\n    print(request.path)\n    return {}")
    inside = kernel.begin("service(10_000)")
    get(port, "/inside")
    inside.wait()
    get(port, "/outside")
    start.wait_output("/outside")
    assert "/inside" not in start.output
    assert inside.stdout == "/inside\n"


# -- later() ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("show", SHOWN)
def test_later_shows_in_the_cell_that_scheduled_it(kernel: Kernel, show: str) -> None:
    code = f"def call():\n    {SHOWN[show]}\nlater(call, 0.2)"
    cell = kernel.run(code)
    other = kernel.run("1")
    cell.wait_output("shown")
    assert "shown" not in other.output


def test_later_of_a_callback_shows_where_the_callback_does(kernel: Kernel) -> None:
    code = "def app(request):\n    later(lambda: print('afterwards'))\n    return {}"
    port, cell = kernel.serve(code)
    other = kernel.run("1")
    assert get(port).status == 200
    cell.wait_output("afterwards")
    assert "afterwards" not in other.output


# -- the running cell ------------------------------------------------------------------------------


def test_the_running_cells_own_output_stays_there(kernel: Kernel) -> None:
    code = """
    answered = asyncio.Event()
    def app(request):
        print("callback")
        display("callback")
        answered.set()
        return {}
    """
    port, start = kernel.serve(code)
    code = """
    print("before")
    await asyncio.wait_for(answered.wait(), 10)
    print("after")
    display("after")
    "value"
    """
    cell = kernel.begin(code)
    answer = ask(port)
    cell.wait()
    assert answer.result(10).status == 200
    start.wait_output("callback")
    assert cell.stdout == "before\nafter\n"
    assert [data["text/plain"] for data in cell.displays] == ["'after'", "'value'"]
    assert "after" not in start.output


def test_an_async_cell_keeps_its_output_beside_a_coroutine_handler(kernel: Kernel) -> None:
    code = """
    gate, seen = asyncio.Event(), asyncio.Event()
    async def app(request):
        print("callback 1")
        seen.set()
        await gate.wait()
        print("callback 2")
        display("callback 3")
        return {}
    """
    port, start = kernel.serve(code)
    answer = ask(port)
    code = """
    await asyncio.wait_for(seen.wait(), 10)
    print("cell 1")
    gate.set()
    await asyncio.sleep(0.05)
    print("cell 2")
    display("cell 3")
    """
    cell = kernel.run(code)
    assert answer.result(10).status == 200
    start.wait_output("callback 3")
    assert start.stdout == "callback 1\ncallback 2\n"
    assert cell.stdout == "cell 1\ncell 2\n"
    assert "cell 3" in cell.output
    assert "cell" not in start.output


def test_output_of_a_server_started_in_a_worker_thread(kernel: Kernel) -> None:
    code = """
    def app(request):
        print("from the worker")
        return {}
    def work():
        global server
        server = start_server("127.0.0.1", 0, app)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    """
    cell = kernel.run(code)
    assert get(kernel.value("server.port")).status == 200
    wait_until(lambda: any("from the worker" in str(m["content"]) for m in kernel.all_published))
    assert cell.status == "ok"
