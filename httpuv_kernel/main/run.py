"""Running callbacks by hand: `service`, `run_now`, `later`, `interrupt`, `run_server`.

Main side; main thread, if nothing else is said.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic

from .later import cancel as cancel_entry
from .runtime import get_runtime, running_runtime
from .web_server import start_server

__all__ = [
    "interrupt",
    "later",
    "next_run_in",
    "run_now",
    "run_server",
    "service",
    "service_async",
    "with_private_loop",
]


def service(timeout_ms: float | None = None) -> bool:
    """Run a callback while user code runs: a request, a message, or what `later` scheduled.

    Waits up to `timeout_ms` milliseconds for one, runs it, and returns True (manual: service). 0 or
    infinity: run callbacks until `interrupt()`, Ctrl-C or an error. NaN: do not wait. None: 100
    when a person sits at the host, else 1000.

    In a kernel, coroutine handlers advance on the kernel's own loop, so not inside this; an async
    cell awaits `service_async` instead.

    Raises:
        KeyboardInterrupt: an interrupt came; no request is lost by it.
        MainThreadError: not on the main thread.
    """
    loop = get_runtime().loop
    if timeout_ms is None:
        timeout_ms = 100.0 if loop.host.interactive else 1000.0
    if math.isnan(timeout_ms):
        loop.run_one(0.0)
    elif timeout_ms == 0 or math.isinf(timeout_ms):
        loop.run_until_stopped()
    else:
        loop.run_one(_seconds(timeout_ms / 1000, "timeout_ms"))
    return True


async def service_async(timeout_ms: float | None = None) -> bool:
    """`service` for an async cell: `await service_async(ms)` returns after a callback or the time.

    The loop runs the callbacks, and coroutine handlers too, while this waits.
    """
    loop = get_runtime().loop
    if timeout_ms is None:
        timeout_ms = 100.0 if loop.host.interactive else 1000.0
    unlimited = timeout_ms == 0 or math.isinf(timeout_ms)
    deadline = math.inf if unlimited else monotonic() + max(0.0, timeout_ms) / 1000
    stops = loop.stops
    served = loop.served
    while (unlimited or loop.served == served) and loop.stops == stops:
        left = deadline - monotonic()
        if not left > 0:
            break
        await loop.wait_async(left)
    return True


def run_now(timeout: float = 0.0, all: bool = True) -> bool:
    """Run callbacks that are due, waiting up to `timeout` seconds for the first (later::run_now).

    Args:
        timeout: seconds; infinity for no limit.
        all: run every callback that is due by then, not just one.

    Returns:
        Whether one was run.

    Raises:
        KeyboardInterrupt: an interrupt came; no request is lost by it.
        MainThreadError: not on the main thread.
    """
    loop = get_runtime().loop
    seconds = _seconds(timeout, "timeout")
    return loop.run_all(seconds) if all else loop.run_one(seconds)


def later(func: Callable[[], object], delay: float = 0.0) -> Callable[[], bool]:
    """Call `func()` on the main thread in `delay` seconds, once it is idle (later::later).

    Callbacks run in the order of their time, those of equal time in the order of these calls,
    requests among them. What it raises is shown, and reaches nobody else. Any thread.

    Returns:
        A function that cancels it; True when that was in time.
    """
    if not callable(func):
        raise TypeError(f"later calls a function, not {func!r}")
    loop = get_runtime().loop
    output = loop.host.capture_output()
    waiting = True

    def call() -> None:
        nonlocal waiting
        waiting = False
        try:
            result = loop.call(output, func)
            if asyncio.iscoroutine(result):
                loop.start_task(result, output, "a coroutine of later()")
        except BaseException as error:
            loop.show_error(output, error, f"later({func!r}) failed")

    entry = loop.later(loop.queue_here, _seconds(delay, "delay"), call)

    def cancel() -> bool:
        nonlocal waiting
        was_waiting: bool = waiting
        waiting = False
        cancel_entry(entry)
        return was_waiting

    return cancel


def next_run_in() -> float:
    """Seconds until the next callback is due: 0 when one waits, infinity when none does.

    Main thread (later::next_op_secs).

    Raises:
        MainThreadError: not on the main thread.
    """
    return get_runtime().loop.next_run_in()


@contextmanager
def with_private_loop() -> Generator[None, None, None]:
    """A context in which `service` and `run_now` run only what belongs to it.

    That is what `later` schedules inside it, and the callbacks of servers that are started inside
    it; so that waiting for one reply runs nobody else's callbacks (later::with_temp_loop). All
    others wait for its end; what still waits in it then goes on like them. Coroutines that run
    already go on. Main thread; may be nested.

    Raises:
        MainThreadError: not on the main thread.
    """
    with get_runtime().loop.private_queue():
        yield


def interrupt() -> None:
    """Make `service()` or `run_server()` return to its caller (manual: interrupt). Any thread."""
    runtime = running_runtime()
    if runtime is not None:
        runtime.loop.stop_service()


def run_server(
    host: str,
    port: int,
    app: object,
    *,
    token: bool | str = False,
    access_log: bool = False,
    isolation: str | None = None,
) -> None:
    """Start a server, run its callbacks until an interrupt, stop it (manual: runServer).

    Arguments as for `start_server`.

    Raises:
        KeyboardInterrupt: Ctrl-C, or the kernel's interrupt; the port is free by then. After
            `interrupt()` it returns.
        HttpuvError: as `start_server`.
    """
    server = start_server(host, port, app, token=token, access_log=access_log, isolation=isolation)
    with server:
        service(0)


def _seconds(value: float, name: str) -> float:
    if not isinstance(value, (int, float)) or math.isnan(value):
        raise TypeError(f"{name} is a number, not {value!r}")
    if value < 0:
        raise ValueError(f"{name} is not negative: {value!r}")
    return float(value)
