"""Headless Chromium for the tests, by Debian's chromium and chromedriver."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from helpers import wait_until
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

# No window, no sandbox (root has none), and nothing that asks the network on its own.
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--window-size=1280,900",
]


class Browser:
    """One tab. Scripts are bodies of functions: they `return`."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load a page; returns after its load event."""
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page; what it returned."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, expression: str, timeout: float = 15.0) -> Any:
        """Wait until an expression of the page is truthy; its value."""
        found: list[Any] = []

        def is_true() -> bool:
            found[:] = [self.run(f"return {expression}")]
            return bool(found[0])

        try:
            wait_until(is_true, timeout)
        except TimeoutError:
            raise TimeoutError(f"{expression} is {found}; console: {self.errors()}") from None
        return found[0]

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def text(self, selector: str) -> str:
        """The visible text of the first element."""
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def style(self, selector: str, name: str) -> str:
        """A computed property of the first element."""
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        return str(self.run(script, selector, name))

    def click(self, selector: str) -> None:
        """Click the first element, wherever the page is scrolled to."""
        self.run("document.querySelector(arguments[0]).click()", selector)

    def set_media(self, **features: str) -> None:
        """Pretend what the reader prefers: `prefers_color_scheme="dark"`; none: as it is."""
        chosen = [{"name": n.replace("_", "-"), "value": value} for n, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": chosen})

    def set_width(self, width: int) -> None:
        """Make the page so many CSS pixels wide."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def errors(self) -> list[str]:
        """What the console has shown since the last call: failed requests, errors, warnings."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def reset(self) -> None:
        """As new, for the next test."""
        self.open("about:blank")
        self.set_media()
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.errors()


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own, and with more flags.

    The test skips where none is installed; with CI=true it fails.
    """
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        reason = "chromium and chromedriver are not installed; tests/setup_debian.sh does that"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Chromium's last processes may still write when its driver has gone.
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = str(programs[0])
        for flag in [*_FLAGS, *flags, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=Service(str(programs[1])))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
