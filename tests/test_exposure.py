"""Static paths that publish what nobody means to publish."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpuv_kernel import (
    Server,
    exclude_static_path,
    start_pipe_server,
    start_server,
    static_path,
)

HOME = "your home directory"
KEYS = "connection files"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a home and, elsewhere, Jupyter's runtime directory."""
    for name in ("home/me/data", "run/jupyter/runtime", "homely", "home/me2", "home/m"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "run/jupyter/runtime/kernel-1.json").touch()
    (tmp_path / "link").symlink_to("home/me")
    (tmp_path / "home/me/up").symlink_to("..")
    monkeypatch.setenv("HOME", str(tmp_path / "home/me"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "run/jupyter/runtime"))
    return tmp_path


DANGERS = {
    "/": "every file of this machine",
    "home/me": HOME,
    "home": HOME,
    "link": HOME,
    "home/me/up": HOME,
    "~": HOME,
    "run/jupyter/runtime": KEYS,
    "run/jupyter": KEYS,
    "run/jupyter/runtime/kernel-1.json": KEYS,
}
HARMLESS = ["home/me/data", "~/data", "homely", "home/me2", "home/m"]


def path_of(machine: Path, name: str) -> str:
    return name if name.startswith("~") else str(machine / name)


@pytest.mark.parametrize("name", DANGERS)
def test_a_danger_is_named(machine: Path, name: str) -> None:
    path = path_of(machine, name)
    with pytest.warns(UserWarning, match=DANGERS[name]) as caught:
        start_server("127.0.0.1", 0, {"static_paths": {"/": path}})
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_served_in_silence(machine: Path, name: str) -> None:
    start_server("127.0.0.1", 0, {"static_paths": {"/": path_of(machine, name)}})


def test_quiet(machine: Path) -> None:
    app = {"static_paths": {"/": "/", "/home": "~"}}
    start_server("127.0.0.1", 0, app, quiet=True)
    start_pipe_server(machine / "socket", None, app, quiet=True)


@pytest.fixture
def server(machine: Path) -> Iterator[Server]:
    with start_server("127.0.0.1", 0, {"static_paths": {"/data": "~/data"}}) as server:
        yield server


def test_a_unix_socket_warns_as_well(machine: Path) -> None:
    with pytest.warns(UserWarning, match=HOME) as caught:
        start_pipe_server(machine / "socket", None, {"static_paths": {"/": "~"}})
    assert caught[0].filename == __file__


def test_a_path_that_is_added_warns(server: Server) -> None:
    with pytest.warns(UserWarning, match=HOME) as caught:
        server.set_static_path({"/home": static_path("~")})
    assert caught[0].filename == __file__


def test_an_app_that_is_replaced_warns_of_what_is_new(server: Server) -> None:
    with pytest.warns(UserWarning, match=HOME) as caught:
        server.replace_app({"static_paths": {"/": "~"}})
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        server.replace_app({"static_paths": {"/again": "~"}})


def test_what_is_excluded_is_not_served(
    server: Server, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(machine / "home/me")
    server.set_static_path({"/home": exclude_static_path()})
