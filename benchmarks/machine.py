"""The machine: which core is whose, how many files may be open, and what is installed."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = _CORES[0]
LOAD_CORE = _CORES[-1]
PACKAGES = (
    "httpuv-kernel", "ipykernel", "tornado", "websockets", "httptools", "uvloop", "uvicorn",
    "aiohttp", "numpy",
)  # fmt: skip


def take_load_core() -> None:
    """This process, and the load generators that inherit from it, keep off the server's core."""
    os.sched_setaffinity(0, {LOAD_CORE})


@contextlib.contextmanager
def server_core(*, both: bool = False) -> Iterator[None]:
    """What this thread starts meanwhile runs on the server's core: a child inherits it.

    `both`: or on that of the load, as the system likes.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CORE, LOAD_CORE} if both else {SERVER_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files() -> None:
    """As many open files as the system allows; 1,000 connections need more than the usual 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def which(name: str) -> str | None:
    """A program's path; Debian's nginx is where only root looks."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


def describe() -> list[tuple[str, str]]:
    """What a reader needs to know to compare figures: the machine and the versions."""
    cores = f"{len(_CORES)} cores; server on core {SERVER_CORE}, load on core {LOAD_CORE}"
    return [
        ("machine", f"{_cpu()}, {cores}"),
        ("system", f"Linux {platform.release()}, {platform.python_implementation()} "
                   f"{platform.python_version()}"),
        ("packages", ", ".join(filter(None, map(_package, PACKAGES)))),
        ("programs", ", ".join(filter(None, [_wrk(), _nginx(), httpuv_version()]))),
    ]  # fmt: skip


def httpuv_version() -> str:
    """R's httpuv, or "" where there is none."""
    if which("Rscript") is None:
        return ""
    code = 'cat(as.character(packageVersion("httpuv")), as.character(getRversion()))'
    numbers = _output("Rscript", "-e", code).split()
    return f"httpuv {numbers[0]} (R {numbers[1]})" if len(numbers) == 2 else ""


def _cpu() -> str:
    with open("/proc/cpuinfo") as file:
        found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.M)
    return found.group(1).strip() if found else platform.machine()


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


def _wrk() -> str:
    found = re.search(r"^wrk \S+", _output("wrk", "-v"), re.M)
    return found.group(0) if found else ""


def _nginx() -> str:
    found = re.search(r"nginx/(\S+)", _output("nginx", "-v"))
    return f"nginx {found.group(1)}" if found else ""


def _output(name: str, *arguments: str) -> str:
    """Both streams of a program, or "" where it is missing or takes too long."""
    path = which(name)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout + done.stderr
