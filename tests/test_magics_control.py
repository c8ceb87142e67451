"""The magics for servers that run, for what they answered and for the settings; completion."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from helpers import Client, during
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from kernels import get, is_free
from shells import app, bare_shell, serve, shell, site

from httpuv_kernel import HTTPUV, later, list_servers, start_pipe_server

__all__ = ["bare_shell", "shell", "site"]


def run(shell: InteractiveShell, line: str) -> object:
    name, _, rest = line.partition(" ")
    return shell.run_line_magic(f"httpuv_{name}", rest)


# -- %httpuv_list and %httpuv_stop -----------------------------------------------------------------


def test_list(shell: InteractiveShell, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = run(shell, "list")
    assert nothing == []
    assert repr(nothing) == "no server is running"
    servers = [serve(shell, f"'{site}' --port 0"), serve(shell, f"{site.parent} --port 0")]
    assert run(shell, "list") == servers
    shell.run_cell("%httpuv_list")
    shown = capsys.readouterr().out
    for server in servers:
        assert shown.count(server.url) == 1


def test_stop_the_only_server(shell: InteractiveShell, site: Path) -> None:
    server = serve(shell, f"'{site}' --port 0")
    assert run(shell, "stop") is None
    assert list_servers() == []
    assert is_free(server.port)


@pytest.mark.parametrize("word", ["'a site'", "a\\ site", "{port}"])
def test_stop_by_name_or_port(shell: InteractiveShell, site: Path, word: str) -> None:
    first = serve(shell, f"'{site}' --port 0")
    second = serve(shell, f"{site.parent} --port 0")
    run(shell, "stop " + word.format(port=first.port))
    assert list_servers() == [second]


def test_stop_a_server_at_a_unix_socket(shell: InteractiveShell, tmp_path: Path) -> None:
    start_pipe_server(tmp_path / "socket", None, app)
    run(shell, f"stop {tmp_path}/socket")
    assert list_servers() == []


def test_stop_all(shell: InteractiveShell, site: Path) -> None:
    serve(shell, f"'{site}' --port 0")
    serve(shell, f"{site.parent} --port 0")
    run(shell, "stop all")
    assert list_servers() == []
    run(shell, "stop all")


@pytest.mark.parametrize("magic", ["stop", "open", "embed"])
def test_which_server(shell: InteractiveShell, site: Path, magic: str) -> None:
    with pytest.raises(UsageError, match="no server is running; running: none"):
        run(shell, magic)
    first = serve(shell, f"'{site}' --port 0 --name one")
    second = serve(shell, f"{site.parent} --port 0 --name two")
    known = rf"running: one \({first.port}\), two \({second.port}\)"
    with pytest.raises(UsageError, match=f"say which server; {known}"):
        run(shell, magic)
    with pytest.raises(UsageError, match=f"no server is called '1'; {known}"):
        run(shell, f"{magic} 1")
    with pytest.raises(UsageError, match="did you mean 'one'"):
        run(shell, f"{magic} on")
    assert list_servers() == [first, second]


# -- %httpuv_open, %httpuv_embed, %httpuv_service --------------------------------------------------


def test_open(shell: InteractiveShell, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    server = serve(shell, f"'{site}' --port 0")
    monkeypatch.setattr("httpuv_kernel.magics.serve.has_desktop", lambda: False)
    assert run(shell, "open") is server  # which shows the link
    monkeypatch.setattr("httpuv_kernel.magics.serve.has_desktop", lambda: True)
    assert run(shell, f"open {server.port}") is None
    assert opened == [server.url]


@pytest.mark.parametrize(("line", "height"), [("", 400), ("site 250", 250)])
def test_embed(
    shell: InteractiveShell,
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    height: int,
) -> None:
    server = serve(shell, f"'{site}' --port 0 --name site")
    heights: list[object] = []
    monkeypatch.setattr(server, "show", heights.append)
    assert run(shell, f"embed {line}") is None
    assert heights == [height]


def test_service(shell: InteractiveShell) -> None:
    ran: list[int] = []
    later(lambda: ran.append(1))
    assert run(shell, "service 5000") is None
    assert ran == [1]
    run(shell, "service nan")
    for wrong in ("soon", "-4"):
        with pytest.raises(UsageError):
            run(shell, f"service {wrong}")


# -- %httpuv_log -----------------------------------------------------------------------------------


def test_log(shell: InteractiveShell, site: Path) -> None:
    server = serve(shell, f"'{site}' --port 0 --name site")
    assert repr(run(shell, "log")) == "no response yet"
    with Client(server.port) as client:
        client.ask(target="/<b>")
        client.ask()
    table = run(shell, "log site")
    heads, first, second = repr(table).splitlines()
    assert heads.split() == ["time", "method", "path", "status", "bytes", "ms", "waited", "ms"]
    assert first.split()[1:4] == ["GET", "/<b>", "404"]
    assert second.split()[1:5] == ["GET", "/", "200", "8"]
    html = table._repr_html_()  # type: ignore[attr-defined]
    assert "<td" in html
    assert "/&lt;b&gt;" in html
    assert len(repr(run(shell, "log -n 1")).splitlines()) == 2


def test_the_log_of_several_servers_names_them(shell: InteractiveShell, site: Path) -> None:
    for name in ("one", "two"):
        get(serve(shell, f"'{site}' --port 0 --name {name}").port)
    lines = repr(run(shell, "log")).splitlines()
    assert [line.split()[0] for line in lines] == ["server", "one", "two"]
    assert len(repr(run(shell, "log two")).splitlines()) == 2


def test_log_sets_the_level(shell: InteractiveShell, site: Path) -> None:
    log = logging.getLogger("httpuv_kernel")
    handlers = list(log.handlers)
    try:
        assert run(shell, "log debug") is None
        assert log.level == logging.DEBUG
        serve(shell, f"'{site}' --port 0 --name site")
        assert run(shell, "log site WARNING") is not None
        assert HTTPUV.instance().log_level == "WARNING"
        run(shell, "log none")
        assert HTTPUV.instance().log_level is None
        with pytest.raises(UsageError, match="log_level is any of"):
            run(shell, "log site loud")
    finally:
        log.handlers[:] = handlers


# -- %httpuv_config --------------------------------------------------------------------------------


def test_config_shows_every_setting(shell: InteractiveShell) -> None:
    text = repr(run(shell, "config"))
    for name in HTTPUV.class_own_traits(config=True):
        assert f"\n{name} " in text
    assert text.splitlines()[0].split() == ["name", "value", "default", "meaning"]


def test_config_shows_one(shell: InteractiveShell) -> None:
    _, first, *_ = repr(run(shell, "config pending")).splitlines()
    assert first.split()[:3] == ["pending", "77", "1000"]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("pending = 5", 5),
        ("pending=5", 5),
        ("HTTPUV.pending = 5", 5),
        ("c.HTTPUV.pending = 5", 5),
        ("write_timeout = 1.5", 1.5),
        ("compress_messages = false", False),
        ("allowed_origins = https://a https://b", ["https://a", "https://b"]),
        ("allowed_origins = ['https://a']", ["https://a"]),
        ("allowed_hosts =", []),
    ],
)
def test_config_sets(shell: InteractiveShell, line: str, value: object) -> None:
    run(shell, f"config {line}")
    name = line.partition("=")[0].strip().rpartition(".")[2]
    assert getattr(HTTPUV.instance(), name) == value


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pendin", "no setting 'pendin'; did you mean 'pending'"),
        ("pendin = 4", "did you mean 'pending'"),
        ("zzz", "known are"),
        ("pending = many", "pending is an int, not 'many'"),
        ("log_level = loud", "log_level is any of"),
        ("allowed_hosts = [1]", "allowed_hosts is a list"),
        ("allowed_hosts = [a", "allowed_hosts is a list"),
        ("= 4", "say which setting"),
    ],
)
def test_config_refuses(shell: InteractiveShell, line: str, said: str) -> None:
    before = HTTPUV.instance().trait_values()
    with pytest.raises(UsageError, match=said):
        run(shell, f"config {line}")
    assert HTTPUV.instance().trait_values() == before


# -- completion ------------------------------------------------------------------------------------


def completions(shell: InteractiveShell, text: str) -> list[str]:
    with provisionalcompleter():
        return [each.text for each in shell.Completer.completions(text, len(text))]


@pytest.fixture
def folder(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: `a site`, `plain/sub`, a file, a hidden one."""
    monkeypatch.chdir(site.parent)
    (site.parent / "plain" / "sub").mkdir(parents=True)
    (site.parent / "report.html").touch()
    (site.parent / ".hidden").touch()
    return site.parent


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%httpuv_serve --po", ["--port"]),
        ("%httpuv_serve mine --no", ["--no-listing"]),
        ("%%httpuv_app --to", ["--token"]),
        ("%httpuv_serve --host 127", ["127.0.0.1"]),
        ("%httpuv_serve mine --name o", ["one"]),
        ("%httpuv_serve mi", ["mine"]),
        ("%httpuv_serve fra", ["frame"]),
        ("%httpuv_serve pl", ["plain/"]),
        ("%httpuv_serve plain/", ["plain/sub/"]),
        ("%httpuv_serve ./rep", ["./report.html"]),
        ("%httpuv_serve .h", [".hidden"]),
        ("%httpuv_serve a", ["a\\ site/"]),
        ("%httpuv_serve a\\ s", ["a\\ site/"]),
        ("%httpuv_serve 'a", ["'a site/"]),
        ("%httpuv_serve 'a si", ["'a site/"]),
        ("server = %httpuv_serve mi", ["mine"]),
        ("httpuv_serve mi", ["mine"]),
        ("%httpuv_stop o", ["one"]),
        ("%httpuv_stop al", ["all"]),
        ("%httpuv_embed o", ["one"]),
        ("%httpuv_open o", ["one"]),
        ("%httpuv_log o", ["one"]),
        ("%httpuv_log DE", ["DEBUG"]),
        ("%httpuv_config pen", ["pending"]),
        ("%httpuv_config log_level = DE", ["DEBUG"]),
        ("x = 1\n%httpuv_serve --po", ["--port"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_completion(shell: InteractiveShell, line: str, offered: list[str]) -> None:
    rich = type("Frame", (), {"_repr_html_": lambda self: ""})
    shell.run_cell("def mine(request): ...")
    shell.user_ns.update(frame=rich(), number=3)
    serve(shell, "mine --port 0 --name one")
    assert completions(shell, line) == offered


def test_ports_complete_too(shell: InteractiveShell) -> None:
    shell.user_ns["mine"] = app
    port = serve(shell, "mine --port 0").port
    assert completions(shell, "%httpuv_stop ") == ["mine", str(port), "all"]
    assert during(get, port).status == 200
