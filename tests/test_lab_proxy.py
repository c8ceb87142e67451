"""Servers of a notebook in JupyterLab, directly and through jupyter-server-proxy.

Directly is at 127.0.0.1, where the page reaches the server itself. At another name there is only
the proxy, which passes the browser's Host and Origin on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import Browser
from helpers import wait_until
from kernels import is_free
from lab import HUB, LOCAL, Lab, Page, lab_browser, lab_python, run_lab

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

PLACES = {
    "direct": ("LAB45_PYTHON", LOCAL),
    "proxy 4.4": ("LAB44_PYTHON", HUB),
    "proxy 4.5 below a prefix": ("LAB45_PYTHON", HUB),
}
PREFIXES = {"LAB44_PYTHON": "/", "LAB45_PYTHON": "/user/me/"}

ECHO = """
    <h1>a page</h1><script>
    const socket = new WebSocket(new URL("socket", location.href).href.replace(/^http/, "ws"));
    socket.onopen = () => socket.send("through");
    socket.onmessage = (event) => { document.querySelector("h1").textContent = event.data; };
    socket.onclose = (event) => { document.querySelector("h1").textContent = "closed"; };
    </script>"""
APP = f"""
from httpuv_kernel import start_server
def call(request):
    return {{"headers": {{"Content-Type": "text/html"}}, "body": {ECHO!r}}}
def on_ws_open(ws):
    ws.on_message(lambda binary, message: ws.send(message + " and back"))
app = {{"call": call, "on_ws_open": on_ws_open}}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with lab_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def start_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Lab]]:
    with ExitStack() as labs:

        @functools.cache
        def start(variable: str) -> Lab:
            folder = tmp_path_factory.mktemp("lab")
            lab = labs.enter_context(run_lab(lab_python(variable), folder, PREFIXES[variable]))
            make_site(lab.directory / "outputs")
            return lab

        yield start


@pytest.fixture(scope="module", params=PLACES)
def shared_page(
    request: pytest.FixtureRequest, start_lab: Callable[[str], Lab], browser: Browser
) -> Page:
    variable, host = PLACES[request.param]
    return Page(start_lab(variable), browser, host)


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    yield shared_page
    shared_page.close()


def make_site(folder: Path) -> None:
    """Pages that link to each other by relative URLs, in folders with and without an index."""
    (folder / "data" / "2024").mkdir(parents=True)
    (folder / "data" / "2024" / "note one.txt").write_text("a note")
    (folder / "report" / "part").mkdir(parents=True)
    (folder / "report" / "index.html").write_text("<h1>a report</h1><script src=a.js></script>")
    (folder / "report" / "a.js").write_text("document.title = 'its script ran'")
    (folder / "report" / "part" / "index.html").write_text("<a href=../>up</a>")


# -- the panel and its link -----------------------------------------------------------------------


def test_the_link_opens_what_is_served(page: Page) -> None:
    text = page.serve("serve", "%load_ext httpuv_kernel", "%httpuv_serve outputs")
    assert "outputs" in text
    link, prefix = page.link, page.lab.base_url
    if page.host == LOCAL:
        assert link == f"http://{LOCAL}:{page.port}/"
    else:
        assert link == f"http://{HUB}:{page.lab.port}{prefix}proxy/{page.port}/"
    assert page.follow_link() == link
    assert page.browser.run("return document.title") == "outputs"


def test_stop_closes_the_port_and_the_panel_says_so(page: Page) -> None:
    page.serve("stop", "%load_ext httpuv_kernel", "%httpuv_serve outputs")
    port = page.port
    assert not is_free(port)
    page.press("Stop")
    page.wait_stopped()
    wait_until(lambda: is_free(port))
    assert page.browser.count(".httpuv button") == 0


def test_a_page_opens_a_websocket_relative_to_itself(page: Page) -> None:
    page.serve("socket", APP, "start_server('127.0.0.1', 0, app)")
    page.follow_link()
    page.browser.wait_for("document.querySelector('h1')?.innerText === 'through and back'")


def test_a_server_with_a_token_is_reached_by_its_link(page: Page) -> None:
    page.serve("token", APP, "start_server('127.0.0.1', 0, app, token=True)")
    url = page.follow_link()
    assert len(url.rsplit("/", 2)[1]) >= 32
    page.browser.wait_for("document.querySelector('h1')?.innerText === 'through and back'")
    page.browser.open(url.rsplit("/", 2)[0] + "/")
    assert "403" in page.browser.text("body")


# -- pages of the network side ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(shared_page: Page) -> Iterator[str]:
    """The link to a directory that a notebook serves, open in a tab of its own."""
    shared_page.serve("site", "%load_ext httpuv_kernel", "%httpuv_serve outputs")
    yield shared_page.follow_link()
    shared_page.close()


def test_listings_lead_down_and_up_again(site: str, browser: Browser) -> None:
    for folder in ("data/", "data/2024/"):
        click(browser, "td a", folder.split("/")[-2])
        browser.wait_for(f"location.href === {site + folder!r} && document.querySelector('td a')")
    click(browser, "nav a", "outputs")
    browser.wait_for(f"location.href === {site!r} && document.querySelector('td a')")


@pytest.mark.parametrize("folder", ["data", "data/2024", "report", "report/part"])
def test_a_directory_without_slash_leads_to_itself(
    site: str, browser: Browser, folder: str
) -> None:
    browser.open(site + folder)
    browser.wait_for(f"location.href === {site + folder + '/'!r}")


def test_a_page_loads_its_script_by_a_relative_url(site: str, browser: Browser) -> None:
    browser.open(site + "report/")
    browser.wait_for("document.title === 'its script ran'")


def test_names_with_spaces_are_reached(site: str, browser: Browser) -> None:
    browser.open(site + "data/2024/")
    click(browser, "td a", "note one.txt")
    browser.wait_for("document.body?.innerText === 'a note'")


def test_a_missing_file_is_a_page_that_says_so(site: str, browser: Browser) -> None:
    browser.open(site + "missing.html")
    assert browser.text("h1") == "404"


def click(browser: Browser, selector: str, text: str) -> None:
    """Click the link with this text."""
    script = (
        "[...document.querySelectorAll(arguments[0])]"
        ".find(each => each.innerText.trim() === arguments[1]).click()"
    )
    browser.run(script, selector, text)
