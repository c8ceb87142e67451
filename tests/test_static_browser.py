"""Served directories in Chromium: a report, a recording that seeks, ranges, the listing."""

from __future__ import annotations

import base64
import json
import logging
import os
import struct
import wave
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser import Browser, chromium
from helpers import wait_until
from selenium.webdriver import ActionChains, Keys

from httpuv_kernel import WebServer, start_server, static_path

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Serve = Callable[..., str]

# A WOFF font of one glyph: "A" is a bar of three em.
FONT = base64.b64decode(
    """
    d09GRgABAAAAAAIcAAoAAAAAAkAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAABPUy8yAAABYAAAACkAAABgRSBJe2NtYXAA
    AAGUAAAAKQAAADQADACUZ2x5ZgAAAcgAAAAYAAAAGCaLRchoZWFkAAAA9AAAADYAAAA2OSMqrmhoZWEAAAEsAAAAHAAA
    ACQO2grzaG10eAAAAYwAAAAIAAAACA2sAABsb2NhAAABwAAAAAYAAAAGAAwAAG1heHAAAAFIAAAAFgAAACAABAAGbmFt
    ZQAAAeAAAAAtAAAAPACcX8hwb3N0AAACEAAAAAwAAAAgAAMAAAABAAAAAQAAIXhSo18PPPUAAwPoAAAAAOcqc4kAAAAA
    5ypziQAAAAALuAK8AAAAAwACAAAAAAAAeJxjYGRgYFb4b8HAwL2DgQFMMjKgAiYASm4C5XicY2BkYGBgYmBhANEgFhoA
    AAESAAsAAHicY2Bmu8Y4gYGVgYWBMGBE5tgDAZByZHBkVgDxgeQJNPVAcQDRPwQnAAAAAfQAAAu4AAB4nGNgYGBiYGBg
    BmIRIMkIplkYFIA0CxCC+I7//0PI/wfAfAYAUpcGnQAAAAAAAAAADAAAAAEAAAAAC7gCvAADAAAxESERC7gCvP1EeJxj
    YGBgYTBjYGQAAUYwDWEzgXnMDIwsnECaCQghbBCLJTyIIZwhCAAWSgHEAAAAeJxjYGbACwAAfQAE
    """
)
PAGE = """<!doctype html>
<title>Report</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style/main.css">
<script src="js/classic.js"></script>
<script type="module" src="js/app.mjs"></script>
<h1>Report</h1>
<p><span>A</span></p>
<img src="img/dot%20one.png" alt=""><img src="./img/dot.svg" alt="">
<a href="pages/next/">next</a>
"""
STYLE = """@import "more.css";
@font-face { font-family: Wide; src: url(../fonts/wide.woff) }
span { font: 10px Wide }
"""
MODULE = """import { half } from "./lib/half.mjs";
const data = await (await fetch("data/numbers.json")).json();
const wasm = await WebAssembly.instantiateStreaming(fetch("js/empty.wasm"));
await document.fonts.load("10px Wide", "A");
window.result = { sum: half(data.reduce((a, b) => a + b)), wasm: !!wasm.instance, classic };
"""
DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="7" height="5"><path d="M0 0h7v5H0"/></svg>'
NEXT = '<!doctype html><title>Next</title><link rel=icon href=data:,><a href="../../">back</a>'


def picture() -> bytes:
    """A PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(b"\0\xff"))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def shared_browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """Nothing is left of the test before."""
    shared_browser.reset()
    return shared_browser


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(root: Path, prefix: str = "/", **options: object) -> str:
            app = {"static_paths": {prefix: static_path(root, **options)}}
            server: WebServer = start_server("127.0.0.1", 0, app, access_log=True)
            stack.enter_context(server)
            return server.url + prefix.lstrip("/")

        yield start


@pytest.fixture
def report(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "report"
    files: dict[str, str | bytes] = {
        "index.html": PAGE,
        "style/main.css": STYLE,
        "style/more.css": "h1 { color: rgb(1, 2, 3) }",
        "js/classic.js": "const classic = 'classic';",
        "js/app.mjs": MODULE,
        "js/lib/half.mjs": "export const half = (number) => number / 2;",
        "js/empty.wasm": b"\0asm\1\0\0\0",
        "fonts/wide.woff": FONT,
        "img/dot one.png": picture(),
        "img/dot.svg": DOT,
        "data/numbers.json": "[1, 2, 3]",
        "pages/next/index.html": NEXT,
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


# -- a report ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/", "/user/ada/proxy/8888", "/a b/é"])
def test_a_report_works_wherever_it_is(
    browser: Browser, serve: Serve, report: Path, prefix: str
) -> None:
    """Also when its address lacks the slash at the end."""
    browser.open(serve(report, prefix))
    result = browser.wait_for("window.result")
    assert result == {"sum": 3, "wasm": True, "classic": "classic"}
    assert browser.style("h1", "color") == "rgb(1, 2, 3)"
    assert browser.run("return [...document.images].map(i => i.naturalWidth)") == [1, 7]
    assert browser.run("return document.querySelector('span').offsetWidth") == 30  # three em
    browser.click("a")
    browser.wait_for("document.title === 'Next'")
    browser.click("a")
    browser.wait_for("document.title === 'Report' && window.result")
    assert browser.errors() == []


def test_a_regenerated_file_is_never_stale(browser: Browser, serve: Serve, report: Path) -> None:
    """Of the same size, within a second, through the browser's own cache."""
    browser.open(serve(report))
    fetch = "return fetch('data/numbers.json').then(r => r.text())"
    for i in range(30):
        (report / "data/numbers.json").write_text(f"[{i:03}]")
        assert browser.run(fetch) == f"[{i:03}]"
        assert browser.run(fetch) == f"[{i:03}]"


def test_a_single_page_app_opens_at_its_routes(
    browser: Browser, serve: Serve, report: Path
) -> None:
    url = serve(report, spa=True)
    for _ in range(2):
        browser.open(url + "route")
        browser.wait_for("window.result")
        status = "return fetch('/route').then(r => r.status)"
        assert browser.run(status) == 404


def test_isolation_and_sandbox(browser: Browser, serve: Serve, report: Path) -> None:
    browser.open(serve(report))
    assert browser.run("return [crossOriginIsolated, origin === 'null']") == [False, False]
    browser.open(serve(report, cross_origin_isolated=True))
    browser.wait_for("window.result")
    assert browser.run("return [crossOriginIsolated, origin === 'null']") == [True, False]
    browser.open(serve(report, sandbox=True))
    assert browser.run("return [crossOriginIsolated, origin === 'null']") == [False, True]


# -- seeking and ranges ----------------------------------------------------------------------------


def test_a_recording_seeks(
    browser: Browser, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """80 s of 14 MB; who jumps to the end does not wait for what is before."""
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(bytes(44100 * 4) * 80)
    (tmp_path / "index.html").write_text(
        "<video src=tone.wav preload=metadata controls muted></video>"
    )
    with caplog.at_level(logging.INFO, "httpuv_kernel.access"):
        browser.open(serve(tmp_path))
        browser.wait_for("document.querySelector('video').readyState >= 1")
        assert round(browser.run("return document.querySelector('video').duration")) == 80
        before = len(caplog.messages)

        def seek(time: int) -> None:
            browser.run(
                "const video = document.querySelector('video');"
                "video.onseeked = () => window.at = video.currentTime;"
                "window.at = 0; video.currentTime = arguments[0]",
                time,
            )
            assert browser.wait_for("window.at") == time

        for time in (70, 10, 40):
            seek(time)
        browser.run("document.querySelector('video').play()")
        browser.wait_for("document.querySelector('video').currentTime > 40.1")
        browser.run("document.querySelector('video').pause()")
        seek(79)  # the browser cuts what it does not need yet; of this it needs all
        wait_until(lambda: any("/tone.wav 206 " in m for m in caplog.messages[before:]))
    assert not any("/tone.wav 200 " in message for message in caplog.messages)
    assert browser.run("return document.querySelector('video').error") is None


FETCH = """
const [url, headers] = arguments;
return fetch(url, { headers })
  .then(async reply => [reply.status, reply.headers.get("content-range"), await reply.text()])
  .catch(error => String(error));
"""


@pytest.mark.parametrize("header", ["bytes=10-19", "bytes=-10,0-1", "bytes=0-1,98-99"])
def test_ranges_of_another_origin(
    browser: Browser, serve: Serve, report: Path, tmp_path: Path, header: str
) -> None:
    """A single range goes without a preflight in newer browsers, several never do."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.bin").write_bytes(bytes(range(33, 123)) + b"0123456789")
    page = serve(report)
    opened, closed = serve(data, cors=True), serve(data)
    browser.open(page)
    reply = browser.run(FETCH, opened + "a.bin", {"Range": header})
    assert reply[0] == 206
    if header == "bytes=10-19":
        assert reply[1:] == ["bytes 10-19/100", "+,-./01234"]
    else:
        assert reply[2].count("Content-Range: bytes ") == 2
    assert browser.run(FETCH, opened + "missing", {"Range": header})[0] == 404
    assert "TypeError" in browser.run(FETCH, closed + "a.bin", {"Range": header})
    assert "TypeError" in browser.run(FETCH, closed + "a.bin", {})
    revalidated = {"Range": header, "If-None-Match": '"x"', "X-Own": "y"}
    assert browser.run(FETCH, opened + "a.bin", revalidated)[0] == 206


# -- the listing -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "outputs"
    sizes = {"run2.txt": 500, "run10.txt": 70_000, "alpha.csv": 9_000_000, "Beta.log": 3}
    (root / "zoo/inner").mkdir(parents=True)
    (root / "ark").mkdir()
    for i, (name, size) in enumerate(sizes.items()):
        (root / name).touch()
        os.truncate(root / name, size)
        os.utime(root / name, (1_700_000_000 + i * 86400, 1_700_000_000 + i * 86400))
    return root


NAMES = """
return [...document.querySelectorAll("tbody tr")].filter(row => !row.hidden)
  .map(row => row.cells[0].innerText.trim())
"""
FOCUSED = "return document.activeElement.innerText.trim()"


def test_the_listing_sorts(browser: Browser, serve: Serve, folder: Path) -> None:
    browser.open(serve(folder, listing=True))
    assert browser.run(NAMES)[:2] == ["ark", "zoo"]
    by_name = ["alpha.csv", "Beta.log", "run2.txt", "run10.txt"]  # numbers by their value
    by_size = ["Beta.log", "run2.txt", "run10.txt", "alpha.csv"]
    by_time = ["run2.txt", "run10.txt", "alpha.csv", "Beta.log"]
    for column, order in (("size", by_size), ("time", by_time), ("name", by_name)):
        for wanted, sort in ((order, "ascending"), (order[::-1], "descending")):
            browser.click(f"th.{column} button")
            assert browser.run(NAMES)[2:] == wanted
            assert browser.count("th[aria-sort]") == 1
            assert browser.count(f"th.{column}[aria-sort={sort}]") == 1
    assert set(browser.run(NAMES)[:2]) == {"ark", "zoo"}  # always first
    assert browser.errors() == []


def test_the_listing_filters(browser: Browser, serve: Serve, folder: Path) -> None:
    browser.open(serve(folder, listing=True))
    keys = ActionChains(browser.driver)
    keys.send_keys("/").send_keys("RUN").perform()
    assert set(browser.run(NAMES)) == {"run2.txt", "run10.txt"}
    keys = ActionChains(browser.driver)
    keys.send_keys("nothing like this").perform()
    assert browser.run(NAMES) == []
    ActionChains(browser.driver).send_keys(Keys.ESCAPE).perform()
    assert len(browser.run(NAMES)) == 6


def test_the_listing_is_walked_by_keyboard(browser: Browser, serve: Serve, folder: Path) -> None:
    url = serve(folder, "/some/where/", listing=True)
    browser.open(url)

    def press(*keys: str) -> None:
        ActionChains(browser.driver).send_keys(*keys).perform()

    press(Keys.ARROW_DOWN)
    assert browser.run(FOCUSED) == "ark"
    press(Keys.ARROW_DOWN)
    assert browser.run(FOCUSED) == "zoo"
    press(Keys.ENTER)
    browser.wait_for("document.title === 'zoo'")
    assert browser.driver.current_url == url + "zoo/"
    assert browser.run(NAMES) == ["inner"]
    press(Keys.ARROW_DOWN, Keys.ENTER)
    browser.wait_for("document.title === 'inner'")
    press(Keys.BACKSPACE)
    browser.wait_for("document.title === 'zoo'")
    browser.click("nav a")
    browser.wait_for("document.title === 'outputs'")
    assert browser.driver.current_url == url
    press("/", "run2", Keys.ARROW_DOWN, Keys.ENTER)
    browser.wait_for("location.pathname.endsWith('run2.txt')")


def test_nothing_of_a_name_runs(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    """The names are shown, and lead to their files."""
    names = [
        "<img src=x onerror=window.hacked=1>.html",
        "<svg onload=window.hacked=1>",
        "javascript:window.hacked=1",
        '" onmouseover=window.hacked=1 x="',
        "' autofocus onfocus=window.hacked=1 x='",
        "{{ hacked }}",
    ]
    for name in names:
        (tmp_path / name).write_text("plain")
    url = serve(tmp_path, listing=True)
    browser.open(url)
    assert sorted(browser.run(NAMES)) == sorted(names)
    browser.run("for (const row of document.querySelectorAll('tr')) row.dispatchEvent("
                "new MouseEvent('mouseover', { bubbles: true }))")  # fmt: skip
    assert browser.run("return window.hacked") is None
    links = browser.run("return [...document.querySelectorAll('tbody a')].map(a => a.href)")
    assert all(link.startswith(url) for link in links)
    texts = browser.run(
        "return Promise.all(arguments[0].map(link => fetch(link).then(r => r.text())))", links
    )
    assert texts == ["plain"] * len(names)
    for link in links:
        browser.open(link)
        assert browser.run("return window.hacked") is None


@pytest.mark.parametrize("width", [320, 1280])
def test_the_listing_fits_and_follows_the_readers_colours(
    browser: Browser, serve: Serve, folder: Path, width: int
) -> None:
    (folder / ("long" * 40 + ".txt")).touch()
    browser.set_width(width)
    url = serve(folder, listing=True)
    colours = []
    for scheme in ("light", "dark"):
        browser.set_media(prefers_color_scheme=scheme)
        for target in ("", "missing"):
            browser.open(url + target)
            assert browser.run("return document.documentElement.scrollWidth") <= width
            colours.append(browser.style("body", "backgroundColor"))
    assert colours == ["rgb(255, 255, 255)"] * 2 + ["rgb(22, 25, 29)"] * 2


def test_the_listing_is_numbers_and_text(browser: Browser, serve: Serve, folder: Path) -> None:
    browser.open(serve(folder, listing=True))
    assert browser.text("footer") == "2 folders, 4 files, 9.1 MB"
    assert json.loads(browser.run("return JSON.stringify(document.title)")) == "outputs"
