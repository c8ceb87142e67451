"""Cells and requests at once: how long cells wait in a flood, and files while a cell runs."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import quantiles
from time import monotonic, sleep

from .. import cells
from ..kernel import Kernel, start_kernel
from ..load import check, finish_wrk, start_wrk, warm_up
from ..report import Bar, Row, figure
from ..servers import OURS, Target
from .base import SIZES, SMALL, Bench

_CONNECTIONS = 32
_FLOOD_ROUNDS = 3
"""A p99 needs cells: each flood lasts so many measurements."""
_HANDLERS_MS = (0, 1, 20)
_CELL_BAR = Bar(50.0, at_most=True)
_FILES_BAR = Bar(500.0)


def flood(bench: Bench) -> Iterator[Row]:
    """Cells one after another in 32 closed-loop connections; the handlers compute."""
    with start_kernel(bench.site) as kernel:
        _cell_times(kernel, 0.3)
        yield from _cell_rows("without requests", _cell_times(kernel, bench.seconds), ())
        for milliseconds in _HANDLERS_MS:
            yield from _one_flood(bench, kernel, milliseconds)


def _one_flood(bench: Bench, kernel: Kernel, milliseconds: int) -> Iterator[Row]:
    name = f"in a flood, handlers of {milliseconds} ms"
    port = int(kernel.run(cells.SERVE_BUSY.format(milliseconds=milliseconds)))
    seconds = bench.seconds * _FLOOD_ROUNDS
    with start_wrk(Target(OURS, port).url("/"), _CONNECTIONS, seconds) as child:
        sleep(0.3)  # all of its connections are there
        times = _cell_times(kernel, seconds - 0.6)
        load = finish_wrk(child, seconds)
    kernel.run(cells.STOP_BUSY)
    bench.say(f"  {name}: {len(times)} cells, {figure(load.rate)} responses/s")
    if load.socket_errors or load.status_errors:
        bench.note(f"{name}: {load.socket_errors + load.status_errors} errors", ours=True)
    yield from _cell_rows(name, times, (_CELL_BAR,))
    yield Row(f"responses {name}", "1/s", {OURS: [load.rate]})


def _cell_times(kernel: Kernel, seconds: float) -> list[float]:
    """Milliseconds of each of the cells that fit, at least two."""
    end = monotonic() + seconds
    times: list[float] = []
    while len(times) < 2 or monotonic() < end:
        times.append(kernel.time_cell("1") * 1000)
    return times


def _cell_rows(name: str, times: list[float], bars: tuple[Bar, ...]) -> Iterator[Row]:
    percentiles = quantiles(times, n=100, method="inclusive")
    yield Row(f"cell p50 {name}", "ms", {OURS: [percentiles[49]]})
    yield Row(f"cell p99 {name}", "ms", {OURS: [percentiles[98]]}, bars)


def beside(bench: Bench) -> Iterator[Row]:
    """Small files from a kernel that is idle, that computes, and that sleeps."""
    path = f"/static/{SMALL}"
    with start_kernel(bench.site) as kernel:
        target = Target(OURS, kernel.port)
        check(kernel.port, path, SIZES[SMALL])
        warm_up(kernel.port, path)
        for name, code in {"an idle kernel": "", **cells.BESIDE}.items():
            measure = f"file of {SIZES[SMALL]:,} bytes beside {name}"
            rates: list[float] = []
            latencies: list[float] = []
            for _ in range(bench.rounds):
                load = _load_beside(bench, kernel, target, code, measure)
                rates.append(load[0])
                latencies.append(load[1])
            bars = (_FILES_BAR,) if name == "pure Python" else ()
            yield Row(measure, "1/s", {OURS: rates}, bars)
            yield Row(f"{measure}, p99", "ms", {OURS: latencies})


def _load_beside(
    bench: Bench, kernel: Kernel, target: Target, code: str, measure: str
) -> tuple[float, float]:
    """Files a second and their p99 in ms, all of it while the code runs."""
    path = f"/static/{SMALL}"
    if code:
        # wrk takes a moment longer than it is told to.
        with kernel.running(code.format(seconds=bench.seconds + 0.7)):
            load = bench.wrk(target, path, _CONNECTIONS, measure)
    else:
        load = bench.wrk(target, path, _CONNECTIONS, measure)
    return load.rate, load.p99 / 1000
