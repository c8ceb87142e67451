"""An idle kernel beside its peers: Hello world from the app, files, streams and uploads."""

from __future__ import annotations

from collections.abc import Iterator

from .. import cells, servers
from ..kernel import Kernel
from ..load import CLOSE, Load, check, download_rate, warm_up
from ..report import Bar, Row, figure
from ..servers import IN_PROCESS, Target
from .base import BIG, HELLO, MIDDLE, SIZES, SMALL, Bench, each, side_by_side, without

_DYNAMIC_PEERS = (servers.UVICORN, servers.TORNADO, servers.AIOHTTP, servers.HTTPUV_R)
_BODY_PEERS = (servers.UVICORN, servers.AIOHTTP)
_STATIC_PEERS = (
    servers.NGINX, servers.TORNADO, servers.AIOHTTP, servers.HTTP_SERVER, servers.HTTPUV_R,
)  # fmt: skip
_CONNECTIONS = 32
_MANY = 256
_STREAMS = 8

_DYNAMIC_BARS = {
    1: (),
    32: (
        Bar(1.0, servers.UVICORN),
        Bar(5.0, servers.TORNADO),
        Bar(1.0, servers.UVICORN, of=IN_PROCESS),
    ),
    _MANY: (
        Bar(1.0, servers.UVICORN),
        Bar(5.0, servers.TORNADO),
        Bar(6.0, servers.HTTPUV_R),
        Bar(1.0, servers.UVICORN, of=IN_PROCESS),
    ),
}
_STATIC_BARS = {
    SMALL: (Bar(1.0, servers.NGINX), Bar(10.0, servers.TORNADO)),
    MIDDLE: (Bar(0.8, servers.NGINX),),
}
_UPLOAD = 1_000_000


def dynamic(bench: Bench) -> Iterator[Row]:
    """Responses of the app, and their latency without queueing: at one connection."""
    with side_by_side(bench, _DYNAMIC_PEERS) as (targets, _):
        _prepare(targets, {"/": len(HELLO)})
        for connections, bars in _DYNAMIC_BARS.items():
            measure = f"{HELLO}, {connections} connection{'s' * (connections > 1)}"
            some = targets if connections == _MANY else without(targets, servers.HTTPUV_R)
            loads = _loads(bench, some, "/", connections, measure)
            yield Row(measure, "1/s", each(loads, "rate"), bars)
            if connections == 1:
                yield Row("latency p50, 1 connection", "µs", each(loads, "p50"))
                yield Row("latency p99, 1 connection", "µs", each(loads, "p99"))
        for what, more in (("another URL and field in each", "fresh"), ("no keep-alive", CLOSE)):
            measure = f"{HELLO}, {_CONNECTIONS} connections, {what}"
            some = without(targets, servers.HTTPUV_R, servers.TORNADO, servers.AIOHTTP)
            loads = _loads(bench, some, "/", _CONNECTIONS, measure, more)
            yield Row(measure, "1/s", each(loads, "rate"))


def bodies(bench: Bench) -> Iterator[Row]:
    """A response in 100 pieces of 1,000 bytes, and an upload of 1 MB."""
    with side_by_side(bench, _BODY_PEERS) as (targets, kernel):
        streams, uploads = _serve_bodies(kernel, targets)
        measure = f"stream of 100 pieces, {_STREAMS} connections"
        loads = _loads(bench, streams, "/stream", _STREAMS, measure)
        yield Row(measure, "1/s", each(loads, "rate"))
        measure = f"upload of 1 MB, {_STREAMS} connections"
        loads = _loads(bench, uploads, "/upload", _STREAMS, measure, "upload", str(_UPLOAD))
        yield Row(measure, "1/s", each(loads, "rate"))


def _serve_bodies(kernel: Kernel, targets: list[Target]) -> tuple[list[Target], list[Target]]:
    """Where each of the targets streams, and where it takes uploads."""
    streams, uploads = {}, {}
    for target in targets[:2]:
        kernel.load({servers.OURS: "thread", IN_PROCESS: "process"}[target.name])
        ports = kernel.run(cells.SERVE_BODIES.format()).split()
        streams[target.name], uploads[target.name] = (Target(target.name, int(p)) for p in ports)
    return (
        [streams.get(target.name, target) for target in targets],
        [uploads.get(target.name, target) for target in targets],
    )


def static(bench: Bench) -> Iterator[Row]:
    """Files; of the large one bytes, by a reader that is quicker than the servers."""
    with side_by_side(bench, _STATIC_PEERS) as (targets, _):
        _prepare(targets, {f"/static/{name}": SIZES[name] for name in _STATIC_BARS})
        quick = without(targets, *(name for name in _STATIC_PEERS if name != servers.NGINX))
        for name, bars in _STATIC_BARS.items():
            measure = f"file of {SIZES[name]:,} bytes"
            some = targets if name == SMALL else quick
            loads = _loads(bench, some, f"/static/{name}", _CONNECTIONS, measure)
            yield Row(measure, "1/s", each(loads, "rate"), bars)
        yield _large_file(bench, quick)


def _large_file(bench: Bench, targets: list[Target]) -> Row:
    measure = f"file of {SIZES[BIG]:,} bytes"

    def megabytes(target: Target) -> float:
        rate = download_rate(target.port, f"/static/{BIG}", SIZES[BIG], bench.seconds / 2) / 1e6
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
    bench: Bench, targets: list[Target], path: str, connections: int, measure: str, *more: str
) -> dict[str, list[Load]]:
    return bench.in_turns(
        targets, lambda target: bench.wrk(target, path, connections, measure, *more)
    )
