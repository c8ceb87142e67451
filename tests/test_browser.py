"""What a person sees: the example notebook's pages, served by a real kernel, in Chromium."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium
from kernels import Kernel

from httpuv_kernel import start_server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_serve_outputs.ipynb"
SITE = ROOT / "static_assets" / "example_site"

# How much of a canvas has been painted on.
PAINTED = """(() => {
  const { width, height } = document.querySelector("canvas");
  const { data } = document.querySelector("canvas").getContext("2d")
    .getImageData(0, 0, width, height);
  return data.filter((value, at) => at % 4 === 3 && value > 0).length;
})()
"""


@pytest.fixture(scope="module")
def shared_browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """Nothing is left of the test before."""
    shared_browser.reset()
    return shared_browser


@pytest.fixture(scope="module")
def kernel(shared_browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel that has executed the notebook; after the browser, so that both skip at once."""
    directory = tmp_path_factory.mktemp("kernel")
    kernel = Kernel(sys.executable, directory)
    try:
        kernel.run(f"import tempfile; tempfile.tempdir = {str(directory)!r}")
        for cell in json.loads(NOTEBOOK.read_text())["cells"]:
            if cell["cell_type"] == "code":
                kernel.run("".join(cell["source"]), timeout=60)
        yield kernel
    finally:
        kernel.close()


def url(kernel: Kernel, server: str) -> str:
    """The address of a server that the notebook has in a variable."""
    return f"http://127.0.0.1:{kernel.value(f'{server}.port')}/"


# -- the report --------------------------------------------------------------------------------


@pytest.mark.kernel
def test_the_report_draws_its_data(browser: Browser, kernel: Kernel) -> None:
    browser.open(url(kernel, "report"))
    browser.wait_for("document.querySelector('#spread .median')")
    assert browser.count("#figures div") == 3
    assert browser.text("#figures dd") == str(kernel.value("round(exponent, 3)"))
    points = browser.run("return document.querySelector('#spread .median').points.length")
    assert points == kernel.value("len(times)")
    assert browser.wait_for(PAINTED) > 5_000
    assert browser.run("return document.querySelector('img').naturalWidth") > 0
    assert browser.errors() == []


@pytest.mark.kernel
def test_the_report_has_its_style(browser: Browser, kernel: Kernel) -> None:
    browser.set_media(prefers_color_scheme="light")
    browser.open(url(kernel, "report"))
    browser.wait_for("document.querySelector('#spread .median')")
    assert browser.style("body", "backgroundColor") == "rgb(247, 247, 249)"
    assert browser.style("#figures", "display") == "grid"
    assert browser.style("#spread .median", "stroke") == "rgb(47, 111, 179)"
    browser.set_media(prefers_color_scheme="dark")
    browser.wait_for("getComputedStyle(document.body).backgroundColor === 'rgb(21, 22, 27)'")


@pytest.mark.kernel
def test_the_slider_goes_back_in_time(browser: Browser, kernel: Kernel) -> None:
    browser.open(url(kernel, "report"))
    whole = browser.wait_for(PAINTED)
    browser.run(
        "const slider = document.getElementById('time'); slider.value = 1;"
        "slider.dispatchEvent(new Event('input'))"
    )
    assert browser.text("#clock") == "1.00"
    assert 0 < browser.run(f"return {PAINTED}") < whole / 4


@pytest.mark.kernel
def test_relative_links_lead_through_the_report(browser: Browser, kernel: Kernel) -> None:
    report = url(kernel, "report")
    browser.open(report)
    browser.click("a[href='tables/']")
    browser.wait_for("document.title.startsWith('Distances')")
    assert browser.driver.current_url == report + "tables/"
    assert browser.count("tbody tr") == 16
    assert browser.style(".card", "borderTopLeftRadius") != "0px"
    browser.click(".kicker a")
    browser.wait_for("document.querySelector('#spread .median')")
    assert browser.driver.current_url == report
    assert browser.errors() == []


@pytest.mark.kernel
def test_the_report_loads_while_a_cell_runs(
    browser: Browser, kernel: Kernel, tmp_path: Path
) -> None:
    report, end = url(kernel, "report"), tmp_path / "end"
    cell = kernel.begin(
        f"import os, time\nwhile not os.path.exists({str(end)!r}):\n    time.sleep(0.01)"
    )
    try:
        browser.open(report)
        browser.wait_for("document.querySelector('#spread .median')")
    finally:
        end.touch()
        cell.wait()
    assert browser.errors() == []


# -- the live page -----------------------------------------------------------------------------


@pytest.mark.kernel
def test_the_live_page_follows_a_variable(browser: Browser, kernel: Kernel) -> None:
    browser.open(url(kernel, "live"))
    before = kernel.value("len(study)")
    browser.wait_for(f"document.querySelector('#count').textContent === '{before}'")
    assert browser.count("circle") == before
    kernel.run("study.append((12.0, -0.5))")
    browser.wait_for(f"document.querySelectorAll('circle').length === {before + 1}")
    assert browser.errors() == []


@pytest.mark.kernel
def test_the_live_page_has_the_kernel_compute(browser: Browser, kernel: Kernel) -> None:
    browser.open(url(kernel, "live"))
    before = kernel.value("len(study)")
    browser.run("document.querySelector('input').value = 33")
    browser.click("button")
    browser.wait_for(f"document.querySelectorAll('circle').length === {before + 1}")
    rho, exponent = kernel.value("study[-1]")
    assert rho == 33
    assert exponent > 0
    assert browser.errors() == []


@pytest.mark.kernel
def test_the_live_page_refuses_nonsense(browser: Browser, kernel: Kernel) -> None:
    browser.open(url(kernel, "live"))
    before = kernel.value("len(study)")
    browser.run("const form = document.querySelector('form'); form.noValidate = true")
    browser.run("document.querySelector('input').value = 1000")
    browser.click("button")
    browser.wait_for("document.querySelector('output').value.includes('from 1 to 60')")
    assert kernel.value("len(study)") == before


# -- the example site ----------------------------------------------------------------------------


@pytest.fixture(params=["/", "/user/ada/proxy/8888/"])
def tour(request: pytest.FixtureRequest) -> str:
    """The address of the example site: at a root, and under a prefix as a proxy's."""
    server = start_server("127.0.0.1", 0, {"static_paths": {request.param: SITE}})
    return f"http://127.0.0.1:{server.port}{request.param}"


def test_the_tour_draws_each_situation(browser: Browser, tour: str) -> None:
    browser.open(tour)
    browser.wait_for("document.querySelector('#chart svg')")
    data = json.loads((SITE / "data.json").read_text())
    assert browser.count("#choices button") == len(data["situations"])
    for number, situation in enumerate(data["situations"], 1):
        browser.click(f"#choices button:nth-child({number})")
        assert browser.count("#chart .step") == browser.count("#steps li")
        assert browser.count("#chart .step") == len(situation["steps"])
        assert browser.text("#summary") == situation["summary"]
    assert browser.errors() == []


def test_the_tour_has_style_and_pictures_on_both_pages(browser: Browser, tour: str) -> None:
    browser.set_media(prefers_color_scheme="light")
    browser.open(tour)
    for page in ("", "waiting/"):
        browser.click(f"nav a[href='{page or './'}']")
        browser.wait_for(f"document.readyState === 'complete' && location.href === '{tour + page}'")
        assert browser.style("body", "backgroundColor") == "rgb(251, 250, 246)"
        broken = "return [...document.images].filter((image) => !image.naturalWidth).length"
        assert browser.run(broken) == 0
    assert browser.errors() == []


@pytest.mark.parametrize("width", [320, 768, 1440])
def test_no_page_of_the_tour_is_wider_than_the_window(
    browser: Browser, tour: str, width: int
) -> None:
    browser.set_width(width)
    for page in ("", "waiting/"):
        browser.open(tour + page)
        assert browser.run("return document.documentElement.scrollWidth") <= width


def test_the_dark_tour_is_dark(browser: Browser, tour: str) -> None:
    browser.set_media(prefers_color_scheme="dark")
    browser.open(tour)
    assert browser.style("body", "backgroundColor") == "rgb(20, 22, 27)"
