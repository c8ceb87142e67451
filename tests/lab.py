"""Real JupyterLab servers with jupyter-server-proxy for the tests, and notebooks in a browser.

The server has an environment of its own, as on a hub; its kernel is this process's Python. The
tests find the environments by variables, which `make test` sets:

    LAB44_PYTHON   JupyterLab 4 and jupyter-server-proxy 4.4
    LAB45_PYTHON   JupyterLab 4, Notebook 7 and jupyter-server-proxy 4.5
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import Browser, chromium
from helpers import wait_until
from kernels import free_port
from nbformat.v4 import new_code_cell, new_notebook
from selenium.webdriver import ActionChains, Keys

__all__ = ["HUB", "LOCAL", "Lab", "Page", "lab_browser", "lab_python", "run_lab"]

LOCAL = "127.0.0.1"
HUB = "hub.example"
"""A name by which the browser reaches this machine, as if it were another."""

TOKEN = "the-token-of-the-jupyter-server"
_CONFIG = {
    "ServerApp": {"local_hostnames": ["localhost", HUB], "open_browser": False},
    "IdentityProvider": {"token": TOKEN},
    "JupyterNotebookApp": {"expose_app_in_browser": True},
    "LabApp": {
        "expose_app_in_browser": True,
        "news_url": None,
        "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    },
}
_OFF = {"@jupyterlab/apputils-extension:announcements": True}


def lab_python(variable: str) -> str:
    """The interpreter that a variable names; the test skips without, and fails with CI=true."""
    python = os.environ.get(variable)
    if python:
        return python
    reason = f"{variable} names no Python that has JupyterLab; `make test` sets it"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def lab_browser() -> Iterator[Browser]:
    """Chromium that finds HUB."""
    with chromium(f"--host-resolver-rules=MAP {HUB} {LOCAL}") as browser:
        yield browser


class Lab:
    """A Jupyter server that runs."""

    def __init__(self, directory: Path, port: int, base_url: str) -> None:
        self.directory = directory
        """What it shows as its files, and where its kernels run."""
        self.port = port
        self.base_url = base_url

    def url(self, path: str, host: str = LOCAL) -> str:
        """The URL of a page for a browser that has not been here yet."""
        return f"http://{host}:{self.port}{self.base_url}{path}?token={TOKEN}"


@contextmanager
def run_lab(python: str, folder: Path, base_url: str = "/", *more: str) -> Iterator[Lab]:
    """Start a Jupyter server at 127.0.0.1; it serves JupyterLab and, if installed, Notebook.

    `more` are options of its command line.
    """
    lab = Lab(folder / "files", free_port(), base_url)
    lab.directory.mkdir()
    _write(folder / "kernels" / "kernels" / "python3" / "kernel.json", _kernelspec(folder))
    _write(folder / "config" / "jupyter_server_config.json", _CONFIG)
    _write(folder / "config" / "labconfig" / "page_config.json", {"disabledExtensions": _OFF})
    place = [f"--ServerApp.port={lab.port}", f"--ServerApp.base_url={base_url}"]
    options = [*place, *more, "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={lab.directory}"]
    if os.name == "posix" and os.getuid() == 0:
        options.append("--allow-root")
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [python, "-m", "jupyter", "lab", *options],
            stdout=log,
            stderr=log,
            env=_environment(folder),
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(lab), timeout=40)
        assert process.poll() is None, (folder / "log").read_text()
        yield lab
    finally:
        process.terminate()
        process.wait(20)


def _environment(folder: Path) -> dict[str, str]:
    own = {
        "JUPYTER_PATH": str(folder / "kernels"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    return {**os.environ, **own}


def _kernelspec(folder: Path) -> dict[str, object]:
    launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return {"argv": launch, "display_name": "Python 3", "language": "python"}


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(value))


def _answers(lab: Lab) -> bool:
    try:
        with urllib.request.urlopen(lab.url("api/status"), timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


class Page:
    """JupyterLab or Notebook in one tab; its notebooks are used by the keyboard."""

    def __init__(self, lab: Lab, browser: Browser, host: str = LOCAL) -> None:
        self.lab = lab
        self.browser = browser
        self.host = host
        self.path = Path()
        """The open notebook's file."""
        browser.open(lab.url("lab", host))
        browser.wait_for("window.jupyterapp && document.querySelector('#jp-main-dock-panel')", 40)
        self._tab = browser.driver.current_window_handle

    def command(self, name: str, **arguments: object) -> Any:
        """Do what an entry of the menu does."""
        script = "return window.jupyterapp.commands.execute(...arguments).then(() => null)"
        return self.browser.run(script, name, arguments)

    def open(self, name: str, *cells: str) -> None:
        """Open a new notebook and select its first cell; returns when its kernel is idle."""
        self._write(name, cells)
        self.command("docmanager:open", path=self.path.name)
        self._select_first()

    def open_in_notebook(self, name: str, *cells: str) -> None:
        """The same in Notebook 7, in place of JupyterLab."""
        self._write(name, cells)
        self.browser.open(self.lab.url(f"notebooks/{self.path.name}", self.host))
        self._select_first()

    def _write(self, name: str, cells: tuple[str, ...]) -> None:
        self.path = self.lab.directory / f"{name}.ipynb"
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, self.path)

    def _select_first(self) -> None:
        self.wait_idle()
        prompt = ".jp-Notebook .jp-Cell .jp-InputPrompt"
        self.browser.driver.find_element("css selector", prompt).click()  # by the mouse: it focuses

    def close(self) -> None:
        """Close every notebook and end the kernels."""
        self.back()
        self.command("docmanager:save-all")  # otherwise it asks
        self.command("application:close-all")
        self.end_kernels()

    def end_kernels(self) -> None:
        """End every kernel, as in the list of what runs."""
        self.browser.run("return window.jupyterapp.serviceManager.sessions.shutdownAll()")

    def reopen(self) -> None:
        """Load the notebook's page again, in the same tab."""
        self.browser.open(self.lab.url(f"lab/tree/{self.path.name}", self.host) + "&reset")
        self.browser.wait_for("window.jupyterapp && document.querySelector('.jp-Cell')", 40)

    # -- cells -----------------------------------------------------------------------------------

    def wait_idle(self) -> None:
        """Return when the notebook's kernel waits for a cell."""
        find = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext"
        self.browser.wait_for(f"{find}?.session?.kernel?.status === 'idle'", 20)

    def keys(self, *keys: str) -> None:
        """Press keys together, where the focus is."""
        *held, last = keys
        chain = ActionChains(self.browser.driver)
        for key in held:
            chain.key_down(key)
        chain.send_keys(last)
        for key in reversed(held):
            chain.key_up(key)
        chain.perform()

    def run_cell(self, number: int, *, stay: bool = False) -> None:
        """Run the selected cell by Shift+Enter and wait for its end; it is the number-th run.

        Then the next cell is selected; `stay`: by Ctrl+Enter, and this one is.
        """
        self.keys(Keys.CONTROL if stay else Keys.SHIFT, Keys.ENTER)
        self.browser.wait_for(
            "[...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')]"
            f".some(each => each.innerText.startsWith('[{number}]'))",
            30,
        )

    def serve(self, name: str, *cells: str) -> str:
        """Open a notebook, run all its cells, and wait for the panel; its text."""
        self.open(name, *cells)
        self.run_cells(len(cells))
        return self.wait_panel()

    def run_cells(self, count: int) -> None:
        """Run the first cells of a new notebook, one after the other."""
        for number in range(1, count + 1):
            self.run_cell(number)

    def save(self) -> str:
        """Save the notebook by Ctrl+S; the text of its file."""
        before = self.path.stat().st_mtime_ns
        self.keys(Keys.CONTROL, "s")

        def is_written() -> bool:
            changed = self.path.stat().st_mtime_ns != before
            return changed and self.path.read_text().rstrip().endswith("}")

        wait_until(is_written, 15)
        return self.path.read_text()

    # -- the panel of a server -----------------------------------------------------------------

    def wait_panel(self, state: str = "on") -> str:
        """Wait until the panel's page knows the server's state; the panel's text."""
        self.browser.wait_for(f"document.querySelector('.httpuv[data-state={state}]')", 12)
        return self.browser.text(".httpuv")

    def wait_stopped(self) -> str:
        """Wait until the one panel says so; its text."""
        self.browser.wait_for(
            "document.querySelector('.httpuv')?.innerText.includes('stopped')", 30
        )
        return self.browser.text(".httpuv")

    def press(self, button: str) -> None:
        """Press a button of the panel."""
        self.browser.run(
            "[...document.querySelectorAll('.httpuv button')]"
            ".find(each => each.innerText === arguments[0]).click()",
            button,
        )

    @property
    def link(self) -> str:
        """The URL that the panel offers."""
        return str(self.browser.run("return document.querySelector('.httpuv-link').href"))

    @property
    def port(self) -> int:
        """The server's port, as its link tells it."""
        found = re.search(r"/proxy/(\d+)/", self.link) or re.search(r":(\d+)/", self.link)
        assert found is not None
        return int(found[1])

    def follow_link(self) -> str:
        """Click the panel's link and go to the tab that it opens; its URL."""
        driver = self.browser.driver
        before = set(driver.window_handles)
        driver.find_element("css selector", ".httpuv-link").click()
        wait_until(lambda: set(driver.window_handles) - before, 10)
        (new,) = set(driver.window_handles) - before
        driver.switch_to.window(new)
        self.browser.wait_for(
            "document.readyState === 'complete' && location.href !== 'about:blank'"
        )
        return str(driver.current_url)

    def back(self) -> None:
        """Close other tabs and go to the notebook's."""
        driver = self.browser.driver
        for handle in driver.window_handles:
            if handle != self._tab:
                driver.switch_to.window(handle)
                driver.close()
        driver.switch_to.window(self._tab)
