"""What connections and large bodies cost the kernel's process, from /proc."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import cells
from ..kernel import Kernel, start_kernel
from ..load import LoadError, download, get_all, idle_connections, upload
from ..report import Bar, Row
from ..servers import OURS
from .base import Bench

_MB = 1e6
_IDLE = 1000
_TOGETHER = 10
_IDLE_BAR = Bar(20.0, at_most=True)
_PEAK_BAR = Bar(60.0, at_most=True)


def memory(bench: Bench) -> Iterator[Row]:
    """Growth for idle connections; the peak of a large upload and of a large file response."""
    file = bench.site / "static" / "large.bin"
    with open(file, "wb") as sparse:
        sparse.truncate(bench.large)
    size = f"{bench.large / 2**20:,.0f} MiB"
    with start_kernel(bench.site) as kernel:
        port = int(
            kernel.run(cells.SERVE_LARGE.format(limit=2 * bench.large, file=str(file)))
        )  # fmt: skip
        upload(port, "/", 1000)
        yield Row(f"memory of {_IDLE:,} idle connections", "MB", _idle(kernel), (_IDLE_BAR,))
        peak = _peak(kernel.pid, lambda: _upload(port, bench.large))
        yield Row(f"memory peak of an upload of {size}", "MB", {OURS: [peak]}, (_PEAK_BAR,))
        peak = _peak(kernel.pid, lambda: _download(port, "/", bench.large))
        yield Row(f"memory peak of a response of {size}", "MB", {OURS: [peak]}, (_PEAK_BAR,))
        peak = _peak(kernel.pid, lambda: _download_together(kernel.port, bench.large))
        label = f"memory peak of {_TOGETHER} parallel files of {size}"
        yield Row(label, "MB", {OURS: [peak]}, (_PEAK_BAR,))
        paths = _many_files(bench)
        peak = _peak(kernel.pid, lambda: get_all(kernel.port, paths))
        label = f"memory peak of {len(paths):,} distinct files"
        yield Row(label, "MB", {OURS: [peak]}, (_PEAK_BAR,))


def _idle(kernel: Kernel) -> dict[str, list[float]]:
    before = resident(kernel)
    # The app's server, not the static one: each connection has crossed to the main thread.
    with idle_connections(kernel.port, "/", _IDLE):
        return {OURS: [resident(kernel) - before]}


def resident(kernel: Kernel) -> float:
    """Megabytes of its process that are in memory."""
    return _status(kernel.pid, "VmRSS") / _MB


def _peak(pid: int, work: Callable[[], None]) -> float:
    """Megabytes above what was resident before. The high-water mark is set back first."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _status(pid, "VmRSS")
    work()
    return max(0.0, _status(pid, "VmHWM") - before) / _MB


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
    for folder in range(100 if bench.large >= 2**30 else 10):
        (bench.site / "static" / f"many-{folder}").mkdir()
        for name in range(1000):
            (bench.site / "static" / f"many-{folder}" / f"{name}.bin").write_bytes(b"%1024d" % name)
            paths.append(f"/static/many-{folder}/{name}.bin")
    return paths


def _status(pid: int, name: str) -> int:
    """A line of /proc/PID/status, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s*(\d+) kB$", text, re.M)
    assert found is not None
    return int(found.group(1)) * 1024
