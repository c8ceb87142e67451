"""HTTPUV's traits: the log level; each limit has its own test where it acts."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from helpers import Client, Serving, configure, wait_until
from traitlets import TraitError

from httpuv_kernel import HTTPUV

log = logging.getLogger("httpuv_kernel")


@pytest.fixture(autouse=True)
def _logging_is_restored() -> Iterator[None]:
    handlers = list(log.handlers)
    yield
    log.handlers[:] = handlers
    log.setLevel(logging.NOTSET)


@pytest.mark.parametrize("name", sorted(HTTPUV.class_own_traits(config=True)))
def test_each_trait_says_what_it_is_for(name: str) -> None:
    text = HTTPUV.class_own_traits()[name].help
    assert len(text) > 30
    assert text.endswith(".")


@pytest.mark.parametrize("level", ["DEBUG", "info", "Error"])
def test_the_log_level_is_set(level: str) -> None:
    configure(log_level=level)
    assert log.level == getattr(logging, level.upper())


def test_none_leaves_it_to_logging() -> None:
    configure(log_level="ERROR")
    configure(log_level=None)
    assert log.level == logging.NOTSET


def test_a_level_that_does_not_exist() -> None:
    with pytest.raises(TraitError, match="log_level"):
        configure(log_level="LOUD")


def test_a_level_is_seen_where_logging_is_not_set_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure(log_level="INFO")
    configure(log_level="DEBUG")
    log.debug("one line")
    assert capsys.readouterr().err == "DEBUG httpuv_kernel: one line\n"


def vanish(serving: Serving) -> None:
    client = Client(serving.port)
    client.send(b"GET / HTT")
    client.reset()


def test_clients_that_vanish_are_not_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpuv_kernel")
    serving = Serving(lambda request: {})
    vanish(serving)
    assert serving.ask().status == 200
    assert caplog.records == []


@pytest.mark.thread_only("its log lines come when the main thread looks")
def test_the_level_debug_has_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "httpuv_kernel")
    vanish(Serving(lambda request: {}))
    wait_until(lambda: "a client is gone" in caplog.text)
    assert "a client is here; 1 are" in caplog.text
