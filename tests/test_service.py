"""Callbacks that run when they are asked for: service, interrupt, run_server."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

import pytest
from helpers import (
    Client,
    Serving,
    Work,
    in_thread,
    wait_until,
)

from httpuv_kernel import (
    MainThreadError,
    Request,
    interrupt,
    later,
    list_servers,
    run_now,
    run_server,
    service,
    service_async,
    start_server,
)
from httpuv_kernel.main import interrupts, loop

pytestmark = pytest.mark.timeout(20)

# -- service ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_ms", [1, 0.5, math.nan])
def test_service_is_true_without_callbacks(timeout_ms: float) -> None:
    assert service(timeout_ms) is True


@pytest.mark.parametrize("timeout_ms", [1000, None, math.nan])
def test_service_runs_one(ran: list[object], timeout_ms: float | None) -> None:
    for i in range(3):
        later(lambda i=i: ran.append(i))
    assert service(timeout_ms) is True
    assert ran == [0]


def test_service_in_a_script_waits_a_second() -> None:
    begun = monotonic()
    service()
    assert 0.9 < monotonic() - begun < 10


def test_service_does_not_wait_with_nan(ran: list[object]) -> None:
    later(lambda: ran.append(1), 3600)
    service(math.nan)
    assert ran == []


@pytest.mark.parametrize("timeout_ms", [0, 0.0, math.inf])
def test_service_runs_until_interrupted(ran: list[object], timeout_ms: float) -> None:
    for i in range(3):
        later(lambda i=i: ran.append(i))
    later(interrupt, 0.01)
    assert service(timeout_ms) is True
    assert ran == [0, 1, 2]


@pytest.mark.parametrize("timeout_ms", [-1, "5"])
def test_service_needs_a_time(timeout_ms: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        service(timeout_ms)  # type: ignore[arg-type]


def test_service_shows_errors_and_goes_on(
    ran: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    later(lambda: 1 / 0)
    later(lambda: ran.append(1))
    later(interrupt)
    service(0)
    assert ran == [1]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_service_inside_a_callback(ran: list[object]) -> None:
    def outer() -> None:
        service(1000)
        ran.append("outer")

    later(outer)
    later(lambda: ran.append("inner"))
    service(1000)
    assert ran == ["inner", "outer"]


def test_ctrl_c_ends_service(ran: list[object]) -> None:
    later(lambda: ran.append(1), 3600)
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        service(0)


def press_ctrl_c_at_line(number: int) -> Any:
    """A trace function that does so at that line of ours."""
    seen = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if frame.f_globals.get("__name__") not in (loop.__name__, interrupts.__name__):
            return None
        seen += event == "line"
        if event == "line" and seen == number:
            signal.raise_signal(signal.SIGINT)
        return trace

    return trace


def test_ctrl_c_at_any_line_ends_service(ran: list[object]) -> None:
    service(1)
    before = sys.gettrace()
    for number in range(1, 1000):
        later(lambda: ran.append(1))
        sys.settrace(press_ctrl_c_at_line(number))
        try:
            service(1000)
        except KeyboardInterrupt:
            continue
        finally:
            sys.settrace(before)
        break
    assert 30 < number < 1000  # so many lines it has


def test_ctrl_c_loses_no_callback(ran: list[object]) -> None:
    later(lambda: signal.raise_signal(signal.SIGINT))
    later(lambda: ran.append(1))
    with pytest.raises(KeyboardInterrupt):
        service(0)
    run_now()
    assert ran == [1]


def test_ctrl_c_means_what_it_meant_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    service(1)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    "function",
    [
        lambda: service(1),
        lambda: service(0),
        lambda: service(math.nan),
        run_now,
        lambda: run_server("127.0.0.1", 0, lambda _: {}),
    ],
    ids=["service", "service 0", "service nan", "run_now", "run_server"],
)
def test_callbacks_run_on_the_main_thread_only(function: Callable[[], object]) -> None:
    with pytest.raises(MainThreadError, match="main thread"):
        in_thread(function)


# -- interrupt -------------------------------------------------------------------------------------


def test_interrupt_without_anything_that_runs() -> None:
    interrupt()


def test_interrupt_in_a_thread() -> None:
    works: list[Work[None]] = []
    later(lambda: works.append(Work(interrupt)))
    service(0)
    works[0].result()


def test_interrupt_while_service_waits() -> None:
    Serving(lambda _: {})
    threading.Timer(0.05, interrupt).start()
    service(0)


def test_an_interrupt_before_service_does_not_count(ran: list[object]) -> None:
    run_now()
    interrupt()
    later(lambda: ran.append(1), 0.02)
    later(interrupt, 0.03)
    service(0)
    assert ran == [1]


@pytest.mark.parametrize(
    "wait", [lambda: service(5000), lambda: run_now(5)], ids=["service", "run_now"]
)
def test_after_an_interrupt_waiting_is_possible_again(
    ran: list[object], wait: Callable[[], object]
) -> None:
    run_now()
    interrupt()
    later(lambda: ran.append(1), 0.05)
    wait()
    assert ran == [1]


def test_after_service_was_interrupted_waiting_is_possible_again(ran: list[object]) -> None:
    later(interrupt)
    service(0)
    later(lambda: ran.append(1), 0.05)
    service(5000)
    assert ran == [1]


def test_interrupt_ends_the_inner_service_only(ran: list[object]) -> None:
    def outer() -> None:
        later(interrupt)
        service(0)
        ran.append("inner ended")
        later(lambda: ran.append("outer goes on"))
        later(interrupt)

    later(outer)
    service(0)
    assert ran == ["inner ended", "outer goes on"]


def test_an_interrupt_before_a_nested_wait_still_ends_service(ran: list[object]) -> None:
    def callback() -> None:
        interrupt()
        run_now()
        ran.append(1)
        later(lambda: ran.append(2))

    later(callback)
    service(0)
    assert ran == [1]


def test_an_interrupted_timed_service_returns_at_once() -> None:
    begun = monotonic()
    threading.Timer(0.05, interrupt).start()
    service(60_000)
    assert monotonic() - begun < 10


# -- run_server, and from asyncio ------------------------------------------------------------------


def test_run_server_serves_until_interrupted() -> None:
    ports: list[int] = []

    def app(request: Request) -> dict[str, object]:
        interrupt()
        return {"body": "served"}

    def client() -> str:
        wait_until(lambda: list_servers() and list_servers()[0].port)  # 0 before it listens
        ports.append(list_servers()[0].port)  # type: ignore[attr-defined]
        with Client(ports[0]) as connection:
            return connection.ask().text

    work = Work(client)
    run_server("127.0.0.1", 0, app)
    assert work.result() == "served"
    start_server("127.0.0.1", ports[0], app)  # the port is free


def test_run_server_stops_after_ctrl_c() -> None:
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        run_server("127.0.0.1", 0, lambda _: {})


def test_in_an_asyncio_program_callbacks_run_by_themselves() -> None:
    def ask(port: int) -> str:
        with Client(port) as client:
            return client.ask().text

    async def main() -> str:
        with start_server("127.0.0.1", 0, lambda _: {"body": "served"}) as server:
            return await asyncio.to_thread(ask, server.port)

    assert asyncio.run(main()) == "served"


def test_service_async_waits_for_a_callback(ran: list[object]) -> None:
    async def main() -> None:
        later(lambda: ran.append(1), 0.02)
        await service_async(5000)

    asyncio.run(main())
    assert ran == [1]


def test_service_async_waits_no_longer_than_it_may() -> None:
    assert asyncio.run(service_async(10)) is True
