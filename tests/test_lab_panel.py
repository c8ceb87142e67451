"""The panel of a server in JupyterLab and Notebook: what it shows of a life's turns."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser
from helpers import wait_until
from kernels import free_port, is_free
from lab import HUB, LOCAL, TOKEN, Lab, Page, lab_browser, lab_python, run_lab
from selenium.webdriver import Keys

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

START = """
from httpuv_kernel import *
def call(request):
    return {"headers": {"Content-Type": "text/html"}, "body": "<h1>a page</h1>"}
"""
# How much lighter one of an element's colour and the notebook's is (WCAG 2.2, 1.4.3).
CONTRAST = """(() => {
    const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
        const part = (c) => (c / 255 <= .04045 ? c / 3294.6 : ((c / 255 + .055) / 1.055) ** 2.4);
        return .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
    };
    const paper = getComputedStyle(document.querySelector(".jp-Notebook")).backgroundColor;
    const ink = getComputedStyle(document.querySelector("%s")).color;
    const [dark, bright] = [light(paper), light(ink)].sort((a, b) => a - b);
    return (bright + .05) / (dark + .05);
})()"""
LOAD = "%load_ext httpuv_kernel"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with lab_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with run_lab(lab_python("LAB45_PYTHON"), tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def shared_page(lab: Lab, browser: Browser) -> Page:
    return Page(lab, browser)


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    yield shared_page
    shared_page.close()


def panel_state(page: Page) -> str:
    return str(page.browser.run("return document.querySelector('.httpuv')?.dataset.state ?? ''"))


# -- running ---------------------------------------------------------------------------------------


def test_it_counts_the_requests(page: Page) -> None:
    assert "0 requests" in page.serve("count", START, "start_server('127.0.0.1', 0, call)")
    page.follow_link()
    page.back()
    # The page, and its icon.
    page.browser.wait_for("/[12] requests?$/.test(document.querySelector('.httpuv').innerText)")


def test_copy_takes_the_link(page: Page) -> None:
    page.serve("copy", START, "start_server('127.0.0.1', 0, call)")
    page.press("Copy")
    page.browser.wait_for("document.querySelector('.httpuv').innerText.includes('Copied')")


def test_a_frame_shows_what_it_serves(page: Page) -> None:
    page.serve("frame", START, "start_server('127.0.0.1', 0, call).show(embed=120)")
    page.browser.driver.switch_to.frame(
        page.browser.driver.find_element("css selector", ".httpuv iframe")
    )
    page.browser.wait_for("document.querySelector('h1')?.innerText === 'a page'")
    page.browser.driver.switch_to.default_content()
    page.press("Stop")
    page.wait_stopped()
    assert page.browser.count(".httpuv iframe") == 0


def test_the_same_cell_five_times_is_one_server_at_one_port(page: Page) -> None:
    (page.lab.directory / "pages").mkdir(exist_ok=True)
    page.open("again", LOAD, "%httpuv_serve pages", "print(len(list_servers()), 'runs')")
    page.run_cell(1)
    ports = []
    for number in range(2, 7):
        page.run_cell(number, stay=True)
        page.wait_panel()
        ports.append(page.port)
    assert len(set(ports)) == 1
    assert page.browser.count(".httpuv") == 1


def test_where_only_the_proxy_gets_through_it_is_the_link(page: Page) -> None:
    # As when a tunnel leads to the Jupyter server's port and to no other.
    driver, port = page.browser.driver, free_port()
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": [f"http://{LOCAL}:{port}/*"]})
    page.serve("tunnel", START, f"start_server('127.0.0.1', {port}, call)")
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    assert page.link == f"http://{LOCAL}:{page.lab.port}/proxy/{port}/"


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_it_is_readable_in_the_theme(page: Page, theme: str) -> None:
    page.serve("theme", START, "start_server('127.0.0.1', 0, call)")
    page.command("apputils:change-theme", theme=theme)
    light = str(theme.endswith("Light")).lower()
    page.browser.wait_for(f"document.body.dataset.jpThemeLight === '{light}'")
    for part in (".httpuv-link", ".httpuv-soft span", ".httpuv button"):
        page.browser.wait_for(CONTRAST % part + " >= 4.5")


# -- stopped ---------------------------------------------------------------------------------------


def test_stopped_from_code_it_says_so(page: Page) -> None:
    page.open("code", START, "server = start_server('127.0.0.1', 0, call)\nserver", "server.stop()")
    page.run_cells(2)
    page.wait_panel()
    page.run_cell(3)
    assert "stopped" in page.wait_stopped()
    assert page.browser.count(".httpuv a, .httpuv button") == 0


def test_stop_works_while_a_cell_runs(page: Page) -> None:
    page.open("busy", START, "start_server('127.0.0.1', 0, call)", "import time; time.sleep(60)")
    page.run_cells(2)
    page.wait_panel()
    port = page.port
    page.keys(Keys.SHIFT, Keys.ENTER)
    page.press("Stop")
    page.browser.wait_for("document.querySelector('.httpuv[data-state=off]')")
    wait_until(lambda: is_free(port))


def test_a_restarted_kernel_leaves_it_stopped(page: Page) -> None:
    page.serve("restart", START, "start_server('127.0.0.1', 0, call)")
    page.keys(Keys.ESCAPE)
    page.keys("0")
    page.keys("0")
    page.browser.wait_for("document.querySelector('.jp-Dialog .jp-mod-accept')")
    page.keys(Keys.ENTER)
    page.wait_stopped()


# -- the page again, and what is kept --------------------------------------------------------------


def test_after_a_reload_it_still_works_in_this_tab(page: Page) -> None:
    page.serve("reload", START, "start_server('127.0.0.1', 0, call, token=True)")
    link, port = page.link, page.port
    page.save()
    page.reopen()
    assert "request" in page.wait_panel()
    assert page.link == link
    page.press("Stop")
    page.wait_stopped()
    wait_until(lambda: is_free(port))


def test_without_a_kernel_it_is_a_link_and_says_that_nothing_answers(page: Page) -> None:
    page.serve("gone", START, "start_server('127.0.0.1', 0, call)")
    page.save()
    page.end_kernels()
    page.reopen()
    page.browser.wait_for("document.querySelector('.httpuv')?.innerText.includes('not reached')")
    assert panel_state(page) == ""
    assert page.browser.count(".httpuv button") == 0


def test_what_is_saved_holds_no_secret(page: Page, tmp_path: Path) -> None:
    page.serve("saved", START, "server = start_server('127.0.0.1', 0, call, token=True)\nserver")
    token = page.link.rsplit("/", 2)[1]
    assert len(token) >= 32
    facts = "JSON.parse(document.querySelector('.httpuv').dataset.facts)"
    kept = page.browser.run(f"return sessionStorage.getItem('httpuv:' + {facts}.identity)")
    control = json.loads(kept)["control"]
    saved = page.save()
    exported = export(page.path, tmp_path)
    for text in (saved, exported):
        assert "call()" in text
        assert "/…/" in text or "/\\u2026/" in text
        assert token not in text
        assert control not in text
        assert TOKEN not in text


def export(notebook: Path, folder: Path) -> str:
    """The notebook as a page, by nbconvert."""
    command = [lab_python("LAB45_PYTHON"), "-m", "nbconvert", "--to=html", f"--output-dir={folder}"]
    subprocess.run([*command, str(notebook)], check=True, capture_output=True)
    return (folder / f"{notebook.stem}.html").read_text()


# -- other front ends ------------------------------------------------------------------------------


def test_in_notebook_7_it_is_the_same(shared_page: Page) -> None:
    page = shared_page
    page.open_in_notebook("seven", START, "start_server('127.0.0.1', 0, call)")
    page.run_cells(2)
    page.wait_panel()
    port = page.port
    page.follow_link()
    assert page.browser.text("h1") == "a page"
    page.back()
    page.press("Stop")
    page.wait_stopped()
    wait_until(lambda: is_free(port))
    page.end_kernels()


def test_without_the_proxy_it_says_what_is_missing(
    browser: Browser, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    off = "--ServerApp.jpserver_extensions={'jupyter_server_proxy': False}"
    with run_lab(lab_python("LAB45_PYTHON"), tmp_path, "/", off) as lab:
        page = Page(lab, browser, HUB)
        page.open("missing", START, "start_server('127.0.0.1', 0, call)")
        page.run_cells(2)
        said = "document.querySelector('.httpuv')?.innerText"
        page.browser.wait_for(f"{said}.includes('pip install jupyter-server-proxy')")
        page.end_kernels()
