"""Plain programs: scripts, asyncio programs, and how they end."""

from __future__ import annotations

import http.client
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import wait_until
from kernels import ask, get, is_free
from programs import Run, program_fixture, run_server_with

run = program_fixture()


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
