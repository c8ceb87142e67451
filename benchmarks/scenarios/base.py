"""What all scenarios share: how long and how often, the site, and taking turns."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import TypeVar

from .. import servers
from ..kernel import Kernel, start_kernel
from ..load import Load, wrk
from ..report import figure
from ..servers import IN_PROCESS, OURS, Target

T = TypeVar("T")

ISOLATIONS = {OURS: "thread", IN_PROCESS: "process"}
HELLO = "Hello world"
SMALL, MIDDLE, BIG = "1k.bin", "100k.bin", "100m.bin"
SIZES = {SMALL: 1024, MIDDLE: 100_000, BIG: 100_000_000}


@dataclass
class Bench:
    """A run.

    Attributes:
        site: a directory with static/NAME for each of SIZES.
        seconds: of each measurement.
        rounds: how often each is repeated.
        large: bytes of the upload and the file response whose memory is measured.
        notes: what went wrong without ending the run.
        problems: those of the notes that are our fault.
    """

    site: Path
    seconds: int
    rounds: int
    large: int
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def wrk(self, target: Target, path: str, connections: int, measure: str, *more: str) -> Load:
        """One measurement; errors are noted, not averaged away. `more` as in `load.wrk`."""
        load = wrk(target.url(path), connections, self.seconds, *more)
        self.say(f"  {measure}: {target.name} {figure(load.rate)}/s")
        if load.socket_errors or load.status_errors:
            kinds = f"{load.socket_errors} socket and {load.status_errors} status errors"
            self.note(f"{measure}: {target.name} had {kinds}", ours=target.name in ISOLATIONS)
        return load

    def note(self, text: str, ours: bool) -> None:
        self.notes.append(text)
        if ours:
            self.problems.append(text)

    def in_turns(self, targets: list[Target], measure: Callable[[Target], T]) -> dict[str, list[T]]:
        """Each target once a round, so that all see the machine's quick and slow spells."""
        found: dict[str, list[T]] = {target.name: [] for target in targets}
        for _ in range(self.rounds):
            for target in targets:
                found[target.name].append(measure(target))
                sleep(0.1)  # the connections of the last are closed
        return found


@contextlib.contextmanager
def side_by_side(bench: Bench, peers: tuple[str, ...]) -> Iterator[tuple[list[Target], Kernel]]:
    """Both of ours in one kernel, and those of the peers that are here."""
    names = servers.available(peers)
    for name in peers:
        if name not in names:
            bench.say(f"  without {name}: it is not on this machine")
    with (
        start_kernel(bench.site) as kernel,
        servers.start_peers(names, bench.site) as others,
    ):
        ours = [Target(OURS, kernel.port)]
        kernel.serve("process")
        ours.append(Target(IN_PROCESS, kernel.port))
        yield [*ours, *others], kernel


def without(targets: list[Target], *names: str) -> list[Target]:
    """Those of other names: what is far behind need not be measured again and again."""
    return [target for target in targets if target.name not in names]


def each(loads: dict[str, list[Load]], name: str) -> dict[str, list[float]]:
    """One figure of the loads of each server."""
    return {server: [getattr(load, name) for load in found] for server, found in loads.items()}
