"""Cells and requests at once: how long cells wait in a flood, files while a cell runs, and what the
files cost the cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import quantiles
from time import monotonic, sleep

from .. import cells
from ..kernel import Kernel, start_kernel
from ..load import check, finish_wrk, start_wrk, warm_up
from ..paced import paced
from ..report import Bar, Row, figure
from ..servers import IN_PROCESS, OURS, Target
from .base import ISOLATIONS, SIZES, SMALL, Bench

_CONNECTIONS = 32
_FLOOD_ROUNDS = 2
"""A p99 needs cells: each flood lasts so many measurements."""
_HANDLERS_MS = (0, 1, 20)
_CELL_BAR = Bar(50.0, at_most=True)

_PATH = f"/static/{SMALL}"
_FILE = f"file of {SIZES[SMALL]:,} bytes"
_SHARE_BAR = Bar(0.5, of=IN_PROCESS)
_WAIT_BAR = Bar(15.0, of=IN_PROCESS, at_most=True)
# By what the cell does: bars of the rate, of its share of the idle figure, of the p99.
_BESIDE_BARS: dict[str, tuple[tuple[Bar, ...], tuple[Bar, ...], tuple[Bar, ...]]] = {
    "pure Python": ((Bar(500.0),), (_SHARE_BAR,), (_WAIT_BAR,)),
    "C that holds the GIL": ((), (_SHARE_BAR,), (_WAIT_BAR,)),
}
_NO_BARS: tuple[tuple[Bar, ...], tuple[Bar, ...], tuple[Bar, ...]] = ((), (), ())

_COST_BARS = {100: (Bar(15.0, of=IN_PROCESS, at_most=True),), 1000: ()}


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
    """Small files from a kernel that is idle, that computes, and that sleeps.

    The kernel has both cores, and shares one with the load: a computing cell takes one, and would
    have to share that with a network process.
    """
    figures: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, isolation in ISOLATIONS.items():
        with start_kernel(bench.site, isolation, both_cores=True) as kernel:
            target = Target(name, kernel.port)
            check(kernel.port, _PATH, SIZES[SMALL])
            warm_up(kernel.port, _PATH)
            for state, code in {"an idle kernel": "", **cells.BESIDE}.items():
                rounds = [_load_beside(bench, kernel, target, state, code)
                          for _ in range(bench.rounds)]  # fmt: skip
                figures.setdefault(state, {})[name] = rounds
    idle = figures["an idle kernel"]
    for state, found in figures.items():
        rate_bars, share_bars, wait_bars = _BESIDE_BARS.get(state, _NO_BARS)
        rates = {name: [rate for rate, _ in rounds] for name, rounds in found.items()}
        yield Row(f"{_FILE} beside {state}", "1/s", rates, rate_bars)
        if state != "an idle kernel":
            shares = {
                name: [rate / was for rate, (was, _) in zip(of, idle[name], strict=True)]
                for name, of in rates.items()
            }
            yield Row(f"{_FILE} beside {state}, of the idle figure", "x", shares, share_bars)
        waits = {name: [wait for _, wait in rounds] for name, rounds in found.items()}
        yield Row(f"{_FILE} beside {state}, p99", "ms", waits, wait_bars)


def _load_beside(
    bench: Bench, kernel: Kernel, target: Target, state: str, code: str
) -> tuple[float, float]:
    """Files a second and their p99 in ms, all of it while the code runs."""
    measure = f"{_FILE} beside {state}"
    if code:
        # wrk takes a moment longer than it is told to.
        with kernel.running(code.format(seconds=bench.seconds + 0.7)):
            load = bench.wrk(target, _PATH, _CONNECTIONS, measure)
    else:
        load = bench.wrk(target, _PATH, _CONNECTIONS, measure)
    return load.rate, load.p99 / 1000


def cost(bench: Bench) -> Iterator[Row]:
    """How much of its speed a cell of pure Python loses beside requests for files; on both cores.

    What it can do alone is measured before and after each, as the machine has slow spells.
    """
    lost: dict[int, dict[str, list[float]]] = {rate: {} for rate in _COST_BARS}
    for name, isolation in ISOLATIONS.items():
        with start_kernel(bench.site, isolation, both_cores=True) as kernel:
            warm_up(kernel.port, _PATH)
            for rate in _COST_BARS:
                found = [_speed_lost(bench, kernel, rate) for _ in range(bench.rounds)]
                lost[rate][name] = found
                bench.say(f"  a cell beside {rate:,} files/s loses {found} %: {name}")
    for rate, bars in _COST_BARS.items():
        measure = f"speed that a cell of pure Python loses beside {rate:,} files/s"
        yield Row(measure, "%", lost[rate], bars)


def _speed_lost(bench: Bench, kernel: Kernel, rate: int) -> float:
    before = _speed(bench, kernel, 0)
    beside = _speed(bench, kernel, rate)
    alone = (before + _speed(bench, kernel, 0)) / 2
    return max(0.0, 100 * (1 - beside / alone))


def _speed(bench: Bench, kernel: Kernel, rate: int) -> float:
    """How often a cell computes something in half a measurement."""
    seconds = bench.seconds / 2
    with kernel.running(cells.COMPUTE.format(seconds=seconds)) as printed:
        if rate:
            paced(kernel.port, _PATH, rate, seconds * 0.8)
    return float("".join(printed).split()[-1])
