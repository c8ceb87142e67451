"""CORS, isolation, sandboxes, single-page apps, and the slash of a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from helpers import Client, settle
from static_site import HTML, ask, site_fixtures

from httpuv_kernel import (
    start_server,
    static_path,
)

root, other = site_fixtures()


# -- cors, isolation, sandbox, spa ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "target", "status"),
    [
        ([], "/a.txt", 200),
        ([("Origin", "null")], "/a.txt", 200),
        ([("Range", "bytes=0-1")], "/a.txt", 206),
        ([("Range", "bytes=90-")], "/a.txt", 416),
        ([("If-None-Match", "*")], "/a.txt", 304),
        ([("If-Match", '"x"')], "/a.txt", 412),
        ([], "/missing", 404),  # a Zarr reader takes it for a chunk without data
        ([], "/../x", 404),
        ([], "/sub", 308),
        ([], "/no/", 200),
    ],
)
def test_cors_opens_every_answer(root: Path, sent: Any, target: str, status: int) -> None:
    reply = ask(static_path(root, cors=True, listing=True), target, sent)
    assert (reply.status, reply["access-control-allow-origin"]) == (status, "*")
    assert not reply.has("access-control-allow-credentials")
    if status in (200, 206, 416):
        exposed = reply["access-control-expose-headers"].lower().split(", ")
        assert {"content-range", "content-length", "accept-ranges", "etag"} <= {*exposed}
    closed = ask(static_path(root, listing=True), target, sent)
    assert not [name for name, _ in closed.headers if name.startswith("access-control")]


@pytest.mark.parametrize("target", ["/a.txt", "/missing"])
def test_preflight(root: Path, target: str) -> None:
    sent = [
        ("Origin", "https://viewer.example"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "range,if-none-match"),
    ]
    reply = ask(static_path(root, cors=True), target, sent, method="OPTIONS")
    assert (reply.status, reply.body) == (204, b"")
    assert reply["access-control-allow-origin"] == "*"
    assert "range" in reply["access-control-allow-headers"].lower()
    assert "GET" in reply["access-control-allow-methods"]
    guarded = static_path(root, cors=True, validation={"k": "v"})
    assert ask(guarded, target, sent, method="OPTIONS").status == 204  # it cannot have the header
    assert ask(static_path(root), target, sent, method="OPTIONS").status == 405
    assert ask(static_path(root, cors=True), target, method="OPTIONS").status == 405


def test_own_headers_win_over_options(root: Path) -> None:
    path = static_path(root, cors=True, headers={"access-control-allow-origin": "https://a.b"})
    assert ask(path, "/a.txt").all("access-control-allow-origin") == ["https://a.b"]


def test_cross_origin_isolated(root: Path) -> None:
    for target in ("/", "/a.txt", "/no/"):
        reply = ask(static_path(root, cross_origin_isolated=True, listing=True), target)
        assert reply["cross-origin-opener-policy"] == "same-origin"
        assert reply["cross-origin-embedder-policy"] == "require-corp"


def test_sandbox(root: Path) -> None:
    policy = ask(static_path(root, sandbox=True), "/")["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert not ask(static_path(root), "/").has("content-security-policy")


SPA = [
    ("/app/page", HTML, 200),
    ("/page", HTML, 200),
    ("/page/", HTML, 200),
    ("/page", [("Sec-Fetch-Mode", "navigate")], 200),
    ("/page", [], 404),
    ("/page", [("Accept", "*/*")], 404),
    ("/page.js", [*HTML, ("Sec-Fetch-Mode", "no-cors")], 404),
    ("/data.json", [("Sec-Fetch-Mode", "cors"), ("Accept", "*/*")], 404),
    ("/no/", HTML, 200),
]


@pytest.mark.parametrize(("target", "sent", "status"), SPA)
def test_spa(root: Path, target: str, sent: Any, status: int) -> None:
    reply = ask(static_path(root, spa=True), target, sent)
    assert reply.status == status
    if status == 200:
        assert reply.text == "this is index.html"
    assert ask(root, target, sent).status == 404
    assert ask(static_path(root, spa=True, fallthrough=True), target, sent).status == 203


def test_spa_decides_anew_for_each_request(root: Path) -> None:
    """What a navigation got is not what a script gets at the same URL."""
    settle(root)
    app = {"static_paths": {"/": static_path(root, spa=True)}}
    with start_server("127.0.0.1", 0, app) as server, Client(server.port) as client:
        assert client.ask(target="/page", headers=HTML).text == "this is index.html"
        assert client.ask(target="/page").status == 404
        (root / "page").write_text("a file now")
        assert client.ask(target="/page", headers=HTML).text == "a file now"


# -- the slash of a directory --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/sub", "sub/"),
        ("/sub?a=b&c=%2F", "sub/?a=b&c=%2F"),
        ("/sub?", "sub/?"),
        ("/sub?//evil.example", "sub/?//evil.example"),
        ("/s%75b", "s%75b/"),
        ("/deep/er", "er/"),
        ("/a:b", "./a:b/"),
        ("/javascript:alert(1)", "./javascript:alert(1)/"),
        ("/http:", "./http:/"),
        ("/@evil.example", "@evil.example/"),
        ("http://localhost/sub", "sub/"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"indexhtml": False, "listing": True}])
def test_a_directory_gets_its_slash(
    root: Path, target: str, location: str, options: dict[str, bool]
) -> None:
    for name in ("deep/er", "javascript:alert(1)", "http:", "@evil.example", "ab/a:b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "index.html").touch()
    paths = {"/": static_path(root, **options), "/a:b": static_path(root, **options)}
    reply = ask(paths, target)
    assert (reply.status, reply.all("location")) == (308, [location])
    joined = urljoin("http://here/x" + target.removeprefix("http://localhost"), location)
    assert joined.startswith("http://here/")


@pytest.mark.parametrize(
    "target",
    ["//evil.com/%2e%2e", "//evil.com/%2e%2e/sub", "//evil.com", "///evil.com", "//sub", "/\\sub",
     "/\\evil.com/..", "/%5cevil.com", "//evil.com/..%2fsub", "/%2f/evil.com", "/%2fevil.com"],
)  # fmt: skip
def test_no_redirect_leads_away(root: Path, target: str) -> None:
    (root / "evil.com").mkdir()
    (root / "evil.com/index.html").touch()
    for options in ({}, {"listing": True}):
        reply = ask(static_path(root, **options), target)
        assert (reply.status, reply.has("location")) == (404, False)
