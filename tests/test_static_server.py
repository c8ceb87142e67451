"""`run_static_server`, static paths that change while a server runs, and its token."""

from __future__ import annotations

import os
import re
import signal
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import Client, Work, in_thread, request, wait_until
from static_site import site_fixtures

from httpuv_kernel import (
    InvalidAddressError,
    PortInUseError,
    WebServer,
    exclude_static_path,
    interrupt,
    later,
    list_servers,
    run_static_server,
    start_server,
    static_path,
    stop_all_servers,
)
from httpuv_kernel.errors import StaticPathError
from httpuv_kernel.main import static_server

root, other = site_fixtures()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that a browser was to open; it could."""
    urls: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url, *_, **__: urls.append(url) or True)
    return urls


def get(server: WebServer, target: str = "/") -> str:
    with Client(server.port) as client:
        return client.ask(target=target).text


# -- run_static_server -------------------------------------------------------------------------


def test_background(root: Path, opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    server = run_static_server(root, port=0, background=True)
    assert isinstance(server, WebServer)
    assert server in list_servers()
    assert get(server) == "this is index.html"
    output, errors = capsys.readouterr()
    lines = errors.splitlines()
    assert output == ""
    assert lines[:2] == [f"Serving: '{root}'", f"View at: http://127.0.0.1:{server.port}/"]
    assert len(lines) == 3
    assert "stop_all_servers()" in lines[2]
    assert opened == []  # nobody sits here
    stop_all_servers()
    assert not server.is_running


def test_foreground(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It blocks, serves, and returns None after `interrupt()`; the port is free then."""
    got: list[str] = []

    def client() -> None:
        (server,) = list_servers()
        assert isinstance(server, WebServer)
        got.append(in_thread(get, server, "/a.txt"))
        interrupt()

    later(client)
    assert run_static_server(root, port=0) is None
    assert got == ["this is a.txt"]
    assert list_servers() == []
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == f"Serving: '{root}'"
    assert errors[1].startswith("View at: http://127.0.0.1:")
    assert "Ctrl-C" in errors[2]
    assert len(errors) == 3


def test_ctrl_c_in_the_foreground_frees_the_port(root: Path) -> None:
    def press() -> None:
        wait_until(list_servers)
        os.kill(os.getpid(), signal.SIGINT)

    work = Work(press)
    with pytest.raises(KeyboardInterrupt):
        run_static_server(root, port=0)
    work.result()
    assert list_servers() == []


def test_the_current_directory_is_the_default(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    server = run_static_server(port=0, background=True)
    assert server is not None
    assert get(server, "/a.txt") == "this is a.txt"


def test_arguments_of_static_path(root: Path) -> None:
    server = run_static_server(
        root, port=0, background=True, indexhtml=False, listing=True, headers={"k": "v"}
    )
    assert server is not None
    with Client(server.port) as client:
        assert b"sub" in client.ask().body
        assert client.ask(target="/a.txt")["k"] == "v"
    plain = run_static_server(root / "sub", port=0, background=True, indexhtml=False)
    assert plain is not None
    assert get(plain) == "404 Not Found\n"  # no listing by default


def test_one_file(root: Path) -> None:
    server = run_static_server(root / "a.txt", port=0, background=True)
    assert server is not None
    assert get(server) == "this is a.txt"


def test_the_default_port_or_a_random_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert static_server.DEFAULT_PORT == 7446
    with start_server("127.0.0.1", 0, {}) as taken:
        port = taken.port
    monkeypatch.setattr(static_server, "DEFAULT_PORT", port)
    first = run_static_server(root, background=True)
    second = run_static_server(root, background=True)
    assert first is not None
    assert second is not None
    assert first.port == port
    assert second.port not in (port, 0)
    assert get(second, "/a.txt") == "this is a.txt"


def test_a_port_that_is_asked_for_is_not_replaced(root: Path) -> None:
    with start_server("127.0.0.1", 0, {}) as taken:
        with pytest.raises(PortInUseError, match=str(taken.port)):
            run_static_server(root, port=taken.port, background=True)


@pytest.mark.parametrize("port", [-1, 65536, 1.5, "x", "80", True, [80]])
def test_a_port_that_is_none(root: Path, port: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidAddressError, match="port"):
        run_static_server(root, port=port, background=True)
    assert list_servers() == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"dir": "/no/such/directory"}, StaticPathError, "/no/such/directory"),
        ({"host": "no.such.host.invalid"}, InvalidAddressError, "host"),
        ({"html_charset": "a b"}, StaticPathError, "html_charset"),
        ({"lisitng": True}, StaticPathError, "listing"),
    ],
)
def test_nothing_is_started_when_an_argument_is_wrong(
    root: Path, arguments: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        run_static_server(**{"dir": root, "port": 0, "background": True, **arguments})
    assert list_servers() == []


def test_browse(root: Path, opened: list[str]) -> None:
    server = run_static_server(root, port=0, background=True, browse=True)
    assert server is not None
    assert opened == [server.url]
    run_static_server(root, port=0, background=True, browse=False)
    assert len(opened) == 1


def fail(*_: object, **__: object) -> bool:
    raise webbrowser.Error("no display")


@pytest.mark.parametrize("browser", [fail, lambda *_, **__: False, lambda *_: 1 / 0])
def test_a_browser_that_does_not_open_fails_nothing(
    root: Path, browser: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "open", browser)
    server = run_static_server(root, port=0, background=True, browse=True)
    assert server is not None
    assert get(server) == "this is index.html"
    assert "browser" in capsys.readouterr().err


# -- a running server ----------------------------------------------------------------------------


@pytest.fixture
def server(root: Path) -> Iterator[WebServer]:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}) as server:
        yield server


def test_changes_are_seen_by_the_next_request_of_an_open_connection(
    server: WebServer, root: Path, other: Path
) -> None:
    with Client(server.port) as client:

        def text(target: str) -> str:
            return client.ask(target=target).text

        assert text("/a.txt") == "this is a.txt"
        server.set_static_path({"/": other})
        assert text("/a.txt") == "the other a"
        server.set_static_path({"x": root}, y=static_path(root, headers={"k": "v"}))
        assert [*server.static_paths] == ["/", "/x", "/y"]
        assert text("/x/a.txt") == "this is a.txt"
        assert client.ask(target="/y/a.txt")["k"] == "v"
        server.set_static_path_option(headers={"k": "w"})
        assert client.ask(target="/x/a.txt")["k"] == "w"
        assert client.ask(target="/y/a.txt")["k"] == "v"
        server.set_static_path_option(html_charset="latin1")
        assert client.ask(target="/x/")["content-type"] == "text/html; charset=latin1"
        server.remove_static_path(["/x/", "y", "unknown"])
        assert [*server.static_paths] == ["/"]
        assert client.ask(target="/x/a.txt").status == 404
        server.remove_static_path("/")
        assert client.ask(target="/a.txt").status == 404


def test_an_exclusion_and_a_validation_on_a_running_server(server: WebServer) -> None:
    with Client(server.port) as client:
        assert client.ask(target="/sub/b.txt").status == 200
        server.set_static_path(sub=exclude_static_path())
        assert client.ask(target="/sub/b.txt").status == 404
        assert client.ask(target="/a.txt").status == 200
        server.set_static_path_option(validation={"k": "v"})
        assert client.ask(target="/a.txt").status == 403
        assert client.ask(target="/a.txt", headers=[("K", "v")]).status == 200


def test_several_paths_change_as_one(server: WebServer, root: Path, other: Path) -> None:
    both = request(target="/one/a.txt") + request(target="/two/a.txt")
    server.set_static_path(one=root, two=root)
    with Client(server.port) as client, ThreadPoolExecutor(1) as pool:

        def ask_both() -> set[str]:
            pairs = []
            for _ in range(300):
                client.send(both)
                pairs.append((client.read_reply().text, client.read_reply().text))
            assert all(one == two for one, two in pairs)
            return {one for one, _ in pairs}

        work = pool.submit(ask_both)
        while not work.done():
            server.set_static_path(one=other, two=other)
            server.set_static_path(one=root, two=root)
        assert work.result() <= {"this is a.txt", "the other a"}


def test_what_cannot_be_served_changes_nothing(server: WebServer, root: Path) -> None:
    before, options = dict(server.static_paths), server.static_path_options
    for wrong in ({"/x": root, "/y": "/no/such/path"}, {"/x": 3}, {"/..": root}):
        with pytest.raises(StaticPathError):
            server.set_static_path(wrong)
    for name, value in {"indexhtml": None, "html_charset": "a b", "validation": "x"}.items():
        with pytest.raises(StaticPathError, match=name):
            server.set_static_path_option(**{name: value})
    with pytest.raises(TypeError):
        server.set_static_path_option(index_html=True)
    assert (dict(server.static_paths), server.static_path_options) == (before, options)
    with pytest.raises(TypeError):
        server.static_paths["/x"] = static_path(root)  # type: ignore[index]


def test_unset_headers_of_a_running_server(server: WebServer) -> None:
    """None is empty for `static_path_options`, and so here; a later change must still work."""
    server.set_static_path_option(headers={"k": "v"})
    server.set_static_path_option(headers=None)
    server.set_static_path_option(hidden=True)
    with Client(server.port) as client:
        assert not client.ask(target="/a.txt").has("k")


def test_a_stopped_server_can_be_changed_without_effect(server: WebServer, other: Path) -> None:
    server.stop()
    server.set_static_path(x=other)
    server.set_static_path_option(hidden=True)
    server.remove_static_path("/")
    assert [*server.static_paths] == ["/x"]


def test_two_servers_of_one_app_change_apart(root: Path, other: Path) -> None:
    app = {"static_paths": {"/": root}}
    with start_server("127.0.0.1", 0, app) as one, start_server("127.0.0.1", 0, app) as two:
        one.set_static_path({"/": other})
        with Client(one.port) as client:
            assert client.ask(target="/a.txt").text == "the other a"
        with Client(two.port) as client:
            assert client.ask(target="/a.txt").text == "this is a.txt"


# -- token ---------------------------------------------------------------------------------------

TOKEN = "a" * 10 + "-b_" + "C" * 10


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"/{TOKEN}/a.txt", 200),
        (f"/{TOKEN}/a.txt?x", 200),
        (f"/{TOKEN}/", 200),
        (f"/{TOKEN}/sub", 308),
        (f"/{TOKEN}/missing", 404),
        (f"/{TOKEN}/../{TOKEN}/a.txt", 404),
        (f"http://localhost/{TOKEN}/a.txt", 200),
        ("/", 403),
        ("/a.txt", 403),
        ("/missing", 403),
        (f"/{TOKEN[:-1]}/a.txt", 403),
        (f"/{TOKEN}x/a.txt", 403),
        (f"/{TOKEN.lower()}/a.txt", 403),
        (f"//{TOKEN}/a.txt", 403),
        (f"/x/../{TOKEN}/a.txt", 403),
        (f"/a.txt?{TOKEN}", 403),
        (f"/a.txt/{TOKEN}/", 403),
    ],
)
def test_token(root: Path, target: str, status: int) -> None:
    app = {"static_paths": {"/": root}}
    with start_server("127.0.0.1", 0, app, token=TOKEN) as server:
        for method in ("GET", "HEAD", "OPTIONS"):
            with Client(server.port) as client:
                reply = client.ask(method, target)
                wanted = 405 if method == "OPTIONS" and status != 403 else status
                assert reply.status == wanted
                assert TOKEN not in str(reply)


@pytest.mark.parametrize("query", ["", "?a=b", "?next=/x/y"])
def test_the_token_alone_gets_its_slash(root: Path, query: str) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}, token=TOKEN) as server:
        with Client(server.port) as client:
            reply = client.ask(target=f"/{TOKEN}{query}")
            assert (reply.status, reply["location"]) == (308, f"{TOKEN}/{query}")


def test_a_made_token(root: Path) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}, token=True) as server:
        path = server.url.partition(f":{server.port}")[2]
        assert re.fullmatch(r"/[\w-]{22,}/", path)
        with Client(server.port) as client:
            assert client.ask(target=path + "a.txt").text == "this is a.txt"
