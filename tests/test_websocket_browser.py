"""Chromium's own WebSocket, from a page that the same server serves."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from browser import Browser, chromium
from helpers import wait_until
from kernels import Kernel

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

APP = """
seen = []

def on_ws_open(ws):
    @ws.on_message
    def echo(binary, message):
        if message == "close":
            ws.close(4321, "as you wish")
        elif message == "compressed?":
            ws.send(ws.request.headers.get("sec-websocket-extensions", ""))
        else:
            ws.send(message)
    ws.on_close(lambda: seen.append((ws.close_code, ws.close_reason)))

def page(request):
    return {"headers": {"Content-Type": "text/html"}, "body": "<!doctype html><title>page</title>"}

server = start_server("127.0.0.1", 0, {
    "call": page, "on_ws_open": on_ws_open, "subprotocols": ["v2.example", "v1.example"],
})
print(server.port)
"""

# Speaks with a socket: resolves to what it said, and how it ended.
TALK = """
const [protocols, messages, code, reason] = arguments;
const socket = new WebSocket(location.href.replace(/^http/, "ws"), protocols);
socket.binaryType = "arraybuffer";
window.talk = null;
const heard = [];
const bytes = (message) => (Array.isArray(message) ? new Uint8Array(message) : message);
socket.onopen = () => messages.forEach((message) => socket.send(bytes(message)));
socket.onmessage = ({ data }) => {
  heard.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
  if (heard.length === messages.length && code) socket.close(code, reason);
};
socket.onclose = (e) => {
  const { protocol, extensions } = socket;
  window.talk = { heard, protocol, extensions, code: e.code, reason: e.reason, clean: e.wasClean };
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def kernel(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """After the browser, so that both skip at once."""
    kernel = Kernel(sys.executable, tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.close()


@pytest.fixture
def page(browser: Browser, kernel: Kernel) -> Browser:
    port = kernel.run(APP).stdout.strip()
    browser.open(f"http://127.0.0.1:{port}/")
    return browser


def talk(
    page: Browser,
    messages: list[object],
    code: int = 1000,
    reason: str = "",
    protocols: object = (),
) -> dict[str, object]:
    page.run(TALK, list(protocols), messages, code, reason)  # type: ignore[call-overload]
    found: dict[str, object] = page.wait_for("window.talk")
    return found


@pytest.mark.parametrize(
    "messages",
    [
        ["a", "", "grüße, 世界 🌍"],
        [[], [0, 1, 255], list(range(256))],
        ["x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536],
        ["abc" * 400_000],
        ["text", [1, 2, 3], "text again"],
    ],
    ids=["text", "binary", "lengths", "1.2 MB", "mixed"],
)
def test_it_hears_what_it_says(page: Browser, messages: list[object]) -> None:
    assert talk(page, messages)["heard"] == messages


def test_messages_are_compressed(page: Browser) -> None:
    found = talk(page, ["compressed?"])
    assert "permessage-deflate" in str(found["heard"])
    assert "permessage-deflate" in str(found["extensions"])


def test_the_page_closes(page: Browser, kernel: Kernel) -> None:
    found = talk(page, ["a"], 3456, "enough")
    assert (found["code"], found["reason"], found["clean"]) == (3456, "enough", True)
    wait_until(lambda: kernel.value("seen[-1:] == [(3456, 'enough')]"))


def test_the_server_closes(page: Browser) -> None:
    found = talk(page, ["close"], 0)
    assert (found["code"], found["reason"], found["clean"]) == (4321, "as you wish", True)


def test_the_first_known_subprotocol_is_spoken(page: Browser) -> None:
    found = talk(page, ["a"], protocols=("v0.example", "v1.example", "v2.example"))
    assert found["protocol"] == "v1.example"


def test_a_foreign_page_opens_none(browser: Browser, kernel: Kernel) -> None:
    """Served from another port, so of another origin."""
    port = kernel.run(APP).stdout.strip()
    other = kernel.run("print(start_server('127.0.0.1', 0, {'call': page}).port)").stdout.strip()
    browser.open(f"http://127.0.0.1:{other}/")
    script = TALK.replace('location.href.replace(/^http/, "ws")', f'"ws://127.0.0.1:{port}/"')
    browser.run(script, [], ["a"], 1000, "")
    found = browser.wait_for("window.talk")
    assert (found["code"], found["heard"]) == (1006, [])
