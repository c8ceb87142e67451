"""Static paths and their options: what a user writes, what is inherited, changed and refused."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from helpers import Client, settle
from static_site import ask, site_fixtures

from httpuv_kernel import (
    StaticPath,
    StaticPathOptions,
    exclude_static_path,
    start_server,
    static_path,
    static_path_options,
)
from httpuv_kernel.errors import AppError, HttpuvError, StaticPathError

root, other = site_fixtures()


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["3", "/3", "3/", "/3/", "//3//"])
def test_a_name_is_normalised(root: Path, name: str) -> None:
    assert ask({name: root}, "/3/a.txt").text == "this is a.txt"
    assert ask({name: root}, "/a.txt").status == 203
    server = start_server("127.0.0.1", 0, {"static_paths": {name: root}})
    assert list(server.static_paths) == ["/3"]
    server.remove_static_path(name)
    assert list(server.static_paths) == []


@pytest.mark.parametrize("name", ["", "/", "//"])
def test_the_name_of_the_root(root: Path, name: str) -> None:
    assert ask({name: root}, "/a.txt").text == "this is a.txt"


@pytest.mark.parametrize("name", ["..", "/a/../b", "/./a", 3, None, b"/a"])
def test_a_name_that_cannot_be_one(root: Path, name: Any) -> None:
    with pytest.raises(StaticPathError, match="name of a static path"):
        start_server("127.0.0.1", 0, {"static_paths": {name: root}})


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/a/a.txt", "this is a.txt"),
        ("/a/b/a.txt", "the other a"),
        ("/a/b/sub/b.txt", "404 Not Found\n"),  # the longest prefix decides, alone
        ("/a/bb/a.txt", "404 Not Found\n"),
        ("/a/b/c/a.txt", "404 Not Found\n"),
        ("/a/b/x/y/a.txt", "this is a.txt"),
        ("/ab/a.txt", "app: /ab/a.txt"),
        ("/a", "308 Permanent Redirect\n"),
        ("/", "app: /"),
        ("/a%2Fb/a.txt", "the other a"),
        ("/%61/b/a.txt", "the other a"),
        ("/caf%C3%A9%20b/a.txt", "the other a"),
        ("/file", "this is a.txt"),
        ("/file/", "this is a.txt"),
        ("/file/x", "404 Not Found\n"),
        ("/files", "app: /files"),
    ],
)
def test_the_longest_prefix_of_whole_segments(
    root: Path, other: Path, target: str, wanted: str
) -> None:
    paths = {
        "/a": root,
        "/a/b": other,
        "/a/b/x/y": root,
        "/café b": other,
        "/file": root / "a.txt",
    }
    assert ask(paths, target).text == wanted


# -- options and what inherits them --------------------------------------------------------------


def test_the_manuals_defaults_and_order() -> None:
    names = list(inspect.signature(static_path_options).parameters)[:6]
    assert names == [
        "indexhtml", "fallthrough", "html_charset", "headers", "validation", "exclude",
    ]  # fmt: skip
    assert list(inspect.signature(static_path).parameters)[:6] == ["path", *names[:5]]
    options = static_path_options()
    assert [getattr(options, name) for name in names] == [True, False, "utf-8", {}, "", False]
    others = ("listing", "hidden", "cors", "cross_origin_isolated", "sandbox", "spa")
    assert not any(getattr(options, name) for name in others)
    assert options.follow_symlinks == "inside"


@pytest.mark.parametrize(
    ("app", "own", "kind"),
    [
        ({}, {}, "text/html; charset=utf-8"),
        ({"html_charset": "latin1"}, {}, "text/html; charset=latin1"),
        ({"html_charset": "latin1"}, {"html_charset": None}, "text/html; charset=latin1"),
        ({"html_charset": "latin1"}, {"html_charset": "utf-16"}, "text/html; charset=utf-16"),
        ({"html_charset": "latin1"}, {"html_charset": ""}, "text/html"),
        ({"html_charset": ""}, {}, "text/html"),
        ({"headers": {"Content-Type": "a/b"}}, {}, "a/b"),
        ({"headers": {"Content-Type": "a/b"}}, {"headers": {"X": "y"}}, "text/html; charset=utf-8"),
        ({"headers": {"Content-Type": "a/b"}}, {"headers": {}}, "text/html; charset=utf-8"),
    ],
)
def test_none_inherits_and_empty_unsets(
    root: Path, app: dict[str, Any], own: dict[str, Any], kind: str
) -> None:
    for options in (app, static_path_options(**app), StaticPathOptions(**app)):
        assert ask(static_path(root, **own), "/", options=options)["content-type"] == kind


def test_the_charset_is_of_html_only(root: Path) -> None:
    for options in ({"html_charset": "latin1"}, {"html_charset": ""}):
        assert ask(root, "/a.css", options=options)["content-type"] == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    ("app", "own", "status"),
    [
        ({}, {}, 200),
        ({"indexhtml": False}, {}, 404),
        ({"indexhtml": False}, {"indexhtml": True}, 200),
        ({}, {"indexhtml": False}, 404),
        ({"indexhtml": False, "fallthrough": True}, {}, 203),
        ({"fallthrough": True}, {"indexhtml": False, "fallthrough": False}, 404),
        ({"indexhtml": False, "listing": True}, {}, 200),
        ({"indexhtml": False, "listing": True}, {"listing": False}, 404),
    ],
)
def test_flags_are_inherited(
    root: Path, app: dict[str, Any], own: dict[str, Any], status: int
) -> None:
    assert ask(static_path(root, **own), "/", options=app).status == status


@pytest.mark.parametrize(
    "target", ["/missing", "/no/", "/no", "/..", "/../x", "/.env", "/%5c", "/a.txt/b", "//", "/nul"]
)
def test_fallthrough_asks_the_app_for_what_is_not_there(root: Path, target: str) -> None:
    """PATH_INFO stays percent-encoded."""
    assert ask(static_path(root, fallthrough=True), target).text == f"app: {target}"
    assert ask(static_path(root), target).status == 404


def test_fallthrough_without_a_call_is_a_404(root: Path) -> None:
    app = {"static_paths": {"/": static_path(root, fallthrough=True)}}
    with start_server("127.0.0.1", 0, app) as server, Client(server.port) as client:
        assert client.ask(target="/missing").status == 404


def test_fallthrough_is_for_files_that_are_missing_only(root: Path) -> None:
    path = static_path(root, fallthrough=True)
    assert ask(path, "/a.txt").text == "this is a.txt"
    assert ask(path, "/missing", method="POST").status == 405


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/sub", 203),
        ("/sub/", 203),
        ("/sub/b.txt", 203),
        ("/s%75b/b.txt", 203),
        ("/sub%2fb.txt", 203),
        ("/sub/deeper/x", 203),
        ("/sub/..", 203),
        ("/a.txt", 203),
        ("/a.txt?x", 203),
        ("/%61.txt", 203),
        ("/a.txt/", 203),
        ("/subs", 404),
        ("/a.txt2", 404),
        ("/a.css", 200),
        ("/", 200),
        ("//sub/b.txt", 404),  # no way around
        ("/./sub/b.txt", 404),
        ("/no/../sub/b.txt", 404),
        ("/sub/back/b.txt", 200),  # a static path inside again
    ],
)
def test_excluded(root: Path, target: str, status: int) -> None:
    paths = {
        "/": root,
        "/sub": exclude_static_path(),
        "/a.txt": exclude_static_path(),
        "/sub/back": root / "sub",
    }
    assert ask(paths, target).status == status


def test_an_excluded_path_takes_every_method(root: Path) -> None:
    paths = {"/": root, "/api": exclude_static_path()}
    assert ask(paths, "/api", method="POST").text == "app: /api"


# -- validation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "validation",
    ['"X-Key" = "Secret 1"', '"X-Key" == "Secret 1"', ' "x-key"=="Secret 1" ',
     {"X-Key": "Secret 1"}, {"x-KEY": "Secret 1"}],
)  # fmt: skip
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([("X-Key", "Secret 1")], 200),
        ([("x-kEY", "Secret 1")], 200),
        ([("X-Key", " Secret 1 ")], 200),
        ([("X-Key", "secret 1")], 403),
        ([("X-Key", "Secret 12")], 403),
        ([("X-Key", "Secret")], 403),
        ([("X-Key", '"Secret 1"')], 403),
        ([("X-Key", "")], 403),
        ([("X-Keys", "Secret 1")], 403),
        ([], 403),
    ],
)
def test_validation(root: Path, validation: Any, sent: Any, status: int) -> None:
    path = static_path(root, validation=validation)
    for target in ("/a.txt", "/missing", "/sub", "/../x"):
        reply = ask(path, target, sent)
        assert (reply.status == 403) == (status == 403)
    assert ask(path, "/a.txt", sent).status == status
    assert ask(path, "/a.txt", sent, method="POST").status == (403 if status == 403 else 405)


@pytest.mark.parametrize("empty", ["", {}])
def test_an_empty_validation_unsets(root: Path, empty: Any) -> None:
    options = {"validation": '"k" = "v"'}
    assert ask(root, "/a.txt", options=options).status == 403
    assert ask(static_path(root, validation=empty), "/a.txt", options=options).status == 200


def test_validation_stands_before_fallthrough_and_holds_for_cached_files(root: Path) -> None:
    path = static_path(root, validation={"k": "v"}, fallthrough=True)
    assert ask(path, "/missing").status == 403
    settle(root)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": path}}) as server:
        with Client(server.port) as client:
            for sent, status in ([("k", "v")], 200), ([], 403), ([("k", "v")], 200), ([], 403):
                assert client.ask(target="/a.txt", headers=sent).status == status


# -- headers -------------------------------------------------------------------------------------


def test_extra_headers(root: Path) -> None:
    headers = {"X-One": "1", "X-Number": 2, "X-Two": ["a", "b"], "Content-Type": "text/x-own"}
    reply = ask(static_path(root, headers={**headers, "Cache-Control": "max-age=9"}), "/a.txt")
    assert (reply["x-one"], reply["x-number"], reply.all("x-two")) == ("1", "2", ["a", "b"])
    assert (reply["content-type"], reply["cache-control"]) == ("text/x-own", "max-age=9")
    assert ask(static_path(root, headers=[("a", "1"), ("A", "2")]), "/a.txt").all("a") == ["1", "2"]


def test_headers_may_be_an_iterator(root: Path) -> None:
    path = static_path(root, headers=(pair for pair in [("X-One", "1")]))
    assert ask(path, "/a.txt")["x-one"] == "1"


def test_headers_of_the_connection_are_the_servers_own(root: Path) -> None:
    headers = {
        "Content-Length": "3",
        "Transfer-Encoding": "chunked",
        "Connection": "close",
        "Upgrade": "x",
        "Keep-Alive": "timeout=1",
    }
    with start_server(
        "127.0.0.1", 0, {"static_paths": {"/": static_path(root, headers=headers)}}
    ) as server, Client(server.port) as client:  # fmt: skip
        for _ in range(2):
            reply = client.ask(target="/a.txt")
            assert (reply.text, reply["content-length"]) == ("this is a.txt", "13")
            assert not {"transfer-encoding", "upgrade", "keep-alive"} & dict(reply.headers).keys()


@pytest.mark.parametrize("name", ["ETag", "Last-Modified", "Accept-Ranges", "Date"])
def test_no_field_of_one_value_is_sent_twice(root: Path, name: str) -> None:
    value = {"ETag": '"own"', "Accept-Ranges": "none"}.get(name, "Sun, 06 Nov 1994 08:49:37 GMT")
    reply = ask(static_path(root, headers={name: value}), "/a.txt")
    assert len(reply.all(name)) == 1


# -- errors and repr -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        *(({name: value}, name) for name in (
            "indexhtml", "fallthrough", "listing", "hidden", "cors", "cross_origin_isolated",
            "sandbox", "spa",
        ) for value in ("yes", 1, [])),
        ({"html_charset": "utf 8"}, "html_charset"),
        ({"html_charset": "utf-8\r\nX: y"}, "html_charset"),
        ({"html_charset": 8}, "html_charset"),
        ({"follow_symlinks": "yes"}, "follow_symlinks"),
        ({"follow_symlinks": "outside"}, "follow_symlinks"),
        ({"headers": 3}, "headers"),
        ({"headers": "X: y"}, "headers"),
        ({"headers": {"X Y": "z"}}, "headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers"),
        ({"headers": {"X": None}}, "headers"),
        ({"headers": {"": "a"}}, "headers"),
        ({"headers": {"X": "a\0"}}, "headers"),
        ({"validation": "X-Key"}, "validation"),
        ({"validation": "X-Key == k"}, "validation"),
        ({"validation": '"X-Key" != "k"'}, "validation"),
        ({"validation": '"X-Key" == "k" or 1'}, "validation"),
        ({"validation": '"" == "k"'}, "validation"),
        ({"validation": '"X Key" == "k"'}, "validation"),
        ({"validation": {"a": "b", "c": "d"}}, "validation"),
        ({"validation": {"a": 1}}, "validation"),
        ({"validation": {"": "b"}}, "validation"),
        ({"validation": 5}, "validation"),
        ({"validation": ["a", "b"]}, "validation"),
        ({"lisitng": True}, "listing"),
        ({"index_html": True}, "indexhtml"),
        ({"zzz": True}, "zzz"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_work(root: Path, options: dict[str, Any], named: str) -> None:
    for call in (lambda: static_path(root, **options), lambda: static_path_options(**options)):
        with pytest.raises(StaticPathError, match=named):
            call()


@pytest.mark.parametrize("path", ["/no/such/path", "", None, 3, b"/tmp", "no-such-file"])
def test_a_path_that_does_not_exist(path: Any) -> None:
    for make in (static_path, lambda path: start_server("", 0, {"static_paths": {"/": path}})):
        with pytest.raises((StaticPathError, HttpuvError)):
            make(path)
    with pytest.raises(StaticPathError, match="path"):
        static_path(path)


@pytest.mark.parametrize("paths", [3, "/tmp", ["/tmp"]])
def test_paths_that_are_no_mapping(paths: Any) -> None:
    with pytest.raises((AppError, StaticPathError), match="static_paths"):
        start_server("127.0.0.1", 0, {"static_paths": paths})


def test_a_relative_path_stays_where_it_was(
    root: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    path = static_path(".")
    monkeypatch.chdir(other)
    assert path.path == str(root)
    assert ask(path, "/a.txt").text == "this is a.txt"


def test_home(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    assert static_path("~/sub").path == str(root / "sub")


def test_repr(root: Path) -> None:
    assert repr(static_path(root)) == f"static_path({str(root)!r})"
    path = static_path(root, listing=True, html_charset="", headers={"a": "b"})
    assert repr(path) == (
        f"static_path({str(root)!r}, html_charset='', headers={{'a': 'b'}}, listing=True)"
    )
    assert eval(repr(path), {"static_path": static_path}) == path
    assert repr(exclude_static_path()) == "exclude_static_path()"
    options = static_path_options(listing=True)
    assert eval(repr(options), {"StaticPathOptions": StaticPathOptions}) == options
    assert isinstance(path, StaticPath)
