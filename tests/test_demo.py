"""`make demo`: the notebook executes, what it serves answers, and nothing outlives the program."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from helpers import wait_until
from kernels import get, is_free

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_serve_outputs.ipynb"
DEMO = ROOT / "notebooks" / "demo.py"
SITE = ROOT / "static_assets" / "example_site"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Temporary files of the program and its kernel go to the test's directory."""
    return {**os.environ, "TMPDIR": str(tmp_path)}


def ports(text: str) -> list[int]:
    """Of the URLs that the program has listed, in their order."""
    return [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)/", text)]


def children(pid: int) -> set[int]:
    """The processes that a process has started and that still run."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(parent) == pid and state != "Z":
            found.add(int(status.parent.name))
    return found


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Demo:
    """The program, in its serving mode."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Serving"):
                break
        self.ports = ports("".join(lines))
        self.kernels = children(process.pid)

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit status. Nothing may be left."""
        assert len(self.ports) == 3
        assert len(self.kernels) == 1
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        wait_until(lambda: not any(map(is_running, self.kernels)))
        assert all(map(is_free, self.ports))
        return self.process.returncode


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[Demo]:
    process = subprocess.Popen(
        [sys.executable, DEMO], stdout=subprocess.PIPE, text=True, env=environment
    )
    with process:
        try:
            yield Demo(process)
        finally:
            if process.poll() is None:
                process.terminate()


def run_once(program: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, program, "--once"]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)


# -- the program -------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.slow
def test_once_checks_and_ends(environment: dict[str, str]) -> None:
    done = run_once(DEMO, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert len(ports(done.stdout)) == 3
    assert all(map(is_free, ports(done.stdout)))


@pytest.mark.kernel
@pytest.mark.slow
def test_it_serves_until_ctrl_c(environment: dict[str, str], tmp_path: Path) -> None:
    with serving(environment) as demo:
        report, site, live = demo.ports
        assert get(report, "/report.js").headers["content-type"].startswith("text/javascript")
        assert get(site, "/waiting/").status == 200
        assert len(json.loads(get(live, "/api/study").body)) > 10
        assert demo.end(signal.SIGINT) == 0
    assert list(tmp_path.glob("lorenz-*")) == []  # the kernel had the time to clear up


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_kernel_outlives_it(environment: dict[str, str], number: signal.Signals) -> None:
    with serving(environment) as demo:
        assert demo.end(number) != 0


@pytest.mark.kernel
@pytest.mark.slow
def test_a_cell_that_fails_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    (cell,) = (cell for cell in notebook["cells"] if cell["id"] == "ensemble")
    cell["source"] = "print('so far')\nraise ValueError('no weather today')"
    (tmp_path / NOTEBOOK.name).write_text(json.dumps(notebook))
    done = run_once(Path(shutil.copy(DEMO, tmp_path)), environment)
    assert done.returncode == 1
    assert "'ensemble'" in done.stderr
    assert "so far" in done.stderr
    assert "no weather today" in done.stderr


@pytest.mark.kernel
@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    text = NOTEBOOK.read_text().replace('href=\\"report.css\\"', 'href=\\"missing.css\\"')
    (tmp_path / NOTEBOOK.name).write_text(text)
    done = run_once(Path(shutil.copy(DEMO, tmp_path)), environment)
    assert done.returncode == 1
    assert re.search(r"/missing\.css .*404", done.stderr)


# -- what it shows -----------------------------------------------------------------------------


def test_the_notebook_is_kept_without_results() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.parametrize(
    "page", [NOTEBOOK, *sorted(SITE.rglob("*.*"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_pages_link_to_nothing_elsewhere(page: Path) -> None:
    text = re.sub(r"http://(www\.w3\.org/2000/svg|127\.0\.0\.1)", "", page.read_text())
    assert not re.search(r"(https?:)?//[a-z0-9]+\.[a-z]", text)
    assert not re.search(r"""(href|src|srcset)=\\?["']/""", text)
