"""An idle kernel beside its peers: Hello world from the app, and files."""

from __future__ import annotations

from collections.abc import Iterator

from .. import servers
from ..load import Load, check, download_rate, warm_up
from ..report import Bar, Row, figure
from ..servers import Target
from .base import BIG, HELLO, MIDDLE, SIZES, SMALL, Bench, side_by_side

_DYNAMIC_PEERS = (servers.UVICORN, servers.TORNADO, servers.HTTPUV_R)
_STATIC_PEERS = (servers.NGINX, servers.TORNADO, servers.HTTP_SERVER, servers.HTTPUV_R)
_CONNECTIONS = 32

_DYNAMIC_BARS = {
    1: (),
    32: (Bar(1.0, servers.UVICORN), Bar(5.0, servers.TORNADO)),
    256: (
        Bar(1.0, servers.UVICORN),
        Bar(5.0, servers.TORNADO),
        Bar(6.0, servers.HTTPUV_R),
    ),
}
_STATIC_BARS = {
    SMALL: (Bar(1.0, servers.NGINX), Bar(10.0, servers.TORNADO)),
    MIDDLE: (Bar(0.8, servers.NGINX),),
}


def dynamic(bench: Bench) -> Iterator[Row]:
    """Responses of the app, and their latency without queueing: at one connection."""
    with side_by_side(bench, _DYNAMIC_PEERS) as targets:
        _prepare(targets, {"/": len(HELLO)})
        for connections, bars in _DYNAMIC_BARS.items():
            measure = f"Hello world, {connections} connection{'s' * (connections > 1)}"
            loads = _loads(bench, targets, "/", connections, measure)
            yield Row(measure, "1/s", _each(loads, "rate"), bars)
            if connections == 1:
                yield Row("latency p50, 1 connection", "µs", _each(loads, "p50"))
                yield Row("latency p99, 1 connection", "µs", _each(loads, "p99"))


def static(bench: Bench) -> Iterator[Row]:
    """Files; of the large one bytes, by a reader that is quicker than the servers."""
    with side_by_side(bench, _STATIC_PEERS) as targets:
        _prepare(targets, {f"/static/{name}": SIZES[name] for name in _STATIC_BARS})
        for name, bars in _STATIC_BARS.items():
            measure = f"file of {SIZES[name]:,} bytes"
            loads = _loads(bench, targets, f"/static/{name}", _CONNECTIONS, measure)
            yield Row(measure, "1/s", _each(loads, "rate"), bars)
        yield _large_file(bench, targets)


def _large_file(bench: Bench, targets: list[Target]) -> Row:
    measure = f"file of {SIZES[BIG]:,} bytes"

    def megabytes(target: Target) -> float:
        rate = download_rate(target.port, f"/static/{BIG}", SIZES[BIG], bench.seconds) / 1e6
        bench.say(f"  {measure}: {target.name} {figure(rate)} MB/s")
        return rate

    bars = (Bar(0.8, servers.NGINX),)
    return Row(measure, "MB/s", bench.in_turns(targets, megabytes), bars)


def _prepare(targets: list[Target], sizes: dict[str, int]) -> None:
    for target in targets:
        for path, size in sizes.items():
            check(target.port, path, size)
            warm_up(target.port, path)


def _loads(
    bench: Bench, targets: list[Target], path: str, connections: int, measure: str
) -> dict[str, list[Load]]:
    return bench.in_turns(targets, lambda target: bench.wrk(target, path, connections, measure))


def _each(loads: dict[str, list[Load]], name: str) -> dict[str, list[float]]:
    return {server: [getattr(load, name) for load in found] for server, found in loads.items()}
