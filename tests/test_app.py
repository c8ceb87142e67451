"""What an app may be, and how a wrong one is named."""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
from helpers import Client, Serving, during

from httpuv_kernel import (
    AppError,
    HttpuvError,
    Request,
    StaticPathError,
    list_servers,
    start_server,
    static_path_options,
)
from httpuv_kernel.main.app import App, as_app


def hello(request: Request) -> dict[str, object]:
    return {"body": "hello"}


class Site:
    def call(self, request: Request) -> dict[str, object]:
        return {"body": "hello"}


class Callable:
    def __call__(self, request: Request) -> dict[str, object]:
        return {"body": "hello"}


async def hello_async(request: Request) -> dict[str, object]:
    return {"body": "hello"}


def hello_to(name: str, request: Request) -> dict[str, object]:
    return {"body": name}


@pytest.mark.parametrize(
    "app",
    [
        hello,
        hello_async,
        lambda request: {"body": "hello"},
        functools.partial(hello_to, "hello"),
        Site().call,
        Callable(),
        Site(),
        SimpleNamespace(call=hello),
        {"call": hello},
        OrderedDict(call=hello),
        MappingProxyType({"call": hello}),
        {"call": hello, "on_headers": None, "static_paths": None},
        App(call=hello),
    ],
    ids=[
        "function",
        "coroutine function",
        "lambda",
        "partial",
        "method",
        "callable object",
        "object",
        "namespace",
        "dict",
        "ordered dict",
        "mapping",
        "dict with None",
        "App",
    ],
)
def test_an_app(app: object) -> None:
    assert Serving(app).ask().text == "hello"


def test_an_object_with_handlers_and_call_is_asked_by_its_handlers() -> None:
    class Both(Site):
        def __call__(self, request: Request) -> dict[str, object]:
            return {"body": "called"}

    assert Serving(Both()).ask().text == "hello"


def test_an_object_s_handlers_are_found_in_its_class_and_itself() -> None:
    site = Site()
    site.on_headers = lambda request: {"body": "early"}  # type: ignore[attr-defined]
    assert Serving(site).ask().text == "early"


def test_an_empty_mapping_is_an_app() -> None:
    assert as_app({}) == App()


@pytest.mark.parametrize(
    ("app", "named"),
    [
        (None, "None"),
        (5, "5"),
        ("app", "'app'"),
        ([hello], "hello"),
        (object(), "object"),
        ({"calls": hello}, "'calls'; did you mean 'call'"),
        ({"onHeaders": hello}, "'onHeaders'; did you mean 'on_headers'"),
        ({"onWSOpen": hello}, "'onWSOpen'; did you mean 'on_ws_open'"),
        ({"staticPaths": {}}, "'staticPaths'; did you mean 'static_paths'"),
        ({"staticPathOptions": {}}, "did you mean 'static_path_options'"),
        ({"on_header": hello}, "did you mean 'on_headers'"),
        ({"static_path": {}}, "did you mean 'static_paths'"),
        ({"on_websocket_open": hello}, "did you mean 'on_ws_open'"),
        ({"zzz": 1}, "'zzz'; known are call, on_headers, on_ws_open"),
        ({5: hello}, "5"),
        ({"call": 5}, "'call' of the app is not callable: 5"),
        ({"on_headers": "f"}, "'on_headers' of the app is not callable: 'f'"),
        ({"on_ws_open": []}, "'on_ws_open' of the app is not callable: []"),
        (SimpleNamespace(call=5), "'call' of the app is not callable: 5"),
        (Site, "Site()"),
        ({"static_paths": 5}, "static_paths"),
        ({"static_paths": "/tmp"}, "static_paths"),
        ({"static_paths": ["/tmp"]}, "static_paths"),
        ({"static_path_options": 5}, "static_path_options"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_app(app: object, named: str) -> None:
    with pytest.raises(AppError, match=re.escape(named)) as caught:
        start_server("127.0.0.1", 0, app)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, HttpuvError)
    assert list_servers() == []


def test_a_static_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StaticPathError, match="missing"):
        start_server("127.0.0.1", 0, {"static_paths": {"/": str(tmp_path / "missing")}})
    assert list_servers() == []


@pytest.mark.parametrize("options", [static_path_options(indexhtml=False), {"indexhtml": False}])
def test_static_path_options(options: object) -> None:
    assert as_app({"static_path_options": options}).static_path_options.indexhtml is False


def test_an_app_s_mapping_is_read_once(tmp_path: Path) -> None:
    app = {"call": hello}
    serving = Serving(app)
    app["call"] = lambda request: {"body": "changed"}
    assert serving.ask().text == "hello"


def test_two_servers_of_one_app_are_two() -> None:
    first, second = Serving(hello), Serving(hello)
    assert first.port != second.port
    first.server.stop()
    assert second.ask().text == "hello"


def test_a_coroutine_handler_starts_a_server() -> None:
    """The loop that it runs in is ours: the new server's callbacks run where all others do."""

    async def app(request: object) -> dict[str, object]:
        return {"body": str(start_server("127.0.0.1", 0, lambda request: {"body": "second"}).port)}

    port = int(Serving(app).ask().text)

    def ask() -> str:
        with Client(port) as client:
            return client.ask().text

    assert during(ask) == "second"
