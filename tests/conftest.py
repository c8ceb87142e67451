"""After every test no server, no network thread and no changed setting is left."""

from __future__ import annotations

import functools
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Deliveries, watched_deliveries

from httpuv_kernel import HTTPUV, list_servers, stop_all_servers
from httpuv_kernel.main import networks, runtime
from httpuv_kernel.network.loop import NetworkThread

# A shell that starts the tests in the background has SIGINT ignored; what we start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Every message between the two sides is marshalled and back.
HTTPUV.instance().check_bridge = True
HTTPUV.instance().isolation = os.environ.get("HTTPUV_TEST_ISOLATION", "thread")

_TRAITS = HTTPUV.class_own_traits(config=True)

# Fixtures that reach into the network thread of this process.
_THREAD_ONLY = {
    "quick_heartbeat": "the heartbeat of the network thread is set",
    "body_directory": "a network process spools in a directory of its own",
    "deliveries": "the connections of the network thread are watched",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """With HTTPUV_TEST_ISOLATION=process, skip what looks into the network thread."""
    if HTTPUV.instance().isolation == "thread":
        return
    for name in getattr(item, "fixturenames", ()):
        if name in _THREAD_ONLY:
            pytest.skip(f"thread only: {_THREAD_ONLY[name]}")
    marker = item.get_closest_marker("thread_only")
    if marker is not None:
        pytest.skip(f"thread only: {marker.args[0]}")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = {name: getattr(HTTPUV.instance(), name) for name in _TRAITS}
    yield
    stop_all_servers()
    runtime.close_runtime()
    for name, value in before.items():
        setattr(HTTPUV.instance(), name, value)
    assert list_servers() == []
    assert "httpuv-io" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts are looked at every 20 ms instead of every second."""
    monkeypatch.setattr(networks, "NetworkThread", functools.partial(NetworkThread, heartbeat=0.02))


@pytest.fixture
def deliveries() -> Iterator[Deliveries]:
    """What has arrived at the connections of servers that the test starts."""
    with watched_deliveries() as watched:
        yield watched


@pytest.fixture
def ran() -> list[object]:
    """Where callbacks note that they ran."""
    return []


@pytest.fixture
def body_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where spooled request bodies are kept during the test; nothing else is there."""
    directory = tmp_path / "bodies"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory
