"""What a person waits for: latencies at a rate that every server can keep."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import quantiles

from .. import servers
from ..load import warm_up
from ..paced import paced
from ..report import Row, figure
from ..servers import Target
from .base import Bench, side_by_side

_PEERS = (servers.UVICORN, servers.AIOHTTP)
_RATE = 1000
_PERCENTILES = {"p50": 500, "p99": 990, "p99.9": 999}


def latency(bench: Bench) -> Iterator[Row]:
    """Hello world, so many times a second, each counted from when it was due."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in _PERCENTILES}

    def measure(target: Target) -> None:
        cuts = quantiles(
            paced(target.port, "/", _RATE, bench.seconds / 2), n=1000, method="inclusive"
        )
        for name, number in _PERCENTILES.items():
            found[name].setdefault(target.name, []).append(cuts[number - 1] * 1e6)
        bench.say(f"  latency at {_RATE:,}/s: {target.name} p99 {figure(cuts[989] * 1e6)} µs")

    with side_by_side(bench, _PEERS) as (targets, _):
        for target in targets:
            warm_up(target.port, "/")
        bench.in_turns(targets, measure)
    for name in _PERCENTILES:
        yield Row(f"latency {name} at {_RATE:,} requests/s", "µs", found[name])
