"""The extension, and `%httpuv_serve` in an IPython shell of this process."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import Client, during
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from kernels import free_port, get, is_free
from shells import app, bare_shell, serve, shell, site

from httpuv_kernel import (
    HTTPUV,
    interrupt,
    later,
    list_servers,
    run_static_server,
    start_server,
)
from httpuv_kernel.main.static_server import DEFAULT_PORT

__all__ = ["bare_shell", "shell", "site"]

NAMES = {
    "line": {"serve", "list", "stop", "open", "embed", "service", "log", "config"},
    "cell": {"app"},
}


def magic_names(shell: InteractiveShell) -> dict[str, set[str]]:
    return {
        kind: {name.removeprefix("httpuv_") for name in names if name.startswith("httpuv_")}
        for kind, names in shell.magics_manager.magics.items()
    }


def registered(shell: InteractiveShell) -> tuple[object, ...]:
    """All that an extension could leave in a shell or the process."""
    return (
        magic_names(shell),
        sorted(shell.magics_manager.registry),
        len(shell.Completer.custom_matchers),
        sorted(shell.strdispatchers["complete_command"].strs),
        len(shell.configurables),
        {name: len(found) for name, found in shell.events.callbacks.items()},
        sorted(thread.name for thread in threading.enumerate() if thread.name[:6] == "httpuv"),
    )


# -- the extension ---------------------------------------------------------------------------------


def test_load_registers_the_magics(shell: InteractiveShell) -> None:
    assert magic_names(shell) == NAMES


def test_load_takes_the_shells_configuration(shell: InteractiveShell) -> None:
    assert HTTPUV.instance().pending == 77


def test_load_after_a_first_server_takes_it_too(bare_shell: InteractiveShell) -> None:
    start_server("127.0.0.1", 0, app)
    bare_shell.run_line_magic("load_ext", "httpuv_kernel")
    assert HTTPUV.instance().pending == 77


def test_ipythons_own_config_magic_knows_the_settings(shell: InteractiveShell) -> None:
    assert shell.run_line_magic("config", "HTTPUV.pending") == 77


def test_reload_stops_the_servers(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0")
    shell.run_line_magic("reload_ext", "httpuv_kernel")
    assert is_free(first.port)
    assert magic_names(shell) == NAMES
    assert get(serve(shell, f"'{site}' --port 0").port).text == "the page"


def test_unload_leaves_nothing_behind(bare_shell: InteractiveShell, site: Path) -> None:
    bare_shell.run_line_magic("load_ext", "httpuv_kernel")  # loads magics of IPython's, too
    bare_shell.run_line_magic("unload_ext", "httpuv_kernel")
    before = registered(bare_shell)
    assert not any(magic_names(bare_shell).values())
    bare_shell.run_line_magic("load_ext", "httpuv_kernel")
    server = serve(bare_shell, f"'{site}' --port 0")
    assert registered(bare_shell) != before
    bare_shell.run_line_magic("unload_ext", "httpuv_kernel")
    assert registered(bare_shell) == before
    assert list_servers() == []
    assert is_free(server.port)


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quote", ["'{}'", '"{}"', "escaped"])
def test_serve_a_directory(shell: InteractiveShell, site: Path, quote: str) -> None:
    word = str(site).replace(" ", "\\ ") if quote == "escaped" else quote.format(site)
    server = serve(shell, f"{word} --port 0")
    assert get(server.port).text == "the page"
    assert server.name == "a site"


def test_serve_the_current_directory(
    shell: InteractiveShell, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site)
    assert get(serve(shell, "--port 0").port).text == "the page"


@pytest.mark.parametrize("line", ["'~/a site'", '"$HOME/a site"', "'{folder}/a site'", "path"])
def test_how_a_directory_may_be_named(
    shell: InteractiveShell, site: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("HOME", str(site.parent))
    shell.user_ns.update(folder=str(site.parent), path=site)
    assert get(serve(shell, f"{line} --port 0").port).text == "the page"


def test_a_directory_without_index_is_listed_unless_told_not_to(
    shell: InteractiveShell, site: Path
) -> None:
    (site / "index.html").rename(site / "table.csv")
    server = serve(shell, f"'{site}' --port 0")
    assert "table.csv" in get(server.port).text
    assert serve(shell, f"'{site}' --no-listing") is server
    assert get(server.port).status == 404


def test_options_of_files(shell: InteractiveShell, site: Path) -> None:
    (site / ".env").write_text("hidden")
    line = f"'{site}' --port 0 --cors --hidden --spa --header 'X-One: 1: a' --header X-Two:2"
    server = serve(shell, line)
    answer = get(server.port, "/.env")
    assert answer.text == "hidden"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (answer.headers["x-one"], answer.headers["x-two"]) == ("1: a", "2")
    with Client(server.port) as client:
        assert client.ask(target="/x", headers=[("Accept", "text/html")]).text == "the page"


def test_serve_a_file(shell: InteractiveShell, site: Path) -> None:
    server = serve(shell, f"'{site}/index.html' --port 0")
    assert get(server.port).text == "the page"


def test_two_directories_of_the_same_name_are_two(shell: InteractiveShell, site: Path) -> None:
    other = site / "a site"
    other.mkdir()
    first, second = serve(shell, f"'{site}' --port 0"), serve(shell, f"'{other}' --port 0")
    assert list_servers() == [first, second]
    assert (first.name, second.name) == ("a site", str(other))
    assert serve(shell, f"'{other}'") is second


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [app, {"call": app}, type("App", (), {"call": staticmethod(app)})()],
    ids=["function", "mapping", "object"],
)
def test_serve_an_app(shell: InteractiveShell, value: object) -> None:
    shell.user_ns["mine"] = value
    server = serve(shell, "mine --port 0")
    assert during(get, server.port).text == "an app"


def test_serve_an_attribute(shell: InteractiveShell) -> None:
    shell.user_ns["module"] = type("Module", (), {"app": staticmethod(app)})
    assert during(get, serve(shell, "module.app --port 0").port).text == "an app"


class Rich:
    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return f"<p>{self.text}</p>"


class Callable(Rich):
    def __call__(self, element: object) -> None:
        raise AssertionError("it is no app")


@pytest.mark.parametrize("kind", [Rich, Callable])
def test_an_object_is_shown_as_it_is_at_each_request(shell: InteractiveShell, kind: Any) -> None:
    shell.user_ns["frame"] = kind("first")
    port = serve(shell, "frame --port 0").port
    assert "<p>first</p>" in during(get, port).text
    shell.user_ns["frame"] = kind("second")
    assert "<p>second</p>" in during(get, port).text
    assert during(get, port, "/favicon.ico").status == 404
    del shell.user_ns["frame"]
    answer = during(get, port)
    assert (answer.status, "no longer defined" in answer.text) == (404, True)


def test_serve_a_server_shows_it_or_starts_it_again(shell: InteractiveShell) -> None:
    server = start_server("127.0.0.1", 0, app, name="one")
    shell.user_ns["server"] = server
    assert serve(shell, "server") is server
    server.stop()
    again = serve(shell, "server --port 0")
    assert again is not server
    assert again.name == "one"
    assert during(get, again.port).text == "an app"


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


# -- how it is shown -------------------------------------------------------------------------------


def test_what_is_returned_shows_the_link_once(
    shell: InteractiveShell, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell(f"%httpuv_serve '{site}' --port 0")
    (server,) = list_servers()
    assert capsys.readouterr().out.count(f"http://127.0.0.1:{server.port}/") == 1


@pytest.mark.parametrize("options", ["--embed", "--embed 250", "--quiet", "--quiet --embed"])
def test_none_is_returned_when_it_is_shown_already_or_not_at_all(
    shell: InteractiveShell, site: Path, capsys: pytest.CaptureFixture[str], options: str
) -> None:
    assert shell.run_line_magic("httpuv_serve", f"'{site}' --port 0 {options}") is None
    assert ("http" in capsys.readouterr().out) == ("--quiet" not in options)
    assert len(list_servers()) == 1


def test_open_where_there_is_a_desktop(
    shell: InteractiveShell,
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    for desktop in (False, True):
        monkeypatch.setattr("httpuv_kernel.magics.serve.has_desktop", lambda: desktop)  # noqa: B023
        server = serve(shell, f"'{site}' --port 0 --open")
        assert opened == ([server.url] if desktop else [])
        assert ("use the link" in capsys.readouterr().out) != desktop


def test_foreground_blocks_until_it_is_interrupted(shell: InteractiveShell, site: Path) -> None:
    later(interrupt, 0.1)
    port = free_port()
    assert shell.run_line_magic("httpuv_serve", f"'{site}' --port {port} --foreground") is None
    assert is_free(port)

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    later(ctrl_c, 0.1)
    shell.run_line_magic("httpuv_serve", f"'{site}' --port {port} --foreground --quiet")
    assert is_free(port)


# -- what cannot work ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no_such_thing", "'no_such_thing' is neither a directory nor the name of an app"),
        ("/no/such/directory", "neither a directory"),
        ("number", "an app is a function, a mapping or an object"),
        ("number.missing", "neither a directory"),
        ("misspelt", "did you mean 'on_headers'"),
        ("mine --cors --no-listing", "--listing, --cors: for a directory or a file"),
        (". --port many", "--port"),
        (". --port 70000", "70000"),
        (". --colour", "--colour"),
        (". --header nonsense", "NAME: VALUE"),
        (". --header 'X Y: 1'", "X Y"),
        (". --embed tall", "number of pixels"),
        ("'. --port 0", "No closing quotation"),
        (". --host 192.0.2.1 --port 0", "192.0.2.1 is not an address of this machine"),
        (". --host no.such.host.invalid --port 0", "no.such.host.invalid"),
        ("one two", "two"),
    ],
)
def test_wrong_arguments(shell: InteractiveShell, line: str, said: str) -> None:
    shell.user_ns.update(number=3, misspelt={"onHeaders": app}, mine=app)
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


# -- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NAMES)
def test_help(shell: InteractiveShell, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for short in NAMES[kind]:
        name = f"httpuv_{short}"
        text = shell.object_inspect(f"{'%' if kind == 'line' else '%%'}{name}")["docstring"]
        assert f"%{name} [" in text
        for option in ("-h", "--help"):
            if kind == "line":
                assert shell.run_line_magic(name, option) is None
            else:
                assert shell.run_cell_magic(name, option, "1/0\n") is None
            assert capsys.readouterr().out.strip() == text.strip()


def test_the_help_of_serve_teaches(shell: InteractiveShell) -> None:
    text = shell.object_inspect("%httpuv_serve")["docstring"]
    for part in ("WHAT", "--host", "--port", "--name", "--no-listing", "--embed", "keeps the port"):
        assert part in text
    assert str(DEFAULT_PORT) in text


def test_a_background_static_server_is_the_same_thing(shell: InteractiveShell, site: Path) -> None:
    server = run_static_server(site, port=0, background=True, browse=False)
    assert serve(shell, f"'{site}'") is server
    assert server is not None
    assert server.name == "a site"
