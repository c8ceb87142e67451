"""later, run_now, service and interrupt on the main thread of a script."""

from __future__ import annotations

import asyncio
import gc
import math
import random
import weakref
from time import monotonic

import pytest
from helpers import (
    Serving,
    Work,
    request,
    run_until_idle,
    serve_until,
)

from httpuv_kernel import (
    Request,
    later,
    run_now,
    service,
)
from httpuv_kernel.main.later import CallbackQueue, cancel

pytestmark = pytest.mark.timeout(20)


# -- the queue -------------------------------------------------------------------------------------


def drained(queue: CallbackQueue, now: float) -> list[object]:
    entries = iter(lambda: queue.pop_due(now), None)
    return [entry[3][0] for entry in entries]


def test_the_queue_is_in_the_order_of_time_then_of_arrival() -> None:
    queue = CallbackQueue()
    whens = [random.Random(1).choice([1.0, 2.0, 3.0]) for _ in range(200)]
    for number, when in enumerate(whens):
        queue.push(when, print, (when, number))
    expected = sorted((when, number) for number, when in enumerate(whens))
    assert drained(queue, 10) == expected


def test_the_queue_gives_what_is_due_only() -> None:
    queue = CallbackQueue()
    for when in (3.0, 1.0, 2.0):
        queue.push(when, print, when)
    assert drained(queue, 2.0) == [1.0, 2.0]
    assert queue.next_due() == 3.0


def test_the_queue_forgets_what_is_cancelled() -> None:
    queue = CallbackQueue()
    first, second = queue.push(1.0, print, 1), queue.push(2.0, print, 2)
    cancel(first)
    assert queue.next_due() == 2.0
    cancel(second)
    assert queue.next_due() is None
    assert drained(queue, 10) == []


def test_an_empty_queue_is_never_due() -> None:
    queue = CallbackQueue()
    assert queue.next_due() is None
    assert queue.pop_due(math.inf) is None


# -- later -----------------------------------------------------------------------------------------


def test_later_does_not_run_at_once(ran: list[object]) -> None:
    later(lambda: ran.append(1))
    assert ran == []
    run_now()
    assert ran == [1]


def test_later_runs_once(ran: list[object]) -> None:
    later(lambda: ran.append(1))
    run_now()
    assert run_now() is False
    assert ran == [1]


def test_those_of_equal_time_run_in_the_order_of_the_calls(ran: list[object]) -> None:
    for i in range(50):
        later(lambda i=i: ran.append(i))
    run_now()
    assert ran == list(range(50))


def test_later_ones_run_later(ran: list[object]) -> None:
    for delay in (0.03, 0.0, 0.02, 0.01):
        later(lambda delay=delay: ran.append(delay), delay)
    serve_until(lambda: len(ran) == 4)
    assert ran == [0.0, 0.01, 0.02, 0.03]


def test_a_delay_is_kept(ran: list[object]) -> None:
    begun = monotonic()
    later(lambda: ran.append(monotonic()), 0.05)
    service(5000)
    assert ran[0] - begun >= 0.05  # type: ignore[operator]


def test_a_delay_is_kept_while_a_server_runs(ran: list[object]) -> None:
    Serving(lambda _: {})
    begun = monotonic()
    later(lambda: ran.append(monotonic()), 0.05)
    service(5000)
    assert ran[0] - begun >= 0.05  # type: ignore[operator]


def test_requests_and_later_share_one_order(ran: list[object]) -> None:
    def app(request: Request) -> dict[str, object]:
        ran.append(request.path)
        return {}

    serving = Serving(app)
    with serving.connect() as client:
        later(lambda: ran.append("before"))
        client.send(request(target="/request"))
        serve_until(lambda: len(ran) == 2)
    assert ran == ["before", "/request"]


def test_a_callback_may_call_later(ran: list[object]) -> None:
    def again(count: int) -> None:
        ran.append(count)
        if count:
            later(lambda: again(count - 1))

    later(lambda: again(3))
    serve_until(lambda: len(ran) == 4)
    assert ran == [3, 2, 1, 0]


def test_run_now_ends_though_callbacks_queue_themselves(ran: list[object]) -> None:
    def again() -> None:
        ran.append(1)
        later(again)

    later(again)
    assert run_now()
    assert len(ran) < 100
    run = len(ran)
    later(lambda: None)
    run_now()
    assert len(ran) > run


def test_an_error_is_shown_and_leaks_nowhere(
    ran: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("in a callback")

    later(fail)
    later(lambda: ran.append(1))
    assert run_now()
    assert ran == [1]
    shown = capsys.readouterr().err
    assert "ValueError: in a callback" in shown
    assert "fail" in shown


def test_sys_exit_in_a_callback_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def leave() -> None:
        raise SystemExit(3)

    later(leave)
    assert run_now()
    assert "SystemExit" in capsys.readouterr().err


def test_later_is_called_in_threads(ran: list[object]) -> None:
    def call(number: int) -> None:
        for i in range(100):
            later(lambda i=i: ran.append((number, i)))

    works = [Work(call, number) for number in range(5)]
    serve_until(lambda: len(ran) == 500)
    for number, work in enumerate(works):
        work.result()
        assert [item for item in ran if item[0] == number] == [(number, i) for i in range(100)]  # type: ignore[index]


def test_later_wakes_service(ran: list[object]) -> None:
    begun = monotonic()
    work = Work(later, lambda: ran.append(1))
    while not ran:
        service(10_000)
    work.result()
    assert monotonic() - begun < 5


def test_a_coroutine_function_runs_as_a_task(ran: list[object]) -> None:
    async def callback() -> None:
        ran.append("begun")
        await asyncio.sleep(0)
        ran.append("ended")

    later(callback)
    serve_until(lambda: len(ran) == 2)
    assert ran == ["begun", "ended"]


def test_an_error_of_a_coroutine_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    async def callback() -> None:
        await asyncio.sleep(0)
        raise ValueError("in a coroutine")

    later(callback)
    run_until_idle(0.05)
    assert "ValueError: in a coroutine" in capsys.readouterr().err


@pytest.mark.parametrize("value", [None, 5, "text"])
def test_later_calls_functions_only(value: object) -> None:
    with pytest.raises(TypeError, match=repr(value)):
        later(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("delay", "error"),
    [(-1, ValueError), (math.nan, (TypeError, ValueError)), ("1", TypeError), (None, TypeError)],
)
def test_a_delay_is_a_number_that_is_not_negative(
    delay: object, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    with pytest.raises(error, match="delay"):
        later(int, delay)  # type: ignore[arg-type]


# -- cancel ----------------------------------------------------------------------------------------


def test_cancel_in_time(ran: list[object]) -> None:
    cancel = later(lambda: ran.append(1))
    assert cancel() is True
    assert run_now() is False
    assert ran == []


def test_cancel_twice() -> None:
    cancel = later(int)
    assert [cancel(), cancel()] == [True, False]


def test_cancel_too_late(ran: list[object]) -> None:
    cancel = later(lambda: ran.append(1))
    run_now()
    assert cancel() is False


def test_cancel_from_inside() -> None:
    results: list[bool] = []
    cancel = later(lambda: results.append(cancel()))
    run_now()
    assert results == [False]


def test_a_callback_may_cancel_another(ran: list[object]) -> None:
    later(lambda: ran.append(cancel()))
    cancel = later(lambda: ran.append("never"))
    run_now()
    assert ran == [True]


def test_a_cancelled_callback_is_released() -> None:
    class Held:
        def __call__(self) -> None: ...

    held = Held()
    reference = weakref.ref(held)
    cancel = later(held, 3600)
    cancel()
    del held, cancel
    run_now()
    gc.collect()
    assert reference() is None


# -- run_now ---------------------------------------------------------------------------------------


def test_run_now_without_callbacks() -> None:
    assert run_now() is False


def test_run_now_runs_all_that_is_due(ran: list[object]) -> None:
    for i in range(3):
        later(lambda i=i: ran.append(i))
    assert run_now() is True
    assert ran == [0, 1, 2]


def test_run_now_runs_one(ran: list[object]) -> None:
    for i in range(3):
        later(lambda i=i: ran.append(i))
    assert run_now(all=False) is True
    assert ran == [0]


def test_run_now_waits(ran: list[object]) -> None:
    later(lambda: ran.append(1), 0.05)
    assert run_now(10) is True
    assert ran == [1]


def test_run_now_waits_for_ever(ran: list[object]) -> None:
    later(lambda: ran.append(1), 0.05)
    assert run_now(math.inf) is True


def test_run_now_waits_no_longer_than_it_may(ran: list[object]) -> None:
    later(lambda: ran.append(1), 3600)
    assert run_now(0.02) is False


def test_run_now_inside_a_callback(ran: list[object]) -> None:
    later(lambda: ran.append(("outer", run_now())))
    later(lambda: ran.append("inner"))
    run_now()
    assert ran == ["inner", ("outer", True)]


@pytest.mark.parametrize("timeout", [-1, math.nan, "1", None])
def test_a_timeout_is_a_number_that_is_not_negative(timeout: object) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout"):
        run_now(timeout)  # type: ignore[arg-type]
