"""Plain programs: scripts, asyncio programs, and how they end."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import wait_until
from kernels import ask, get, is_free

# A shell that starts the tests in the background has SIGINT ignored, and children inherit that.
PREAMBLE = """
import asyncio, os, signal, sys, threading, time
from httpuv_kernel import *
signal.signal(signal.SIGINT, signal.default_int_handler)

def say(*words):
    print(*words, flush=True)

def say_port():
    say(list_servers()[0].port)
"""

APP = """
def app(request):
    if request.path == "/endless":
        say("spinning")
        while True:
            pass
    return {"body": "hello"}
"""


class Program:
    """A running script; what it says is read line by line."""

    def __init__(self, code: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *(arguments or ("-c", PREAMBLE + textwrap.dedent(code)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.end()[2]
        return line.strip()

    def port(self) -> int:
        return int(self.line())

    def write(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, timeout: float = 10.0) -> tuple[int, str, str]:
        """Wait for the end: exit code, stdout, stderr."""
        output, errors = self._process.communicate(timeout=timeout)
        return self._process.returncode, output, errors

    def kill(self) -> None:
        self._process.kill()
        with suppress(ValueError):  # its pipes are closed already
            self._process.communicate()


Run = Callable[..., Program]


@pytest.fixture
def run() -> Iterator[Run]:
    programs: list[Program] = []

    def start(code: str = "", *arguments: str) -> Program:
        programs.append(Program(code, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def run_server_with(run: Run, code: str = APP) -> tuple[Program, int]:
    serve = "later(say_port)\nrun_server('127.0.0.1', 0, app)"
    program = run(f"{textwrap.dedent(code)}\n{serve}")
    return program, program.port()


# -- run_server and service ------------------------------------------------------------------------


def test_run_server_answers(run: Run) -> None:
    _, port = run_server_with(run)
    assert [get(port).text for _ in range(3)] == ["hello"] * 3


def test_sigint_stops_run_server_at_once_and_frees_the_port(run: Run) -> None:
    program, port = run_server_with(run)
    assert get(port).status == 200
    begun = time.monotonic()
    program.signal(signal.SIGINT)
    code, _, errors = program.end()
    assert time.monotonic() - begun < 2
    assert code != 0
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert is_free(port)


def test_the_port_is_free_when_run_server_raises(run: Run) -> None:
    code = """
    later(say_port)
    try:
        run_server("127.0.0.1", 0, lambda request: {})
    except KeyboardInterrupt:
        say(len(list_servers()), [t.name for t in threading.enumerate()])
    """
    program = run(code)
    port = program.port()
    assert get(port).status == 200
    program.signal(signal.SIGINT)
    assert program.line() == "0 ['MainThread']"
    assert program.end() == (0, "", "")
    assert is_free(port)


def test_sigint_in_an_endless_callback_is_a_500_and_stops_run_server(run: Run) -> None:
    program, port = run_server_with(run)
    answer = ask(port, "/endless")
    assert program.line() == "spinning"
    program.signal(signal.SIGINT)
    assert answer.result(10).status == 500
    code, _, errors = program.end()
    assert code != 0
    assert "GET /endless failed" in errors
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


def test_a_failing_handler_shows_its_traceback_and_serves_on(run: Run) -> None:
    program, port = run_server_with(run, "def app(request):\n    return {}[request.path]")
    assert get(port, "/one").status == 500
    assert get(port, "/two").status == 500
    program.signal(signal.SIGINT)
    _, _, errors = program.end()
    assert "KeyError: '/one'" in errors
    assert "GET /two failed" in errors


def test_nothing_runs_between_calls_of_service(run: Run) -> None:
    code = """
    ran = []
    def app(request):
        ran.append(request.path)
        return {}
    server = start_server("127.0.0.1", 0, app)
    say(server.port)
    input()
    say(ran)
    while not ran:
        service(100)
    say(ran)
    """
    program = run(code)
    port = program.port()
    answer = ask(port, "/one")
    program.write("\n")
    assert program.line() == "[]"
    assert program.line() == "['/one']"
    assert answer.result(10).status == 200
    assert program.end() == (0, "", "")


def test_static_files_need_no_service(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("static")
    code = f"""
    server = start_server("127.0.0.1", 0, {{"static_paths": {{"/": {str(tmp_path)!r}}}}})
    say(server.port)
    input()
    """
    program = run(code)
    assert get(program.port(), "/a.txt").text == "static"
    program.write("\n")
    assert program.end() == (0, "", "")


def test_service_waits_a_second_by_default(run: Run) -> None:
    code = """
    begun = time.monotonic()
    returned = service()
    say(returned, 0.9 < time.monotonic() - begun < 3)
    """
    assert run(code).line() == "True True"


def test_later_without_a_server(run: Run) -> None:
    code = """
    begun = time.monotonic()
    later(lambda: say("second"), 0.1)
    later(lambda: say("first"))
    service(5000), service(5000)
    say(0.1 <= time.monotonic() - begun < 2)
    later(lambda: say("never"), 60)
    """
    program = run(code)
    assert [program.line() for _ in range(3)] == ["first", "second", "True"]
    assert program.end() == (0, "", "")


@pytest.mark.parametrize(
    "how",
    [
        "later(interrupt, 0.05)",
        "later(lambda: threading.Timer(0.05, interrupt).start())",
        "later(lambda: threading.Thread(target=interrupt).start())",
    ],
    ids=["later", "timer", "thread"],
)
def test_interrupt_ends_run_server(run: Run, how: str) -> None:
    program = run(
        f"{how}\nrun_server('127.0.0.1', 0, lambda request: {{}})\nsay('over', list_servers())"
    )
    assert program.line() == "over []"
    assert program.end() == (0, "", "")


def test_interrupt_by_a_request_answers_it_first(run: Run) -> None:
    code = """
    def app(request):
        interrupt()
        return {"body": "bye"}
    later(say_port)
    run_server("127.0.0.1", 0, app)
    say("over")
    """
    program = run(code)
    assert get(program.port()).text == "bye"
    assert program.line() == "over"
    assert program.end() == (0, "", "")


# -- coroutine handlers ----------------------------------------------------------------------------


def test_coroutine_handlers_advance_inside_service(run: Run) -> None:
    code = """
    gate = asyncio.Event()
    async def app(request):
        if request.path == "/open":
            gate.set()
        await asyncio.wait_for(gate.wait(), 10)
        await asyncio.sleep(0.05)
        return {"body": request.path}
    """
    _, port = run_server_with(run, code)
    waiting = ask(port, "/wait")
    assert get(port, "/open").text == "/open"
    assert waiting.result(10).text == "/wait"


def test_an_async_generator_streams_inside_service(run: Run) -> None:
    code = """
    async def pieces():
        for n in range(3):
            await asyncio.sleep(0.01)
            yield f"piece {n}\\n"
    app = lambda request: {"body": pieces()}
    """
    _, port = run_server_with(run, code)
    assert get(port).text == "piece 0\npiece 1\npiece 2\n"


def test_sigint_while_a_coroutine_handler_waits(run: Run) -> None:
    code = """
    async def app(request):
        say("waiting")
        await asyncio.sleep(60)
    """
    program, port = run_server_with(run, code)
    ask(port)
    assert program.line() == "waiting"
    program.signal(signal.SIGINT)
    code_, _, errors = program.end()
    assert code_ != 0
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert "never awaited" not in errors
    assert "destroyed" not in errors


@pytest.mark.parametrize("pause", ["pass", "await asyncio.sleep(0)", "await asyncio.sleep(0.05)"])
def test_sigint_in_an_endless_coroutine(run: Run, pause: str) -> None:
    code = f"""
    async def app(request):
        {pause}
        say("spinning")
        while True:
            pass
    """
    program, port = run_server_with(run, code)
    answer = ask(port)
    assert program.line() == "spinning"
    program.signal(signal.SIGINT)
    assert answer.result(10).status == 500
    code_, _, errors = program.end()
    assert code_ != 0
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


# -- asyncio programs ------------------------------------------------------------------------------


def test_an_asyncio_program_serves_from_its_loop(run: Run) -> None:
    code = """
    async def main():
        over = asyncio.Event()
        async def app(request):
            await asyncio.sleep(0.01)
            if request.path == "/over":
                over.set()
            return {"body": str(asyncio.get_running_loop() is loop)}
        loop = asyncio.get_running_loop()
        with start_server("127.0.0.1", 0, app) as server:
            say(server.port)
            await over.wait()
            await asyncio.sleep(0.1)
    asyncio.run(main())
    say("over")
    """
    program = run(code)
    port = program.port()
    assert get(port).text == "True"
    assert get(port, "/over").text == "True"
    assert program.line() == "over"
    assert program.end() == (0, "", "")
    assert is_free(port)


def test_an_asyncio_program_that_leaves_its_server_running(run: Run) -> None:
    code = """
    async def main():
        server = start_server("127.0.0.1", 0, lambda request: {})
        say(server.port)
        await service_async(10_000)
        await asyncio.sleep(0.1)
    asyncio.run(main())
    """
    program = run(code)
    port = program.port()
    assert get(port).status == 200
    assert program.end() == (0, "", "")
    assert is_free(port)


def test_sigint_in_an_asyncio_program(run: Run) -> None:
    code = """
    async def main():
        server = start_server("127.0.0.1", 0, lambda request: {"body": "hello"})
        say(server.port)
        await asyncio.sleep(60)
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        say("interrupted")
    """
    program = run(code)
    port = program.port()
    assert get(port).text == "hello"
    program.signal(signal.SIGINT)
    assert program.line() == "interrupted"
    assert program.end() == (0, "", "")
    assert is_free(port)


def test_the_asyncio_prompt(run: Run) -> None:
    program = run("", "-m", "asyncio")
    program.write("from httpuv_kernel import *\n")
    program.write("server = start_server('127.0.0.1', 0, lambda request: {'body': 'hello'})\n")
    program.write("print('port', server.port, flush=True)\n")
    line = program.line()
    while " port " not in f" {line} ":  # prompts may stand before it
        line = program.line()
    assert get(int(line.split()[-1])).text == "hello"
    program.write("exit()\n")
    code, _, errors = program.end()
    assert code == 0
    assert "Traceback" not in errors


# -- how programs end ------------------------------------------------------------------------------

SERVING = """
def app(request):
    return {"body": "hello"}
server = start_server("127.0.0.1", 0, app)
say(server.port)
service(10_000)
"""


def test_the_end_of_a_program_with_a_running_server(run: Run) -> None:
    program = run(SERVING)
    port = program.port()
    assert get(port).text == "hello"
    begun = time.monotonic()
    assert program.end() == (0, "", "")
    assert time.monotonic() - begun < 3
    assert is_free(port)


def test_the_end_of_a_program_with_requests_that_wait(run: Run) -> None:
    program = run(SERVING + "input()\n")
    port = program.port()
    assert get(port).text == "hello"
    waiting = [ask(port) for _ in range(4)]
    program.write("\n")
    assert program.end() == (0, "", "")
    for answer in waiting:
        with suppress(OSError, http.client.HTTPException):
            assert answer.result(10).status == 503
    assert is_free(port)


def test_an_error_of_the_program_is_all_that_is_shown(run: Run) -> None:
    program = run(SERVING + "raise LookupError('mine')\n")
    port = program.port()
    assert get(port).text == "hello"
    code, output, errors = program.end()
    assert (code, output) == (1, "")
    assert errors.count("Traceback") == 1
    assert errors.splitlines()[-1] == "LookupError: mine"
    assert "httpuv" not in errors
    assert is_free(port)


def test_sys_exit_keeps_its_code(run: Run) -> None:
    program = run(SERVING + "sys.exit(7)\n")
    assert get(program.port()).text == "hello"
    assert program.end() == (7, "", "")


def test_sigterm_ends_a_program(run: Run) -> None:
    program, port = run_server_with(run)
    assert get(port).text == "hello"
    program.signal(signal.SIGTERM)
    assert program.end() == (-signal.SIGTERM, "", "")
    wait_until(lambda: is_free(port))


def test_a_forked_child_of_a_script(run: Run) -> None:
    code = """
    server = start_server("127.0.0.1", 0, lambda request: {"body": "parent"})
    say(server.port)
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: of any fork beside a thread
    child = os.fork()
    if child == 0:
        with start_server("127.0.0.1", 0, lambda request: {"body": "child"}) as own:
            say(own.port, len(list_servers()))
            service(10_000)
        os._exit(0)
    os.waitpid(child, 0)
    say("child is over")
    service(10_000)
    """
    program = run(code)
    port = program.port()
    waiting = ask(port)
    own, count = program.line().split()
    assert count == "1"
    assert get(int(own)).text == "child"
    assert program.line() == "child is over"
    assert waiting.result(10).text == "parent"
    assert program.end() == (0, "", "")
