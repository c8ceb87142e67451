"""The plain prompt: with readline, pyrepl and without either; IPython's simple prompt."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_until
from kernels import ask, get, is_free
from terminals import CTRL_C, CTRL_D, IPYTHONS, Terminal, ipython_python

PROMPTS = ["readline", "pyrepl", "basic"]
EMPTY_PROMPT = r"(>>>|In \[\d+\]:)"

APP = """
x = 1
answered = []

def app(request):
    answered.append(time.monotonic())
    if request.path == "/print":
        print("printed")
    if request.path == "/word":
        print("printed", end="")
    if request.path == "/log":
        logging.error("logged")
    if request.path == "/raise":
        raise ValueError("raised")
    if request.path == "/spin":
        print("spinning")
        while True:
            pass
    return {"body": f"x is {x}"}
"""

ASYNC_APP = """
async def app(request):
    if request.path == "/spin":
        await asyncio.sleep(0)
        print("spinning")
        while True:
            pass
    if request.path == "/background":
        asyncio.create_task(background())
        return {"body": "begun"}
    await asyncio.wait_for(asyncio.sleep(0.1), 0.3)
    return {"body": "slept"}

async def background():
    await asyncio.sleep(0.2)
    print("done behind")
"""


def python_of(prompt: str) -> str:
    if prompt in IPYTHONS:
        return ipython_python(prompt)
    if prompt == "readline" or sys.version_info >= (3, 13):
        return sys.executable
    python = os.environ.get("PYTHON313_PYTHON")
    if python:
        return python
    reason = "PYTHON313_PYTHON names no Python 3.13; `make test` sets it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def open_prompt(prompt: str, directory: Path, *arguments: str) -> Terminal:
    environment = {"IPYTHONDIR": str(directory / "ipython"), "PYTHON_HISTORY": str(directory / "h")}
    argv = [python_of(prompt), *arguments]
    if prompt != "pyrepl":
        environment["PYTHON_BASIC_REPL"] = "1"
    if prompt in IPYTHONS:
        argv = [*argv, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"]
    terminal = Terminal(
        argv, r"In \[\d+\]:" if prompt in IPYTHONS else ">>>", directory, environment
    )
    terminal.set_up()
    return terminal


@pytest.fixture(scope="module", params=PROMPTS)
def shared_terminal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    terminal = open_prompt(request.param, tmp_path_factory.mktemp("repl"))
    yield terminal
    terminal.close()


@pytest.fixture
def terminal(shared_terminal: Terminal) -> Iterator[Terminal]:
    yield shared_terminal
    shared_terminal.run("stop_all_servers()")
    shared_terminal.clear()


@pytest.fixture(params=[*PROMPTS, *IPYTHONS])
def own_terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    terminal = open_prompt(request.param, tmp_path)
    yield terminal
    terminal.close()


@pytest.fixture
def readline_terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = open_prompt("readline", tmp_path)
    yield terminal
    terminal.close()


def press_ctrl_c(terminal: Terminal) -> None:
    """At the prompt; returns at the next one."""
    before = terminal.screen.count("KeyboardInterrupt")
    terminal.type(CTRL_C)
    terminal.wait_for("KeyboardInterrupt", times=before + 1)
    terminal.wait_line(EMPTY_PROMPT)


def half_type(terminal: Terminal, text: str) -> None:
    terminal.type(text)
    terminal.wait_line(rf".*{re.escape(text)}")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_a_second(pid: int) -> float:
    begun, before = time.monotonic(), cpu_seconds(pid)
    wait_until(lambda: time.monotonic() > begun + 1)
    return cpu_seconds(pid) - before


# -- answering -----------------------------------------------------------------------------------


def test_a_request_is_answered_at_the_prompt(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    assert [get(port).text for _ in range(3)] == ["x is 1"] * 3


def test_it_sees_what_was_typed_since(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    terminal.run("x = 2")
    assert get(port).text == "x is 2"


def test_it_waits_while_code_runs(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    running = terminal.begin("print('be' + 'gun'); time.sleep(0.7); over = time.monotonic()")
    terminal.wait_for("begun")
    assert get(port).text == "x is 1"
    running.wait()
    assert terminal.value("answered[0] > over")


def test_service_answers_while_code_runs(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    terminal.begin("print('be' + 'gun'); service(10_000)")
    terminal.wait_for("begun")
    assert get(port).text == "x is 1"
    terminal.wait_line(EMPTY_PROMPT)


def test_nothing_runs_while_user_code_reads_a_line(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    reading = terminal.begin("name = input('na' + 'me? ')")
    terminal.wait_line(r"name\?")
    with pytest.raises(TimeoutError):
        get(port, timeout=0.4)
    terminal.type("Ann\r")
    reading.wait()
    assert terminal.value("name") == "Ann"
    assert get(port).text == "x is 1"


def test_a_coroutine_handler_sleeps_and_answers(terminal: Terminal) -> None:
    port = terminal.serve(ASYNC_APP)
    assert [get(port).text for _ in range(2)] == ["slept", "slept"]


def test_a_coroutine_handler_may_leave_a_task_behind(terminal: Terminal) -> None:
    port = terminal.serve(ASYNC_APP)
    assert get(port, "/background").text == "begun"
    terminal.wait_for("done behind")


def test_a_later_callback_runs_at_the_prompt(terminal: Terminal) -> None:
    terminal.run("cancel = later(lambda: print('la' + 'ter'), 0.2)")
    terminal.wait_for("later\n")
    terminal.wait_line(EMPTY_PROMPT)


def test_servers_are_stopped_and_started_again(terminal: Terminal) -> None:
    old = terminal.serve(APP)
    terminal.run("stop_all_servers()")
    assert is_free(old)
    assert get(terminal.serve(APP)).text == "x is 1"


def test_an_idle_prompt_needs_no_processor(terminal: Terminal) -> None:
    assert get(terminal.serve(APP)).status == 200
    assert get(terminal.serve(ASYNC_APP)).status == 200  # its timer is left in the loop
    assert cpu_of_a_second(terminal.pid) < 0.2


# -- the line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "output"), [("/print", "printed"), ("/word", "printed"), ("/log", "ERROR:root:logged")]
)
def test_output_leaves_what_is_typed(terminal: Terminal, path: str, output: str) -> None:
    port = terminal.serve(APP)
    half_type(terminal, "half = 12")
    before = terminal.screen.count(output + "\n")
    get(port, path)
    wait_until(lambda: terminal.screen.count(output + "\n") == before + 1)
    terminal.wait_line(EMPTY_PROMPT + " half = 12")
    terminal.run("3")
    assert terminal.value("half") == 123


def test_output_leaves_what_is_typed_in_several_lines(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    terminal.type("many = (1 +\r")
    half_type(terminal, "20")
    get(port, "/print")
    terminal.wait_line(r"\W*20")
    terminal.run("+ 300)")
    assert terminal.value("many") == 321


def test_a_line_of_two_rows_is_drawn_once(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    terminal.type("wide = '" + "w" * 50 + "x" * 50 + "y" * 10)
    terminal.wait_line(".*y{10}")
    typed = terminal.screen.splitlines()[-2:]
    get(port, "/print")
    wait_until(lambda: terminal.screen.splitlines()[-3:] == ["printed", *typed])
    assert terminal.screen.count("y" * 10) == 1
    terminal.run("'")
    assert terminal.value("len(wide)") == 110


def test_what_a_handler_raises_is_shown(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    half_type(terminal, "half = 5")
    assert get(port, "/raise").status == 500
    terminal.wait_for("ValueError: raised\n")
    terminal.wait_line(EMPTY_PROMPT + " half = 5")
    shown = terminal.screen.rpartition("Traceback")[2]
    terminal.run()
    assert "in app" in shown
    assert "hosts" not in shown


# -- Ctrl-C --------------------------------------------------------------------------------------


def test_ctrl_c_takes_away_the_line(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    for text in ("half", "a", "b"):
        half_type(terminal, text)
        press_ctrl_c(terminal)
    assert terminal.screen.count("KeyboardInterrupt") == 3
    assert get(port).text == "x is 1"
    assert terminal.value("1 + 1") == 2


def test_ctrl_c_without_pause(readline_terminal: Terminal) -> None:
    """pyrepl itself ends by it, with or without a server."""
    terminal = readline_terminal
    port = terminal.serve(APP)
    for _ in range(3):
        terminal.type(CTRL_C * 15)
        terminal.wait_for("KeyboardInterrupt")
        assert get(port).text == "x is 1"
    assert "ignored" not in terminal.screen


@pytest.mark.parametrize("app", [APP, ASYNC_APP], ids=["function", "coroutine"])
def test_ctrl_c_ends_a_handler_that_spins(terminal: Terminal, app: str) -> None:
    port = terminal.serve(app)
    half_type(terminal, "half = 7")
    before = terminal.screen.count("spinning")
    answer = ask(port, "/spin")
    wait_until(lambda: terminal.screen.count("spinning") > before)
    terminal.type(CTRL_C)
    assert answer.result().status == 500
    terminal.wait_line(EMPTY_PROMPT + " half = 7")
    terminal.run()
    assert terminal.value("half") == 7
    assert get(port).status == 200


def test_ctrl_c_stops_user_code_as_ever(terminal: Terminal) -> None:
    port = terminal.serve(APP)
    running = terminal.begin("print('be' + 'gun'); time.sleep(60)")
    terminal.wait_for("begun")
    terminal.type(CTRL_C)
    assert "KeyboardInterrupt" in running.wait()
    assert get(port).text == "x is 1"


# -- beginnings and ends -------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["exit()\r", CTRL_D], ids=["exit", "end of input"])
def test_the_prompt_ends_while_a_server_runs(own_terminal: Terminal, keys: str) -> None:
    port = own_terminal.serve(APP)
    assert get(port).text == "x is 1"
    own_terminal.type(keys)
    if keys == CTRL_D and own_terminal.line.startswith("In"):
        own_terminal.wait_for("really want to exit")
        own_terminal.type("y\r")
    assert own_terminal.wait_end() == 0
    assert is_free(port)
    assert "Error" not in own_terminal.screen


def test_the_slot_and_the_handler_are_given_back(readline_terminal: Terminal) -> None:
    terminal = readline_terminal
    terminal.run("import ctypes")
    terminal.run("slot = ctypes.c_void_p.in_dll(ctypes.pythonapi, 'PyOS_InputHook')")
    port = terminal.serve(APP)
    assert get(port).status == 200
    assert terminal.value("bool(slot.value)")
    assert terminal.value("signal.getsignal(signal.SIGINT) is signal.default_int_handler")
    terminal.run("from httpuv_kernel.main.runtime import close_runtime; close_runtime()")
    assert terminal.value("slot.value") is None
    assert get(terminal.serve(APP)).status == 200


def test_a_forked_child_holds_neither_socket_nor_slot(readline_terminal: Terminal) -> None:
    terminal = readline_terminal
    port = terminal.serve(APP)
    terminal.run_code("""
    import ctypes
    slot = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, repr(slot.value).encode())
        time.sleep(60)
        os._exit(0)
    """)
    assert terminal.value("os.read(reader, 100)") == b"None"
    assert get(port).text == "x is 1"
    terminal.run("server.stop()")
    assert is_free(port)
    terminal.run("os.kill(child, 9)")


SCRIPT = """
import httpuv_kernel
from httpuv_kernel import *
server = start_server("127.0.0.1", 0, lambda request: {"body": "hello"})
host = httpuv_kernel.hosts.find_host()
print(type(host).__name__, host.interactive)
"""


def test_a_script_that_ends_at_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    terminal = open_prompt("readline", tmp_path, "-i", "script.py")
    try:
        assert "ReplHost True" in terminal.screen
        assert get(terminal.value("server.port")).text == "hello"
    finally:
        terminal.close()


@pytest.mark.parametrize("options", [[], ["-i"]], ids=["script", "script that asks for a prompt"])
def test_without_a_terminal_there_is_no_prompt(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *options, str(tmp_path / "script.py")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("ScriptHost False")


@pytest.mark.parametrize("ipython", IPYTHONS)
def test_ipythons_simple_prompt(tmp_path: Path, ipython: str) -> None:
    """Read without readline: what is typed stays, though it is not drawn again."""
    terminal = open_prompt(ipython, tmp_path)
    try:
        port = terminal.serve(APP)
        terminal.run("x = 2")
        half_type(terminal, "half = 1")
        assert get(port, "/print").text == "x is 2"
        terminal.wait_for("half = 1\nprinted")
        terminal.type("2\r")
        terminal.wait_line(EMPTY_PROMPT)
        assert terminal.value("half") == 12
        press_ctrl_c(terminal)
        answer = ask(port, "/spin")
        terminal.wait_for("spinning")
        terminal.type(CTRL_C)
        assert answer.result().status == 500
        assert get(port).text == "x is 2"
    finally:
        terminal.close()


# -- others at the slot --------------------------------------------------------------------------

TAKE_SLOT = """
import ctypes
slot = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
slot.value = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
"""


def test_another_hook_stays_and_is_named(readline_terminal: Terminal) -> None:
    terminal = readline_terminal
    terminal.run_code(TAKE_SLOT)
    terminal.serve(APP)
    assert terminal.screen.replace("\n", "").count("libc.so.6 holds PyOS_InputHook") == 1
    port = terminal.value("server.port")
    answer = ask(port)
    terminal.run("service(10_000)")
    assert answer.result().text == "x is 1"


@pytest.mark.parametrize("tk_first", [True, False], ids=["Tk's hook first", "ours first"])
def test_tk_runs_beside_it(readline_terminal: Terminal, tk_first: bool) -> None:
    pytest.importorskip("tkinter")
    terminal = readline_terminal
    # An interpreter without windows needs no display.
    tk = "import tkinter; tkinter._default_root = tcl = tkinter.Tcl()"
    if tk_first:
        terminal.run(tk)
    port = terminal.serve(APP)
    terminal.run(tk)
    terminal.run("tcl.createcommand('tick', lambda: print('ti' + 'ck'))")
    terminal.run("timer = tcl.call('after', 200, 'tick')")
    assert get(port).text == "x is 1"
    terminal.wait_for("tick")
