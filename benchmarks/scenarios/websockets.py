"""WebSockets: echoes beside the peers', one message to many sockets, and what idle ones cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .. import cells, servers
from ..kernel import start_kernel
from ..report import Bar, Row, figure
from ..servers import IN_PROCESS, OURS, Target
from ..websocket_load import echo_rate, fan_out_rate, open_sockets
from .base import ISOLATIONS, Bench, side_by_side
from .footprint import resident

_ECHO_SOCKETS = 32
_ECHO_PEERS = (servers.WEBSOCKETS, servers.TORNADO, servers.HTTPUV_R)
_ECHO_BARS = (
    Bar(0.8, servers.WEBSOCKETS),
    Bar(1.5, servers.TORNADO),
    Bar(1.5, servers.HTTPUV_R),
)
_WARM_UP_SECONDS = 0.3

_FAN_OUT_SOCKETS = 1000
_LOOP = "a loop of send"
# By the name of what is measured: isolation, and how the message is sent.
_FAN_OUT_WAYS = {
    OURS: ("thread", "broadcast"),
    IN_PROCESS: ("process", "broadcast"),
    _LOOP: ("thread", _LOOP),
}
# By whether they compress. To write a frame of 1,004 bytes costs the system 3.7 µs either way, and
# a loop of send needs 7 to 10 µs a socket, with deflate 18: however little the rest costs, a
# broadcast cannot be more than about twice as quick, with deflate 4.6 times.
_FAN_OUT_BARS = {True: (Bar(2.5, _LOOP),), False: ()}

_IDLE_SOCKETS = 10_000
_IDLE_BARS = (
    Bar(250.0, at_most=True),
    Bar(250.0, at_most=True, of=IN_PROCESS),
)


def echo(bench: Bench) -> Iterator[Row]:
    """Short messages there and back; ours go to the kernel's main thread and back, too."""
    measure = f"echo of 64 bytes, {_ECHO_SOCKETS} WebSockets"

    def rate(target: Target) -> float:
        return echo_rate(target.port, "/echo", _ECHO_SOCKETS, bench.seconds / 2)

    with side_by_side(bench, _ECHO_PEERS) as (targets, _):
        for target in targets:
            echo_rate(target.port, "/echo", _ECHO_SOCKETS, _WARM_UP_SECONDS)
        yield Row(measure, "1/s", _rates(bench, targets, rate, measure), _ECHO_BARS)


def broadcast(bench: Bench) -> Iterator[Row]:
    """One message of 1,000 bytes to all sockets, and again when all have it."""
    with start_kernel(bench.site) as kernel:
        ports = {}
        for isolation in ISOLATIONS.values():
            kernel.load(isolation)
            ports[isolation] = int(kernel.run(cells.SERVE_FAN_OUT.format(count=_FAN_OUT_SOCKETS)))
        targets = [Target(name, ports[way[0]]) for name, way in _FAN_OUT_WAYS.items()]
        for deflate in (True, False):
            packed = "with" if deflate else "without"
            measure = f"1,000 bytes to {_FAN_OUT_SOCKETS:,} WebSockets, {packed} deflate"

            def rate(target: Target, deflate: bool = deflate) -> float:
                way = _FAN_OUT_WAYS[target.name][1]
                return fan_out_rate(
                    target.port, "/", _FAN_OUT_SOCKETS, way, deflate, bench.seconds / 2
                )

            rates = _rates(bench, targets, rate, measure)
            yield Row(measure, "1/s", rates, _FAN_OUT_BARS[deflate])


def sockets(bench: Bench) -> Iterator[Row]:
    """Memory of sockets that have each had an echo, compressed as with a browser."""
    grown = {}
    for name, isolation in ISOLATIONS.items():
        with start_kernel(bench.site, isolation) as kernel:
            port = int(kernel.run(cells.SERVE_SOCKETS.format(count=_IDLE_SOCKETS)))
            with open_sockets(port, "/", 1, deflate=True):
                before = resident(kernel)
            with open_sockets(port, "/", _IDLE_SOCKETS, deflate=True):
                grown[name] = [resident(kernel) - before]
    yield Row(f"memory of {_IDLE_SOCKETS:,} idle WebSockets", "MB", grown, _IDLE_BARS)


def _rates(
    bench: Bench, targets: list[Target], rate: Callable[[Target], float], measure: str
) -> dict[str, list[float]]:
    def measured(target: Target) -> float:
        found = rate(target)
        bench.say(f"  {measure}: {target.name} {figure(found)}/s")
        return found

    return bench.in_turns(targets, measured)
