"""What a notebook shows of a server, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from httpuv_kernel import start_server
from httpuv_kernel.browser_url import Candidate, Source
from httpuv_kernel.display import Displays, ServerView, server_html, server_text

CANDIDATES = (
    Candidate(Source.PLAIN, "http://127.0.0.1:8000/"),
    Candidate(Source.JUPYTER, "/user/me/proxy/8000/", "jupyter-server-proxy"),
)
RUNNING = ServerView("", "http://127.0.0.1:8000/", "/ → outputs", True, "the-id", CANDIDATES)
HIDDEN = RUNNING._replace(url="http://127.0.0.1:8000/…/")
STOPPED = RUNNING._replace(running=False)
BUNDLE = {"text/html": "<p>a server</p>", "text/plain": "a server"}


class Shown(HTMLParser):
    """What a reader without JavaScript sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.links.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["style"], ["script"]):
            self.text += f" {data.strip()}"


def facts(html: str) -> dict[str, Any]:
    """What its script is told."""
    found = re.search(r'data-facts="([^"]*)"', html)
    assert found is not None
    value = json.loads(unescape(found[1]))
    assert isinstance(value, dict)
    return value


# -- text and HTML ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (RUNNING, "http://127.0.0.1:8000/  / → outputs"),
        (RUNNING._replace(name="api"), "api  http://127.0.0.1:8000/  / → outputs"),
        (STOPPED, "stopped  / → outputs"),
    ],
    ids=["running", "named", "stopped"],
)
def test_text_is_one_line(view: ServerView, text: str) -> None:
    assert server_text(view) == text


def test_without_script_it_is_a_link_and_what_is_served() -> None:
    shown = Shown(server_html(RUNNING._replace(name="api")))
    assert shown.text.split() == ["api", "http://127.0.0.1:8000/", "/", "→", "outputs"]
    (link,) = shown.links
    assert link["href"] == "http://127.0.0.1:8000/"
    assert (link["target"], link["rel"]) == ("_blank", "noopener")
    assert "button" not in shown.tags  # it could do nothing


def test_a_link_without_its_token_leads_nowhere() -> None:
    shown = Shown(server_html(HIDDEN))
    assert "http://127.0.0.1:8000/…/" in shown.text
    assert "href" not in shown.links[0]


def test_stopped_it_has_no_link_and_no_script() -> None:
    shown = Shown(server_html(STOPPED, key="a-key"))
    assert "stopped" in shown.text
    assert not shown.links
    assert "script" not in shown.tags
    assert "a-key" not in server_html(STOPPED, key="a-key")


def test_the_script_knows_where_to_look() -> None:
    assert facts(server_html(RUNNING, "a-key", 300)) == {
        "identity": "the-id",
        "hidden": False,
        "key": "a-key",
        "candidates": [
            ["host and port", "http://127.0.0.1:8000/", ""],
            ["Jupyter server", "/user/me/proxy/8000/", "jupyter-server-proxy"],
        ],
        "embed": 300,
    }


def test_names_and_paths_are_text() -> None:
    evil = '"><script>alert(1)</script>'
    html = server_html(RUNNING._replace(name=evil, content=evil, identity=evil))
    assert Shown(html).tags.count("script") == 1
    assert "alert(1)</script>" not in html


def test_two_panels_share_no_id() -> None:
    assert "id=" not in re.sub(r"<script>.*</script>", "", server_html(RUNNING), flags=re.DOTALL)


# -- a server --------------------------------------------------------------------------------------


def test_a_servers_html_holds_neither_token_nor_control_secret(tmp_path: Path) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": tmp_path}}, token=True) as server:
        shown = json.dumps(server._repr_mimebundle_()) + repr(server)
    assert server.token not in shown
    assert server._control not in shown
    assert str(tmp_path) in shown


def test_each_time_a_server_is_shown_it_has_another_key() -> None:
    with start_server("127.0.0.1", 0, lambda request: None) as server:
        keys = [facts(server._repr_mimebundle_()["text/html"])["key"] for _ in range(2)]
    assert len(set(keys)) == 2


# -- places ----------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    config.HistoryManager.enabled = False  # its last entry is made when the directory is gone
    shell = InteractiveShell.instance(config=config)
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()


def published(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the shell's front end is sent from now on; the shell is a kernel's."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(shell, "kernel", object(), raising=False)
    monkeypatch.setattr(shell.display_pub, "publish", lambda **message: found.append(message))
    return found


def test_it_is_updated_wherever_it_is_shown(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = published(shell, monkeypatch)
    displays = Displays()
    displays.show(BUNDLE)
    displays.show(BUNDLE)
    displays.update(lambda: {"text/html": "stopped", "text/plain": "stopped"})
    ids = [message["transient"]["display_id"] for message in sent]
    assert [message["data"]["text/plain"] for message in sent] == ["a server"] * 2 + ["stopped"] * 2
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    assert [bool(message.get("update")) for message in sent] == [False, False, True, True]


def test_never_shown_it_is_not_updated(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = published(shell, monkeypatch)
    Displays().update(lambda: BUNDLE)
    assert sent == []


def test_a_front_end_that_is_gone_is_no_error(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(shell, monkeypatch)
    displays = Displays()
    displays.show(BUNDLE)

    def fail(**message: object) -> None:
        raise OSError("the socket is closed")

    monkeypatch.setattr(shell.display_pub, "publish", fail)
    displays.update(lambda: BUNDLE)


def test_a_terminal_shows_text_and_keeps_it(shell: InteractiveShell) -> None:
    displays = Displays()
    with capture_output(display=False) as shown:
        displays.show(BUNDLE)
        displays.update(lambda: {"text/html": "stopped", "text/plain": "stopped"})
    assert shown.stdout == "a server\n"


def test_a_plain_prompt_shows_text(capsys: pytest.CaptureFixture[str]) -> None:
    displays = Displays()
    displays.show(BUNDLE)
    displays.update(lambda: {"text/html": "stopped", "text/plain": "stopped"})
    assert capsys.readouterr().out == "a server\n"
