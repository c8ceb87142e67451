"""What a reader of the busy kernel's notebook sees in Chromium, while its cell runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import chromium
from helpers import wait_until
from test_notebooks import FOLDER, executed

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

# What the page shows just now: the progress, and how long the picture's bytes are known to be.
LOOK = """
const page = document.querySelector("iframe").contentDocument;
const bar = page && page.getElementById("bar"), picture = document.querySelector("img");
return {
  value: bar ? bar.value : null,
  label: bar ? page.getElementById("label").textContent : null,
  count: bar ? page.getElementById("count").textContent : null,
  picture: picture.complete && picture.naturalWidth > 0 ? picture.src : null,
};
"""


def source(name: str, cell: str) -> str:
    """The code of a cell."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)
    (found,) = (each.source for each in notebook.cells if each.id == cell)
    return str(found)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_progress_moves_while_the_cell_runs(isolation: str, tmp_path: Path) -> None:
    name = "04_busy_kernel"
    config = f"c.HTTPUV.isolation = {isolation!r}"
    with chromium() as browser, executed(name, tmp_path, config) as notebook:
        assert notebook.value("server.isolation") == isolation
        notebook.run(source(name, "serve"))
        notebook.run("LIMIT = 600")  # as its comment says: more time to look at the page
        notebook.begin(source(name, "compute"))
        browser.open(f"http://127.0.0.1:{notebook.ports['mandelbrot']}/")
        seen: list[dict[str, Any]] = []

        def is_done() -> bool:
            seen.append(browser.run(LOOK))
            return "done" in (seen[-1]["count"] or "")

        # What is shown at first may be left of the notebook's last loop.
        wait_until(lambda: browser.run(LOOK)["label"] == "Mandelbrot set")
        wait_until(is_done, 30)
        values = [look["value"] for look in seen]
        assert values == sorted(values)
        assert len(set(values)) > 4
        assert len({look["picture"] for look in seen} - {None}) > 2
        assert seen[-1]["count"] == "240 of 240 · 100 % · done"
        assert browser.errors() == []
