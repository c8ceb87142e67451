"""Serving from a live kernel: idle, beside a cell, and inside a cell."""

from __future__ import annotations

import http.client
import statistics
import threading
from pathlib import Path

import pytest
from helpers import wait_until
from kernels import Kernel, ask, free_port, get, is_free, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

HELLO = """
def app(request):
    return {"body": f"hello {request.path}"}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<script src=report.js></script>")
    (tmp_path / "report.js").write_text("document.title = 'ready'")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    return tmp_path


# -- the main job ----------------------------------------------------------------------------------


def test_a_directory_is_served_by_the_magic(kernel: Kernel, site: Path) -> None:
    cell = kernel.run(f"%load_ext httpuv_kernel\n%httpuv_serve {site} --port 0")
    port = kernel.value("list_servers()[-1].port")
    assert f"http://127.0.0.1:{port}/" in cell.displays[0]["text/html"]
    page = get(port)
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    script = get(port, "/report.js")
    assert script.text == "document.title = 'ready'"
    assert "javascript" in script.headers["content-type"]


def test_a_directory_is_served_by_start_server(kernel: Kernel, site: Path) -> None:
    port = kernel.serve(app=f"{{'static_paths': {{'/out': {str(site)!r}}}}}").port
    assert get(port, "/out/table.csv").text == "a,b\n1,2\n"
    assert get(port, "/out/").status == 200
    assert get(port, "/elsewhere").status == 404


def test_an_app_answers(kernel: Kernel) -> None:
    answer = get(kernel.serve(HELLO).port, "/there")
    assert (answer.status, answer.text) == (200, "hello /there")


def test_the_magic_serves_an_app_by_its_name(kernel: Kernel) -> None:
    kernel.run("%load_ext httpuv_kernel\n" + HELLO)
    kernel.run("%httpuv_serve app --port 0")
    assert get(kernel.value("list_servers()[-1].port")).status == 200


def test_a_variable_changed_later_is_seen_in_the_next_response(kernel: Kernel) -> None:
    port = kernel.serve("value = 1\napp = lambda request: {'body': str(value)}").port
    assert get(port).text == "1"
    kernel.run("value = 2")
    assert get(port).text == "2"


def test_callbacks_run_on_the_main_thread(kernel: Kernel) -> None:
    port = kernel.serve("app = lambda r: {'body': threading.current_thread().name}").port
    assert get(port).text == "MainThread"


def test_a_started_server_shows_its_link(kernel: Kernel) -> None:
    cell = kernel.run("start_server('127.0.0.1', 0, lambda request: {})")
    url = kernel.value("list_servers()[-1].url")
    assert f'href="{url}"' in cell.displays[0]["text/html"]


# -- beside a cell and inside it -------------------------------------------------------------------


def test_a_request_during_a_sleeping_cell_waits_until_it_ends(kernel: Kernel) -> None:
    port = kernel.serve("app = lambda request: {'body': repr(time.monotonic())}").port
    kernel.begin("time.sleep(2); ended = time.monotonic()")
    answer = get(port)
    ended = kernel.value("ended")
    assert answer.status == 200
    assert ended <= float(answer.text) < ended + 0.5


def test_a_request_during_service_is_answered_while_the_cell_runs(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    cell = kernel.begin("over = False\nwhile not over: service(50)")
    seconds = [get(port).seconds for _ in range(5)]
    assert not any(content["execution_state"] == "idle" for content in cell.contents("status"))
    assert statistics.median(seconds) < 0.3
    kernel.interrupt()
    assert cell.wait().status == "error"


def test_static_files_answer_while_a_cell_sleeps(kernel: Kernel, site: Path) -> None:
    port = kernel.serve(app=f"{{'static_paths': {{'/': {str(site)!r}}}}}").port
    cell = kernel.begin("time.sleep(1); ended = time.monotonic()")
    answers = [get(port, "/table.csv") for _ in range(5)]
    assert not any(content["execution_state"] == "idle" for content in cell.contents("status"))
    assert {answer.status for answer in answers} == {200}
    assert statistics.median(answer.seconds for answer in answers) < 0.3
    cell.wait()


def test_static_files_answer_while_a_cell_computes(kernel: Kernel, site: Path) -> None:
    port = kernel.serve(app=f"{{'static_paths': {{'/': {str(site)!r}}}}}").port
    cell = kernel.begin("until = time.monotonic() + 1\nwhile time.monotonic() < until: pass")
    seconds = [get(port, "/table.csv").seconds for _ in range(5)]
    assert not any(content["execution_state"] == "idle" for content in cell.contents("status"))
    assert statistics.median(seconds) < 0.3
    cell.wait()


def test_service_runs_one_callback_and_returns_true(kernel: Kernel) -> None:
    code = """
    ran = []
    for n in range(3):
        later(lambda n=n: ran.append(n))
    returned = service(1000)
    after_one = list(ran)
    service(float('nan')), service(float('nan')), service(float('nan'))
    """
    kernel.run(code)
    assert kernel.value("(returned, after_one, ran)") == (True, [0], [0, 1, 2])


def test_interrupt_ends_a_service_without_limit(kernel: Kernel) -> None:
    code = """
    ran = []
    later(lambda: ran.append(1), 0.05)
    later(interrupt, 0.1)
    cancel = later(lambda: ran.append(2), 5)
    service(0)
    cancel()
    """
    kernel.run(code)
    assert kernel.value("ran") == [1]


def test_run_server_serves_until_interrupted(kernel: Kernel) -> None:
    port = free_port()
    cell = kernel.begin(f"{HELLO}\nrun_server('127.0.0.1', {port}, app)")
    wait_until(lambda: not is_free(port))
    assert get(port).status == 200
    kernel.interrupt()
    assert "KeyboardInterrupt" in cell.wait().error
    assert kernel.value("len(list_servers())") == 0


def test_later_runs_in_the_order_of_time(kernel: Kernel) -> None:
    code = """
    ran = []
    later(lambda: ran.append('c'), 0.1)
    later(lambda: ran.append('a'))
    later(lambda: ran.append('b'), 0.05)
    cancel = later(lambda: ran.append('never'), 0.05)
    cancelled = cancel(), cancel()
    """
    kernel.run(code)
    wait_until(lambda: kernel.value("len(ran)") == 3)
    assert kernel.value("(ran, cancelled)") == (["a", "b", "c"], (True, False))


def test_run_now_runs_all_that_is_due(kernel: Kernel) -> None:
    code = """
    ran = []
    for n in range(3):
        later(lambda n=n: ran.append(n))
    results = run_now(), list(ran), run_now()
    """
    kernel.run(code)
    assert kernel.value("results") == (True, [0, 1, 2], False)


@pytest.mark.parametrize("needless", ["later(int)", "interrupt()", "service(1)"])
def test_a_wakeup_for_nothing_does_not_delay_the_next_request(
    kernel: Kernel, needless: str
) -> None:
    port = kernel.serve(HELLO).port
    seconds = []
    for _ in range(5):
        kernel.run(needless)
        seconds.append(get(port).seconds)
    assert statistics.median(seconds) < 0.3


def test_the_first_request_to_each_new_server_is_answered_at_once(kernel: Kernel) -> None:
    seconds = []
    for _ in range(5):
        seconds.append(get(kernel.serve(HELLO).port).seconds)
        kernel.run("stop_all_servers()")
    assert statistics.median(seconds) < 0.3


def test_a_flood_leaves_cells_quick(kernel: Kernel) -> None:
    port = kernel.serve(HELLO).port
    asked, over = [], []

    def hammer() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not over:
            connection.request("GET", "/")
            asked.append(connection.getresponse().read())
        connection.close()

    threads = [threading.Thread(target=hammer) for _ in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(asked) > 100, timeout=20)
    try:
        for _ in range(10):
            kernel.run("1 + 1", timeout=2)
    finally:
        over.append(True)
        for thread in threads:
            thread.join()


def test_a_client_that_left_before_its_turn_is_not_served(kernel: Kernel) -> None:
    port = kernel.serve("ran = []\ndef app(request):\n ran.append(request.path)\n return {}").port
    cell = kernel.begin("time.sleep(1)")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/left")
    connection.close()
    staying = ask(port, "/stays")
    cell.wait()
    assert staying.result(10).status == 200
    assert kernel.value("ran") == ["/stays"]


# -- threads, subshells and other people's loops ---------------------------------------------------


def test_a_server_started_in_a_worker_thread(kernel: Kernel) -> None:
    code = """
    def app(request):
        return {"body": threading.current_thread().name}
    def work():
        global server
        server = start_server("127.0.0.1", 0, app)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    """
    kernel.run(code)
    assert get(kernel.value("server.port")).text == "MainThread"


def test_service_in_a_worker_thread_is_refused(kernel: Kernel) -> None:
    code = """
    def work():
        try:
            service(10)
        except MainThreadError as error:
            refused.append(str(error))
    refused = []
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    """
    kernel.run(code)
    assert "main thread" in kernel.value("refused")[0]


def test_a_subshell(kernel: Kernel) -> None:
    if kernel.version < 7:
        pytest.skip("ipykernel 6 has no subshells")
    kernel.run("app = lambda request: {'body': threading.current_thread().name}")
    subshell = kernel.control("create_subshell_request")["subshell_id"]
    code = """
    thread = threading.current_thread().name
    server = start_server("127.0.0.1", 0, app)
    print("started")
    """
    started = kernel.execute_nowait(code, subshell).wait()
    assert started.status == "ok", started.error
    assert kernel.value("thread") != "MainThread"
    port = kernel.value("server.port")
    assert get(port).text == "MainThread"

    refused = kernel.execute_nowait("service(10)", subshell).wait()
    assert refused.status == "error"
    assert "MainThreadError" in refused.error

    assert kernel.control("delete_subshell_request", {"subshell_id": subshell})["status"] == "ok"
    assert get(port).text == "MainThread"


def test_nest_asyncio(own_kernel: Kernel) -> None:
    own_kernel.run("import nest_asyncio; nest_asyncio.apply()")
    code = """
    async def app(request):
        await asyncio.sleep(0.01)
        return {"body": "nested"}
    """
    port = own_kernel.serve(code).port
    assert get(port).text == "nested"
    cell = own_kernel.begin("asyncio.run(asyncio.sleep(0.5)); ended = time.monotonic()")
    assert get(port).text == "nested"
    assert cell.wait().status == "ok"
    own_kernel.run("stop_all_servers()")


def test_a_patched_asyncio_run(own_kernel: Kernel) -> None:
    code = """
    def refuse(*arguments, **named):
        raise RuntimeError("asyncio.run was called")
    asyncio.run = asyncio.new_event_loop = refuse
    app = lambda request: {"body": "still"}
    """
    assert get(own_kernel.serve(code).port).text == "still"


def test_the_loop_policy_is_left_alone(kernel: Kernel) -> None:
    kernel.run("before = type(asyncio.get_event_loop_policy())")
    assert get(kernel.serve(HELLO).port).status == 200
    assert kernel.value("type(asyncio.get_event_loop_policy()) is before") is True
