"""A kernel that serves all kinds of clients while it runs cells: `run.py [SECONDS]`.

SOAK_ISOLATION is "thread" or "process". Prints the figures; the exit code is 1 when a response was
wrong, a message was lost or doubled, or something has grown.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
from helpers import wait_until
from kernels import Kernel
from soak.load import Load, make_files

__all__ = ["Soak", "soak"]

_SETUP = """
import gc, sys, tempfile; sys.path.insert(0, {tests!r})
os.environ["TMPDIR"] = tempfile.tempdir = {bodies!r}
from soak.app import App
HTTPUV.instance().isolation = {isolation!r}
HTTPUV.instance().check_bridge = False
HTTPUV.instance().spool_bytes = 50_000
app = App({folder!r})
"""
_CELLS = [
    "sum(i * i for i in range(300_000))",
    "await asyncio.sleep(0.2)",
    "time.sleep(0.1)",
    "print('x' * 1000)",
    "server.status(); server.log(5)",
]
_REST = """
gc.collect(); from httpuv_kernel.main.runtime import running_runtime as _runtime
"""
_SIZES = """{
    "threads": threading.active_count(),
    "tasks": len(asyncio.all_tasks()),
    "requests kept": len(_runtime().exchanges),
    "sockets kept": len(app.open),
    "connections": server.status().connections,
}"""
_MEGABYTE = 1024 * 1024
_GROWTH = 24 * _MEGABYTE  # what the allocator keeps differs from rest to rest by some of these


class Soak(NamedTuple):
    """What came of it."""

    figures: dict[str, int]
    seconds: float
    cells: int
    slowest_cell: float
    before: dict[str, int]
    """At rest, after the warm-up."""
    after: dict[str, int]
    errors: list[str]

    def report(self) -> str:
        """The figures, as text."""
        lines = [f"{name:>16} {count:>14,}" for name, count in sorted(self.figures.items())]
        lines.append(f"{'cells':>16} {self.cells:>14,}   slowest {self.slowest_cell:.2f} s")
        lines.append(f"{'seconds':>16} {self.seconds:>14,.0f}")
        lines += [
            f"{name:>16} {self.before[name]:>14,} -> {self.after[name]:,}" for name in self.after
        ]
        return "\n".join([*lines, *self.errors[:20], f"{len(self.errors)} errors"])


def soak(seconds: float, isolation: str, directory: Path) -> Soak:
    """Run it for so long; a fifth of that, 10 s at most, is the warm-up."""
    files = directory / "files"
    bodies = directory / "bodies"
    for folder in (files, bodies):
        folder.mkdir()
    make_files(files)
    kernel = Kernel(sys.executable, directory)
    load = None
    try:
        folders = {"folder": str(files), "bodies": str(bodies)}
        tests = str(Path(__file__).parent.parent)
        served = kernel.serve(_SETUP.format(isolation=isolation, tests=tests, **folders))
        load = Load(served.port)
        warm_up = max(2.0, min(20.0, seconds / 3))
        _work(kernel, load, warm_up)
        before = _at_rest(kernel, files, bodies)
        begun = time.monotonic()
        load.figures.clear()
        cells, slowest = _work(kernel, load, seconds - warm_up)
        took = time.monotonic() - begun
        after = _at_rest(kernel, files, bodies)
        shown = [served.cell.error] if served.cell.error else []
        errors = [*load.errors, *_grown(before, after), *shown]
        if "Traceback" in kernel.log:
            errors.append(kernel.log[-2000:])
        return Soak(dict(load.figures), took, cells, slowest, before, after, errors)
    finally:
        if load is not None:
            load.close()
        kernel.close()


def _work(kernel: Kernel, load: Load, seconds: float) -> tuple[int, float]:
    """Run cells while the clients work; how many, and how long the slowest took."""
    worker = threading.Thread(target=load.work, args=(seconds,))
    worker.start()
    cells, slowest = 0, 0.0
    while worker.is_alive():
        begun = time.monotonic()
        kernel.run(_CELLS[cells % len(_CELLS)], timeout=60)
        slowest = max(slowest, time.monotonic() - begun)
        cells += 1
        time.sleep(0.1)
        kernel._published = kernel._published[-1000:]
    worker.join()
    load.rest()
    return cells, slowest


def _at_rest(kernel: Kernel, files: Path, bodies: Path) -> dict[str, int]:
    """What it holds when nobody is connected; waits until the last has been noticed to be gone."""
    kernel.run(_REST)
    wait_until(lambda: kernel.value("server.status().connections") == 0, timeout=20)
    kernel.run("gc.collect()")
    process = psutil.Process(kernel.pid)
    family = [process, *process.children()]

    def opened() -> list[str]:
        paths = [file.path for each in family for file in each.open_files()]
        return [path for path in paths if path.startswith(str(files.resolve()))]

    wait_until(lambda: not opened(), timeout=20)  # large files stay open for a moment
    sizes: dict[str, int] = kernel.value(_SIZES)
    sizes["descriptors"] = sum(each.num_fds() for each in family)
    sizes["memory"] = sum(each.memory_info().rss for each in family)
    sizes["spooled files"] = len(list(bodies.rglob("httpuv-body-*")))
    return sizes


def _grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """What is more than it was."""
    found = [
        f"{name} have grown: {before[name]} -> {count}"
        for name, count in after.items()
        if name != "memory" and count > before[name]
    ]
    if after["memory"] - before["memory"] > _GROWTH:
        found.append(
            f"memory has grown by {(after['memory'] - before['memory']) / _MEGABYTE:.0f} MB"
        )
    return found


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 600.0
    isolation = os.environ.get("SOAK_ISOLATION", "thread")
    with tempfile.TemporaryDirectory() as directory:
        result = soak(seconds, isolation, Path(directory))
    print(f"isolation: {isolation}")
    print(result.report())
    return bool(result.errors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
