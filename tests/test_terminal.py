"""IPython in a terminal: callbacks run while the prompt is shown, and leave it as it was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_until
from kernels import ask, free_port, get, is_free
from terminals import CTRL_C, IPYTHONS, Terminal, ipython

PROMPT = r"In \[\d+\]:"


@pytest.fixture(scope="module", params=IPYTHONS)
def shared_terminal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    terminal = ipython(request.param, tmp_path_factory.mktemp("terminal"))
    yield terminal
    terminal.close()


@pytest.fixture
def terminal(shared_terminal: Terminal) -> Iterator[Terminal]:
    """The module's; after each test its servers are stopped."""
    yield shared_terminal
    shared_terminal.type(CTRL_C)
    shared_terminal.run("stop_all_servers()")
    shared_terminal.clear()


@pytest.fixture(params=IPYTHONS)
def own_terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    """New for each test, which may do with it what it likes."""
    terminal = ipython(request.param, tmp_path)
    yield terminal
    terminal.close()


QUICK = """
def app(request):
    return {"body": "quick"}
"""

ASYNC_QUICK = """
async def app(request):
    await asyncio.sleep(0.05)
    return {"body": "quick"}
"""

BUSY = """
busy = False
def app(request):
    return {"body": f"busy: {busy}"}
"""

ASYNC_BUSY = """
async def app(request):
    await asyncio.sleep(0.01)
    return {"body": f"busy: {busy}"}
"""

PRINTS = """
def app(request):
    print("printed by the app")
    return {"body": "done"}
"""

ASYNC_PRINTS = """
async def app(request):
    await asyncio.sleep(0.05)
    print("printed by the app")
    return {"body": "done"}
"""

SPINS = """
def app(request):
    if request.path == "/endless":
        open("spinning", "w").close()  # what it prints is shown when it has ended
        while True:
            pass
    return {"body": "quick"}
"""

ASYNC_SPINS = """
async def app(request):
    await asyncio.sleep(0.01)
    if request.path == "/endless":
        open("spinning", "w").close()  # what it prints is shown when it has ended
        while True:
            pass
    return {"body": "quick"}
"""

RAISES = """
def app(request):
    return {"body": 1 / 0}
"""

ASYNC_RAISES = """
async def app(request):
    await asyncio.sleep(0.01)
    return {"body": 1 / 0}
"""


def both(function: str, coroutine: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("code", [function, coroutine], ids=["function", "coroutine"])


# -- at the prompt ---------------------------------------------------------------------------------


@both(QUICK, ASYNC_QUICK)
def test_a_request_is_answered_at_the_prompt(terminal: Terminal, code: str) -> None:
    port = terminal.serve(code)
    for _ in range(3):
        assert get(port).text == "quick"


def test_a_handler_sees_what_a_later_input_changed(terminal: Terminal) -> None:
    port = terminal.serve("x = 1\ndef app(request):\n    return {'body': f'x is {x}'}")
    assert get(port).text == "x is 1"
    terminal.run("x = 2")
    assert get(port).text == "x is 2"


@both(PRINTS, ASYNC_PRINTS)
def test_what_is_half_typed_stays_when_a_handler_prints(terminal: Terminal, code: str) -> None:
    port = terminal.serve(code)
    terminal.type("x = 12")
    terminal.wait_line(f"{PROMPT} x = 12")
    assert get(port).text == "done"
    terminal.wait_above("printed by the app")
    terminal.wait_line(f"{PROMPT} x = 12")
    terminal.run("3")
    assert terminal.value("x") == 123


@both(RAISES, ASYNC_RAISES)
def test_the_traceback_of_a_handler_is_shown_above_the_prompt(
    terminal: Terminal, code: str
) -> None:
    port = terminal.serve(code)
    terminal.type("x = 1")
    assert get(port).status == 500
    terminal.wait_above("ZeroDivisionError: division by zero")
    terminal.wait_line(f"{PROMPT} x = 1")
    assert "1 / 0" in terminal.screen
    assert "httpuv_kernel/main" not in terminal.screen


def test_later_at_the_prompt(terminal: Terminal) -> None:
    terminal.run("later(lambda: print('one', 'two'), 0.1)")
    terminal.wait_above("one two")


def test_a_coroutine_of_later_at_the_prompt(terminal: Terminal) -> None:
    terminal.run_code("""
        async def wait():
            await asyncio.sleep(0.05)
            print("one", "two")
        later(wait)
        """)
    terminal.wait_above("one two")


@pytest.mark.parametrize("by", ["later", "threading.Timer"])
def test_a_server_that_is_started_while_the_prompt_is_shown(terminal: Terminal, by: str) -> None:
    port = free_port()
    call = {"later": "later({}, 0.2)", "threading.Timer": "threading.Timer(0.2, {}).start()"}[by]
    start = f"lambda: start_server('127.0.0.1', {port}, app)"
    terminal.run_code(f"{QUICK}\nhttpuv_kernel.main.runtime.close_runtime()\n{call.format(start)}")
    wait_until(lambda: not is_free(port))
    assert get(port).text == "quick"


USED_A_TIMER = """
async def app(request):
    await asyncio.wait_for(asyncio.sleep(0), 0.1)
    return {"body": "done"}
"""

LEFT_A_TASK = """
left = []
async def app(request):
    left.append(asyncio.create_task(asyncio.sleep(0.1)))
    return {"body": "done"}
"""

WAITS = """
never = []
async def app(request):
    if request.path == "/":
        asyncio.get_running_loop().call_later(0.1, never.append, 1)
        return {"body": "done"}
    await asyncio.Event().wait()
"""


@pytest.mark.parametrize("code", [USED_A_TIMER, LEFT_A_TASK, WAITS], ids=["timer", "task", "waits"])
def test_an_idle_prompt_uses_no_cpu(terminal: Terminal, code: str) -> None:
    port = terminal.serve(code)
    ask(port, "/waits")
    assert get(port).status == 200
    time.sleep(0.2)  # its timers are over
    before = terminal.cpu_seconds
    time.sleep(0.5)
    assert terminal.cpu_seconds - before < 0.1


def test_a_task_that_a_handler_leaves_goes_on(terminal: Terminal) -> None:
    port = terminal.serve("""
        left = []
        async def go_on():
            await asyncio.sleep(0.1)
            print("one", "two")
        async def app(request):
            left.append(asyncio.create_task(go_on()))
            return {"body": "done"}
        """)
    assert get(port).text == "done"
    terminal.wait_above("one two")


# -- cells -----------------------------------------------------------------------------------------


def test_a_cell_holds_requests_up_until_the_next_prompt(terminal: Terminal) -> None:
    port = terminal.serve(BUSY)
    cell = terminal.begin_code("busy = True; print('be' + 'gun'); time.sleep(0.5); busy = False")
    terminal.wait_for("begun")
    answer = ask(port)
    cell.wait()
    assert answer.result(10).text == "busy: False"


@both(BUSY, ASYNC_BUSY)
def test_service_in_a_cell_lets_them_run(terminal: Terminal, code: str) -> None:
    port = terminal.serve(code)
    cell = terminal.begin_code("""
        busy = True
        print('be' + 'gun')
        served = time.monotonic() + 20
        while time.monotonic() < served:
            service(20)
        busy = False
        """)
    terminal.wait_for("begun")
    assert get(port).text == "busy: True"
    terminal.type(CTRL_C)
    cell.wait()


BEGINS = """
begun = []
async def app(request):
    begun.append(1)
    await asyncio.sleep(0.3)
    return {"body": "done"}
"""


def test_a_coroutine_begun_in_service_ends_at_the_prompt(terminal: Terminal) -> None:
    port = terminal.serve(BEGINS)
    cell = terminal.begin_code("print('be' + 'gun')\nwhile not begun: service(20)")
    terminal.wait_for("begun")
    answer = ask(port)
    cell.wait()
    assert answer.result(10).text == "done"


def test_a_coroutine_begun_in_service_ends_while_the_cell_awaits(terminal: Terminal) -> None:
    port = terminal.serve(BEGINS)
    terminal.run_code("def wait_for_one():\n    while not begun: service(20)")
    cell = terminal.begin("wait_for_one(); await asyncio.sleep(1.5)")
    terminal.wait_line("")
    assert get(port).text == "done"
    assert not cell.is_over
    terminal.type(CTRL_C)
    cell.wait()


AWAITS = """
over = False
def app(request):
    global over
    over = True
    return {"body": "done"}
"""

ASYNC_AWAITS = """
over = False
async def app(request):
    global over
    await asyncio.sleep(0.05)
    over = True
    return {"body": "done"}
"""


@both(AWAITS, ASYNC_AWAITS)
def test_a_cell_that_awaits_lets_them_run(terminal: Terminal, code: str) -> None:
    port = terminal.serve(code)
    cell = terminal.begin("while not over: await asyncio.sleep(0.01)")
    terminal.wait_line("")
    assert get(port).text == "done"
    cell.wait()


# -- Ctrl-C ----------------------------------------------------------------------------------------


def test_ctrl_c_at_the_prompt_forgets_what_is_typed(terminal: Terminal) -> None:
    port = terminal.serve(QUICK)
    assert get(port).text == "quick"
    terminal.type("x = 12")
    terminal.wait_line(f"{PROMPT} x = 12")
    terminal.type(CTRL_C)
    terminal.wait_line(PROMPT)
    assert get(port).text == "quick"
    assert terminal.value("6 * 7") == 42


def wait_spinning(terminal: Terminal) -> None:
    """Return when the endless handler runs."""
    marker = terminal.directory / "spinning"
    wait_until(marker.exists)
    marker.unlink()


@both(SPINS, ASYNC_SPINS)
def test_ctrl_c_ends_an_endless_handler_and_nothing_else(terminal: Terminal, code: str) -> None:
    port = terminal.serve(code)
    terminal.type("x = 12")
    terminal.wait_line(f"{PROMPT} x = 12")
    mode = terminal.mode
    for times in (1, 2, 3):
        answer = ask(port, "/endless")
        wait_spinning(terminal)
        terminal.type(CTRL_C)
        assert answer.result(10).status == 500
        wait_until(lambda: terminal.mode == mode)
        terminal.wait_for("KeyboardInterrupt", times=2 * times)  # first and last line
    terminal.wait_line(f"{PROMPT} x = 12")
    assert get(port).text == "quick"
    terminal.run("3")
    assert terminal.value("x") == 123


def test_what_is_typed_while_a_handler_runs_is_kept(terminal: Terminal) -> None:
    port = terminal.serve(SPINS)
    answer = ask(port, "/endless")
    wait_spinning(terminal)
    terminal.type("x = 5" + CTRL_C + "6")
    assert answer.result(10).status == 500
    terminal.wait_line(f"{PROMPT} x = 56")


# -- GUI loops -------------------------------------------------------------------------------------


@pytest.mark.parametrize("gui", ["asyncio", "qt"])
def test_with_a_gui_loop(own_terminal: Terminal, gui: str) -> None:
    own_terminal.run("import importlib.util")
    if gui == "qt" and not own_terminal.value("bool(importlib.util.find_spec('PySide6'))"):
        pytest.skip("no Qt there")
    own_terminal.run(f"%gui {gui}")
    assert own_terminal.value("get_ipython().active_eventloop").startswith(gui)
    port = own_terminal.serve(PRINTS)
    slow = own_terminal.serve(ASYNC_PRINTS)
    quiet = own_terminal.serve(ASYNC_QUICK)
    own_terminal.type("x = 12")
    for each in (port, slow, port, slow):
        assert get(each).text == "done"
    own_terminal.wait_for("printed by the app\n", times=4)
    own_terminal.wait_line(f"{PROMPT} x = 12")
    own_terminal.run("3")
    own_terminal.run("%gui")
    assert get(quiet).text == "quick"
    assert own_terminal.value("x") == 123


# -- life ------------------------------------------------------------------------------------------


def test_stop_and_start_again(terminal: Terminal) -> None:
    port = terminal.serve(QUICK)
    assert get(port).text == "quick"
    terminal.run("stop_all_servers()")
    assert is_free(port)
    terminal.run(f"server = start_server('127.0.0.1', {port}, app)")
    assert get(port).text == "quick"


def test_nothing_stays_in_ipython(terminal: Terminal) -> None:
    """When the extension is unloaded, which does this."""
    let_go = "httpuv_kernel.main.runtime.close_runtime()"
    hooks = "[len(get_ipython().pt_app.app.after_render._handlers), " + (
        "sum(map(len, get_ipython().events.callbacks.values()))]"
    )
    terminal.run(let_go)
    before = terminal.value(hooks)
    assert get(terminal.serve(ASYNC_QUICK)).text == "quick"
    assert terminal.value(hooks) != before
    terminal.run(let_go)
    assert terminal.value(hooks) == before
    assert get(terminal.serve(QUICK)).text == "quick"


def test_exit_with_a_server_that_runs(own_terminal: Terminal) -> None:
    port = own_terminal.serve(
        "async def app(request):\n    await asyncio.sleep(60 if request.path == '/long' else 0)\n"
        "    return {'body': 'done'}"
    )
    assert get(port).text == "done"
    answer = ask(port, "/long")
    own_terminal.type("exit()\r")
    assert own_terminal.wait_end() == 0
    assert is_free(port)
    assert "Traceback" not in own_terminal.screen
    with pytest.raises(OSError):  # noqa: PT011
        raise answer.exception(10) or AssertionError(answer.result())


def test_a_forked_child_holds_no_port(own_terminal: Terminal) -> None:
    port = own_terminal.serve(QUICK)
    own_terminal.run_code("""
        import multiprocessing
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
        """)
    child = own_terminal.value("child.pid")
    own_terminal.close()
    try:
        wait_until(lambda: is_free(port))
    finally:
        os.kill(child, signal.SIGKILL)
