"""An IPython shell in this process, with the magics loaded; what tests of magics share."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from httpuv_kernel import HTTPUV, WebServer


@pytest.fixture
def bare_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell before `%load_ext`, whose configuration sets `HTTPUV.pending`."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    config.HTTPUV.pending = 77
    HTTPUV.clear_instance()
    shell = InteractiveShell.instance(config=config)
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()  # now: its directory will be gone when the interpreter ends
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    HTTPUV.clear_instance()


@pytest.fixture
def shell(bare_shell: InteractiveShell) -> InteractiveShell:
    bare_shell.run_line_magic("load_ext", "httpuv_kernel")
    return bare_shell


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "a site"
    directory.mkdir()
    (directory / "index.html").write_text("the page")
    return directory


def serve(shell: InteractiveShell, line: str) -> WebServer:
    server = shell.run_line_magic("httpuv_serve", line)
    assert isinstance(server, WebServer)
    assert server.is_running
    return server


def serve_cell(shell: InteractiveShell, line: str, cell: str) -> WebServer:
    server = shell.run_cell_magic("httpuv_app", line, cell)
    assert isinstance(server, WebServer)
    assert server.is_running
    return server


def app(request: Any) -> dict[str, object]:
    return {"body": "an app"}
