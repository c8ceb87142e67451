"""A server is replaced by what is served next under its name; `%%httpuv_app`."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Client, during
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from kernels import free_port, get, is_free
from shells import app, bare_shell, serve, serve_cell, shell, site

from httpuv_kernel import list_servers, start_server

__all__ = ["bare_shell", "shell", "site"]

CALL = "def call(request):\n    return {'body': %s}\n"


# -- %httpuv_serve again ---------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["mine", "mine --port 0", "mine --port {port}"])
def test_serve_again_replaces_the_app_in_place(shell: InteractiveShell, again: str) -> None:
    shell.user_ns["mine"] = app
    first = serve(shell, "mine --port 0")
    shell.user_ns["mine"] = lambda request: {"body": "another"}
    with Client(first.port) as client:
        assert during(client.ask).text == "an app"
        assert serve(shell, again.format(port=first.port)) is first
        assert during(client.ask).text == "another"
    assert list_servers() == [first]


def test_a_name_may_change_its_thing(shell: InteractiveShell, site: Path) -> None:
    shell.user_ns["mine"] = app
    first = serve(shell, "mine --port 0 --name one")
    assert serve(shell, f"'{site}' --name one") is first
    assert get(first.port).text == "the page"


def test_a_server_of_that_name_may_come_from_code(shell: InteractiveShell) -> None:
    first = start_server("127.0.0.1", 0, lambda request: {}, name="mine")
    shell.user_ns["mine"] = app
    assert serve(shell, "mine") is first
    assert during(get, first.port).text == "an app"


def test_two_names_are_two_servers(shell: InteractiveShell) -> None:
    shell.user_ns["mine"] = app
    servers = [serve(shell, f"mine --port 0 --name {name}") for name in ("one", "two")]
    assert list_servers() == servers


def test_at_another_port(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0")
    port = free_port()
    second = serve(shell, f"'{site}' --port {port}")
    assert second.port == port
    assert second.name == first.name
    assert is_free(first.port)
    assert list_servers() == [second]


def test_after_stop(shell: InteractiveShell, site: Path) -> None:
    serve(shell, f"'{site}' --port 0").stop()
    assert get(serve(shell, f"'{site}' --port 0").port).text == "the page"


def test_another_host_or_token_at_the_same_port(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0")
    second = serve(shell, f"'{site}' --token")
    assert (second.port, first.is_running) == (first.port, False)
    assert get(second.port).status == 403
    assert get(second.port, f"/{second.token}/").text == "the page"
    third = serve(shell, f"'{site}' --token --host 0.0.0.0")
    assert (third.port, third.token) == (second.port, second.token)
    assert serve(shell, f"'{site}' --token --host 0.0.0.0") is third
    last = serve(shell, f"'{site}'")
    assert (last.port, last.host, last.token) == (first.port, "127.0.0.1", "")
    assert list_servers() == [last]


def test_when_the_new_host_fails_the_old_one_is_served(shell: InteractiveShell, site: Path) -> None:
    first = serve(shell, f"'{site}' --port 0 --token")
    with pytest.raises(UsageError, match="not an address of this machine"):
        shell.run_line_magic("httpuv_serve", f"'{site}' --token --host 192.0.2.1")
    assert get(first.port, f"/{first.token}/").text == "the page"


def test_another_server_of_ours_makes_way(
    shell: InteractiveShell, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.user_ns["mine"] = app
    first = serve(shell, "mine --port 0")
    second = serve(shell, f"'{site}' --port {first.port}")
    assert second.port == first.port
    assert list_servers() == [second]
    assert f"Stopped mine, which was at port {first.port}" in capsys.readouterr().out


# -- %%httpuv_app ----------------------------------------------------------------------------------


def test_an_app_cell_sees_the_notebooks_variables(shell: InteractiveShell) -> None:
    shell.user_ns["x"] = 1
    server = serve_cell(shell, "--port 0", "y = 10\n" + CALL % "str(x + y)")
    assert during(get, server.port).text == "11"
    shell.user_ns.update(x=2, y=20)
    assert during(get, server.port).text == "22"
    assert server.name == "app"


def test_an_app_cell_run_again_keeps_port_and_connections(shell: InteractiveShell) -> None:
    server = serve_cell(shell, "--port 0", CALL % "'first'")
    with Client(server.port) as client:
        assert during(client.ask).text == "first"
        for text in ("second", "third"):
            assert serve_cell(shell, "", CALL % repr(text)) is server
            assert during(client.ask).text == text
    assert list_servers() == [server]


def test_all_parts_of_an_app(shell: InteractiveShell, site: Path) -> None:
    cell = f"""
static_paths = {{"/files": {str(site)!r}}}
static_path_options = {{"headers": {{"X-One": "1"}}}}
subprotocols = ["chat"]
async def on_headers(request): ...
def on_ws_open(ws): ...
call = lambda request: {{"body": "called"}}
"""
    server = serve_cell(shell, "site --port 0", cell)
    assert get(server.port, "/files/").headers["x-one"] == "1"
    assert during(get, server.port).text == "called"
    assert server.app.subprotocols == ("chat",)
    assert server.app.on_headers is shell.user_ns["on_headers"]
    assert server.app.on_ws_open is not None


def test_only_what_the_cell_defines_is_its_app(shell: InteractiveShell, site: Path) -> None:
    shell.user_ns.update(call=app, on_headers=app)
    server = serve_cell(shell, "--port 0", f"static_paths = {{'/': {str(site)!r}}}\n")
    assert server.app.call is None
    assert server.app.on_headers is None
    assert shell.user_ns["call"] is app


def test_handlers_may_call_each_other_and_be_tried_by_hand(shell: InteractiveShell) -> None:
    cell = "def on_headers(request):\n    return call(request)\n" + CALL % "'early'"
    server = serve_cell(shell, "--port 0", cell)
    assert during(get, server.port).text == "early"
    assert shell.ev("call(None)") == {"body": "early"}


def test_magics_and_deletions_in_an_app_cell(shell: InteractiveShell) -> None:
    cell = "%env X_HTTPUV=1\ndef on_headers(request): ...\ndel on_headers\n" + CALL % "'a'"
    assert serve_cell(shell, "--port 0", cell).app.on_headers is None


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        (CALL % "'new'" + "1 / 0", ZeroDivisionError),
        ("def call(:", SyntaxError),
        ("await something", SyntaxError),
        ("y = 5", UsageError),
        ("call = 5", UsageError),
        ("def onHeaders(request): ...", UsageError),
        ("static_paths = {'/': '/no/such/directory'}", UsageError),
    ],
)
def test_the_old_app_goes_on_when_the_cell_fails(
    shell: InteractiveShell, cell: str, error: type[Exception]
) -> None:
    server = serve_cell(shell, "--port 0", CALL % "'old'")
    with pytest.raises(error):
        shell.run_cell_magic("httpuv_app", "", cell)
    assert during(get, server.port).text == "old"


def test_an_error_of_the_cell_keeps_its_kind_and_line(shell: InteractiveShell) -> None:
    cell = "from httpuv_kernel import start_server\nstart_server('nowhere.invalid', 0, {})\n"
    with pytest.raises(Exception, match="nowhere") as caught:
        shell.run_cell_magic("httpuv_app", "", cell)
    assert not isinstance(caught.value, UsageError)
    lines = [entry.lineno + 1 for entry in caught.traceback if "ipython" in str(entry.path).lower()]
    assert 3 in lines  # with the line of the magic
