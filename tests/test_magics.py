"""The `%httpuv_*` magics in an IPython shell of this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import during
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from kernels import free_port, get, is_free
from traitlets.config import Config

from httpuv_kernel import HTTPUV, WebServer, list_servers, start_server
from httpuv_kernel.main.static_server import DEFAULT_PORT

NAMES = ("httpuv_list", "httpuv_serve", "httpuv_stop")


@pytest.fixture
def bare_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    config.HTTPUV.pending = 77
    HTTPUV.clear_instance()
    shell = InteractiveShell.instance(config=config)
    yield shell
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


def magic_names(shell: InteractiveShell) -> set[str]:
    return {name for name in shell.magics_manager.magics["line"] if name.startswith("httpuv")}


def app(request: Any) -> dict[str, object]:
    return {"body": "an app"}


# -- the extension ---------------------------------------------------------------------------------


def test_load_registers_the_magics(shell: InteractiveShell) -> None:
    assert magic_names(shell) >= set(NAMES)


def test_load_takes_the_shells_configuration(shell: InteractiveShell) -> None:
    assert HTTPUV.instance().pending == 77


def test_load_after_a_first_server_takes_it_too(bare_shell: InteractiveShell) -> None:
    start_server("127.0.0.1", 0, app)
    bare_shell.run_line_magic("load_ext", "httpuv_kernel")
    assert HTTPUV.instance().pending == 77


def test_reload(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0")
    shell.run_line_magic("reload_ext", "httpuv_kernel")
    assert is_free(first.port)
    assert magic_names(shell) >= set(NAMES)
    assert get(serve(shell, f"'{site}' --port 0").port).text == "the page"


def test_unload_stops_the_servers_and_takes_the_magics_away(
    shell: InteractiveShell, site: Path
) -> None:
    server = serve(shell, f"'{site}' --port 0")
    shell.run_line_magic("unload_ext", "httpuv_kernel")
    assert magic_names(shell) == set()
    assert list_servers() == []
    assert is_free(server.port)


# -- %httpuv_serve ---------------------------------------------------------------------------------


@pytest.mark.parametrize("quote", ["'", '"'])
def test_serve_a_directory(shell: InteractiveShell, site: Path, quote: str) -> None:
    server = serve(shell, f"{quote}{site}{quote} --port 0")
    assert get(server.port).text == "the page"


def test_serve_the_current_directory(
    shell: InteractiveShell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site)
    assert get(serve(shell, "--port 0").port).text == "the page"


def test_serve_below_the_home_directory(
    shell: InteractiveShell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(site.parent))
    assert get(serve(shell, "'~/a site' --port 0").port).text == "the page"


def test_serve_a_directory_without_index_lists_it(shell: InteractiveShell, site: Path) -> None:
    (site / "index.html").rename(site / "table.csv")
    assert "table.csv" in get(serve(shell, f"'{site}' --port 0").port).text


def test_serve_a_file(shell: InteractiveShell, site: Path) -> None:
    server = serve(shell, f"'{site}/index.html' --port 0")
    assert get(server.port).text == "the page"


@pytest.mark.parametrize(
    "value",
    [app, {"call": app}, type("App", (), {"call": staticmethod(app)})()],
    ids=["function", "mapping", "object"],
)
def test_serve_an_app(shell: InteractiveShell, value: object) -> None:
    shell.user_ns["mine"] = value
    server = serve(shell, "mine --port 0")
    assert during(get, server.port).text == "an app"


def test_an_app_comes_before_a_directory_of_its_name(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    shell.user_ns["mine"] = app
    assert during(get, serve(shell, "mine --port 0").port).text == "an app"
    shell.user_ns["mine"] = 3  # no app: then the directory is meant
    assert get(serve(shell, "mine --port 0").port).status == 200


def test_the_usual_port_or_another(shell: InteractiveShell, site: Path) -> None:
    free = is_free(DEFAULT_PORT)
    first = serve(shell, f"'{site}'")
    assert (first.port == DEFAULT_PORT) == free
    second = serve(shell, str(site.parent))
    assert second.port not in (first.port, DEFAULT_PORT)
    assert first.is_running


def test_serve_again_keeps_the_port(shell: InteractiveShell) -> None:
    shell.user_ns["mine"] = app
    first = serve(shell, "mine --port 0")
    shell.user_ns["mine"] = lambda request: {"body": "another"}
    second = serve(shell, "mine")
    assert second.port == first.port
    assert not first.is_running
    assert list_servers() == [second]
    assert during(get, second.port).text == "another"


def test_serve_again_at_another_port(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0")
    port = free_port()
    assert serve(shell, f"'{site}' --port {port}").port == port
    assert is_free(first.port)


def test_serve_again_after_stop(shell: InteractiveShell, site: Path) -> None:
    serve(shell, f"'{site}' --port 0").stop()
    assert get(serve(shell, f"'{site}' --port 0").port).text == "the page"


def test_what_is_returned_shows_the_link(shell: InteractiveShell, site: Path) -> None:
    server = serve(shell, f"'{site}' --port 0")
    shown, _ = shell.display_formatter.format(server)
    assert f'href="http://127.0.0.1:{server.port}/"' in shown["text/html"]
    assert f"http://127.0.0.1:{server.port}/" in shown["text/plain"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no_such_thing", "'no_such_thing' is neither a directory nor the name of an app"),
        ("/no/such/directory", "neither a directory"),
        ("number", "an app is a function, a mapping or an object"),
        ("misspelt", "did you mean 'on_headers'"),
        (". --port many", "--port"),
        (". --port 70000", "70000"),
        (". --colour", "--colour"),
        (". --host 192.0.2.1 --port 0", "192.0.2.1 is not an address of this machine"),
        (". --host no.such.host.invalid --port 0", "no.such.host.invalid"),
        ("one two", "two"),
    ],
)
def test_wrong_arguments(shell: InteractiveShell, line: str, said: str) -> None:
    shell.user_ns.update(number=3, misspelt={"onHeaders": app})
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        shell.run_line_magic("httpuv_serve", line)
    assert list_servers() == []


def test_a_port_of_another_program(shell: InteractiveShell, site: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match="another program; use another port, or port 0"):
            shell.run_line_magic("httpuv_serve", f"'{site}' --port {port}")
    assert list_servers() == []


def test_a_port_of_another_server(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0")
    with pytest.raises(UsageError, match="a server of this process"):
        shell.run_line_magic("httpuv_serve", f"{site.parent} --port {first.port}")
    assert list_servers() == [first]


# -- %httpuv_list and %httpuv_stop -----------------------------------------------------------------


def test_list(shell: InteractiveShell, site: Path) -> None:
    nothing = shell.run_line_magic("httpuv_list", "")
    assert list(nothing) == []
    assert repr(nothing) == "no server is running"
    servers = [serve(shell, f"'{site}' --port 0"), serve(shell, f"{site.parent} --port 0")]
    listed = shell.run_line_magic("httpuv_list", "")
    assert list(listed) == servers
    for server in servers:
        assert server.url in repr(listed)
        assert f'href="{server.url}"' in listed._repr_html_()


def test_stop_the_only_server(shell: InteractiveShell, site: Path) -> None:
    server = serve(shell, f"'{site}' --port 0")
    assert shell.run_line_magic("httpuv_stop", "") is None
    assert list_servers() == []
    assert is_free(server.port)


def test_stop_by_port(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0")
    second = serve(shell, f"{site.parent} --port 0")
    shell.run_line_magic("httpuv_stop", str(first.port))
    assert list_servers() == [second]


def test_stop_all(shell: InteractiveShell, site: Path) -> None:
    serve(shell, f"'{site}' --port 0")
    serve(shell, f"{site.parent} --port 0")
    shell.run_line_magic("httpuv_stop", "all")
    assert list_servers() == []
    shell.run_line_magic("httpuv_stop", "all")


def test_stop_says_what_runs(shell: InteractiveShell, site: Path) -> None:
    with pytest.raises(UsageError, match="running: none"):
        shell.run_line_magic("httpuv_stop", "")
    first = serve(shell, f"'{site}' --port 0")
    second = serve(shell, f"{site.parent} --port 0")
    with pytest.raises(UsageError, match=f"say which server; running: {first.port}, {second.port}"):
        shell.run_line_magic("httpuv_stop", "")
    with pytest.raises(UsageError, match="no server at port '1'; running"):
        shell.run_line_magic("httpuv_stop", "1")
    assert list_servers() == [first, second]


# -- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_help(shell: InteractiveShell, name: str) -> None:
    text = shell.object_inspect(f"%{name}")["docstring"]
    assert text.strip()
    if name == "httpuv_serve":
        for part in ("--host", "--port", "what", str(DEFAULT_PORT), "keeps the port"):
            assert part in text
    if name == "httpuv_stop":
        assert "all" in text
