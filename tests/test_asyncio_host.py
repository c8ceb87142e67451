"""Coroutine handlers, and programs that run asyncio."""

from __future__ import annotations

import signal

import pytest
from kernels import ask, get, is_free
from programs import Run, program_fixture, run_server_with

run = program_fixture()


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
