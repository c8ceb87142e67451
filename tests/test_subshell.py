"""Subshells, threads of an ipykernel 7 that run cells beside the main one: callbacks stay there."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import pytest
from helpers import wait_until
from kernels import Cell, Kernel, ask, get, is_free, kernel_fixtures

pytestmark = pytest.mark.kernel

shared_kernel, kernel, own_kernel = kernel_fixtures()

# Executes code in a subshell; returns when that is over.
Execute = Callable[[str], Cell]

HELLO = "app = lambda request: {'body': threading.current_thread().name}"
START = "server = start_server('127.0.0.1', 0, app)"


@pytest.fixture
def subshell(kernel: Kernel) -> Iterator[str]:
    if kernel.version < 7:
        pytest.skip("ipykernel 6 has no subshells")
    id = kernel.control("create_subshell_request")["subshell_id"]
    kernel.run("stop_all_servers()\n" + HELLO)
    yield id
    kernel.control("delete_subshell_request", {"subshell_id": id})


@pytest.fixture
def execute(kernel: Kernel, subshell: str) -> Execute:
    def execute(code: str) -> Cell:
        cell = kernel.execute_nowait(code, subshell).wait()
        assert cell.status == "ok", cell.error
        return cell

    return execute


def test_it_is_another_thread(kernel: Kernel, execute: Execute) -> None:
    execute("thread = threading.current_thread().name")
    assert kernel.value("thread") != "MainThread"


def test_all_of_it_in_a_subshell(kernel: Kernel, execute: Execute) -> None:
    execute("%load_ext httpuv_kernel")
    for _ in range(2):
        execute("%httpuv_serve app --port 0")
        execute("server = list_servers()[-1]")
        port = kernel.value("server.port")
        assert get(port).text == "MainThread"
        execute("server.stop()")
        assert is_free(port)
        execute("%reload_ext httpuv_kernel")
    execute(START)
    port = kernel.value("server.port")
    execute("%unload_ext httpuv_kernel")
    assert is_free(port)
    assert kernel.value("[t.name for t in threading.enumerate()]").count("httpuv-io") == 0


def test_the_main_shell_goes_on_with_what_a_subshell_began(
    kernel: Kernel, execute: Execute
) -> None:
    kernel.run("value = 1; app = lambda request: {'body': str(value)}")
    execute(START)
    port = kernel.value("server.port")
    assert get(port).text == "1"
    kernel.run("value = 2")
    assert get(port).text == "2"
    kernel.run("server.stop()")
    assert is_free(port)


def test_callbacks_run_while_a_subshell_works(
    kernel: Kernel, subshell: str, execute: Execute
) -> None:
    execute(START)
    port = kernel.value("server.port")
    kernel.run("over = threading.Event()")
    cell = kernel.execute_nowait("over.wait(10)", subshell).wait_begun()
    answers = [get(port) for _ in range(5)]
    assert {answer.text for answer in answers} == {"MainThread"}
    assert statistics.median(answer.seconds for answer in answers) < 0.3
    kernel.run("over.set()")
    assert cell.wait().status == "ok"


def test_callbacks_wait_for_the_main_shell_not_for_a_subshell(
    kernel: Kernel, execute: Execute
) -> None:
    kernel.run("app = lambda request: {'body': repr(time.monotonic())}")
    execute(START)
    port = kernel.value("server.port")
    kernel.begin("time.sleep(1); ended = time.monotonic()")
    answer = ask(port)
    execute("pass")
    called = float(answer.result(10).text)
    ended = kernel.value("ended")
    assert ended <= called < ended + 0.5


def test_output_goes_to_the_cell_of_the_subshell(kernel: Kernel, execute: Execute) -> None:
    kernel.run("def app(request):\n    print('printed')\n    display('displayed')\n    return {}")
    cell = execute(START)
    others = [kernel.run("1"), execute("2")]
    assert get(kernel.value("server.port")).status == 200
    cell.wait_output("printed").wait_output("displayed")
    assert not any("ed" in other.output for other in others)


def test_later_runs_on_the_main_thread(kernel: Kernel, execute: Execute) -> None:
    cell = execute("later(lambda: print('in', threading.current_thread().name), 0.05)")
    cell.wait_output("in MainThread")


@pytest.mark.parametrize(
    "call", ["service(10)", "service(float('nan'))", "run_now()", "run_server('127.0.0.1', 0, app)"]
)
def test_callbacks_cannot_be_run_in_it(kernel: Kernel, subshell: str, call: str) -> None:
    refused = kernel.execute_nowait(call, subshell).wait()
    assert refused.status == "error"
    assert "MainThreadError" in refused.error
    assert kernel.value("list_servers()") == []


def test_a_server_outlives_the_subshell(kernel: Kernel, subshell: str, execute: Execute) -> None:
    execute(START)
    port = kernel.value("server.port")
    kernel.control("delete_subshell_request", {"subshell_id": subshell})
    wait_until(lambda: kernel.control("list_subshell_request")["subshell_id"] == [])
    assert get(port).text == "MainThread"
