"""What a server costs: memory of connections and large bodies, and the time to start and to stop.

Figures of a kernel are those of its process and of its network process together, from /proc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import cells
from ..kernel import Kernel, start_kernel
from ..load import LoadError, download, get_all, idle_connections, upload
from ..report import Bar, Row
from ..servers import IN_PROCESS
from .base import ISOLATIONS, Bench

_MB = 1e6
_IDLE = 1000
_TOGETHER = 10


def _at_most(limit: float) -> tuple[Bar, Bar]:
    return Bar(limit, at_most=True), Bar(limit, at_most=True, of=IN_PROCESS)


_IDLE_BARS = _at_most(20.0)
_PEAK_BARS = _at_most(60.0)
_START_BARS = (Bar(400.0, at_most=True, of=IN_PROCESS),)


def life(bench: Bench) -> Iterator[Row]:
    """The first server of a kernel, from its start to its stop."""
    rows = {
        "start of a kernel's first server": ("ms", _START_BARS),
        "stop of its last": ("ms", ()),
        "memory of its first server": ("MB", ()),
    }
    found: dict[str, dict[str, list[float]]] = {name: {} for name in rows}
    for name, isolation in ISOLATIONS.items():
        with start_kernel(bench.site, None) as kernel:
            kernel.load(isolation)
            before = _proportional(kernel)
            rounds: list[tuple[float, float, float]] = []
            for _ in range(bench.rounds):
                start = kernel.serve(isolation)
                grown = _proportional(kernel) - before
                rounds.append((start * 1000, float(kernel.run(cells.STOP)) * 1000, grown))
            for row, figures in zip(found, zip(*rounds, strict=True), strict=True):
                found[row][name] = list(figures)
    for row, (unit, bars) in rows.items():
        yield Row(row, unit, found[row], bars)


def memory(bench: Bench) -> Iterator[Row]:
    """Growth for idle connections; the peak of large uploads and responses."""
    file = bench.site / "static" / "large.bin"
    with open(file, "wb") as sparse:
        sparse.truncate(bench.large)
    paths = _many_files(bench)
    size = f"{bench.large / 2**20:,.0f} MiB"
    rows = {
        f"memory of {_IDLE:,} idle connections": _IDLE_BARS,
        f"memory peak of an upload of {size}": _PEAK_BARS,
        f"memory peak of a response of {size}": _PEAK_BARS,
        f"memory peak of {_TOGETHER} parallel files of {size}": _PEAK_BARS,
        f"memory peak of {len(paths):,} distinct files": _PEAK_BARS,
    }
    found = {name: _figures(bench, each, file, paths) for name, each in ISOLATIONS.items()}
    for number, (row, bars) in enumerate(rows.items()):
        yield Row(row, "MB", {name: [found[name][number]] for name in found}, bars)


def _figures(bench: Bench, isolation: str, file: Path, paths: list[str]) -> list[float]:
    """Megabytes, in the order of the rows."""
    with start_kernel(bench.site, isolation) as kernel:
        port = int(kernel.run(cells.SERVE_LARGE.format(limit=2 * bench.large, file=str(file))))
        upload(port, "/", 1000)
        works: list[Callable[[], None]] = [
            lambda: _upload(port, bench.large),
            lambda: _download(port, "/", bench.large),
            lambda: _download_together(kernel.port, bench.large),
            lambda: get_all(kernel.port, paths),
        ]
        return [_idle(kernel), *(_peak(kernel, work) for work in works)]


def _idle(kernel: Kernel) -> float:
    before = resident(kernel)
    # The app's server, not the static one: each connection has crossed to the main thread.
    with idle_connections(kernel.port, "/", _IDLE):
        return resident(kernel) - before


def resident(kernel: Kernel) -> float:
    """Megabytes of a kernel that are in memory."""
    return sum(_status(pid, "VmRSS") for pid in kernel.family()) / _MB


def _proportional(kernel: Kernel) -> float:
    """The same, a page that several processes have counted in shares."""
    total = 0
    for pid in kernel.family():
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += _kilobytes(text, "Pss")
    return total / _MB


def _peak(kernel: Kernel, work: Callable[[], None]) -> float:
    """Megabytes above what was resident before. The high-water marks are set back first."""
    family = kernel.family()
    for pid in family:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = sum(_status(pid, "VmRSS") for pid in family)
    work()
    return max(0.0, sum(_status(pid, "VmHWM") for pid in family) - before) / _MB


def _upload(port: int, size: int) -> None:
    answer = upload(port, "/", size)
    if answer != str(size).encode():
        raise LoadError(f"the app got {answer!r} bytes of {size}")


def _download(port: int, path: str, size: int) -> None:
    got = download(port, path)
    if got != size:
        raise LoadError(f"the client got {got} bytes of {size}")


def _download_together(port: int, size: int) -> None:
    with ThreadPoolExecutor(_TOGETHER) as pool:
        for done in [
            pool.submit(_download, port, "/static/large.bin", size) for _ in range(_TOGETHER)
        ]:
            done.result()


def _many_files(bench: Bench) -> list[str]:
    """Paths of files of 1 KiB, a thousand to a folder; fewer when the run is a quick one."""
    paths = []
    for folder in range(30 if bench.rounds > 1 else 10):
        (bench.site / "static" / f"many-{folder}").mkdir()
        for name in range(1000):
            (bench.site / "static" / f"many-{folder}" / f"{name}.bin").write_bytes(b"%1024d" % name)
            paths.append(f"/static/many-{folder}/{name}.bin")
    return paths


def _status(pid: int, name: str) -> int:
    """A line of /proc/PID/status, in bytes."""
    return _kilobytes(Path(f"/proc/{pid}/status").read_text(), name)


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", text, re.M)
    assert found is not None
    return int(found.group(1)) * 1024
