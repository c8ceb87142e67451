"""Conditional requests, ranges and content codings (RFC 9110, sections 12 to 14)."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import Client, Reply, settle

from httpuv_kernel import start_server, static_path
from httpuv_kernel.network.conditional import (
    Validators,
    http_date,
    is_not_modified,
    precondition_fails,
)

MODIFIED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
BEFORE, AT, AFTER = (f"Sun, 06 Nov 1994 08:49:{second} GMT" for second in (36, 37, 38))
RFC850, ASCTIME = "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"
SECRET = b"not for you\n"
SCRIPT = b"let answer = 42;\n" * 200
STYLE = b"p { color: red }\n" * 10_000
ETAG = '"v1"'
VALIDATORS = Validators(ETAG.encode(), MODIFIED)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine far from Greenwich."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def fields(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """As the parser gives them."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]


def ask(
    root: Path,
    target: str,
    sent: Iterable[tuple[str, object]] = (),
    *,
    method: str = "GET",
    **options: object,
) -> Reply:
    """One request to a server of nothing but a directory; no callback runs."""
    app = {"static_paths": {"/": static_path(root, **options)}}
    with start_server("127.0.0.1", 0, app) as server, Client(server.port) as client:
        return client.ask(method, target, sent)


# -- conditions ----------------------------------------------------------------------------------

NONE, SINCE = "If-None-Match", "If-Modified-Since"
MATCH, UNMODIFIED = "If-Match", "If-Unmodified-Since"
# ETAG stands for the file's own tag.
CONDITIONS: list[tuple[list[tuple[str, str]], int]] = [
    ([], 200),
    ([(NONE, ETAG)], 304),
    ([(NONE, f"W/{ETAG}")], 304),
    ([(NONE, f'"v0", {ETAG}')], 304),
    ([(NONE, f'W/"v0",W/{ETAG},"v2"')], 304),
    ([(NONE, f'"a, b", {ETAG}')], 304),
    ([(NONE, '"v0"'), (NONE, ETAG)], 304),
    ([(NONE, "*")], 304),
    ([(NONE, " * ")], 304),
    ([(NONE, '"v0"')], 200),
    ([(NONE, 'W/"v0"')], 200),
    ([(NONE, "v1")], 200),
    ([(NONE, "")], 200),
    ([(NONE, '"*"')], 200),
    ([(SINCE, AT)], 304),
    ([(SINCE, AFTER)], 304),
    ([(SINCE, RFC850)], 304),
    ([(SINCE, ASCTIME)], 304),
    ([(SINCE, BEFORE)], 200),
    ([(SINCE, "yesterday")], 200),
    ([(SINCE, "")], 200),
    ([(SINCE, "784111777")], 200),
    ([(SINCE, "Sun, 31 Feb 1994 08:49:37 GMT")], 200),
    ([(SINCE, "Sun, 06 Nov 99999 08:49:37 GMT")], 200),
    ([(NONE, '"v0"'), (SINCE, AFTER)], 200),  # section 13.2.2: the tag alone decides
    ([(NONE, ETAG), (SINCE, BEFORE)], 304),
    ([(NONE, ""), (SINCE, AFTER)], 200),
    ([(MATCH, ETAG)], 200),
    ([(MATCH, f'"v0", {ETAG}')], 200),
    ([(MATCH, "*")], 200),
    ([(MATCH, '"v0"')], 412),
    ([(MATCH, f"W/{ETAG}")], 412),  # the comparison is strong
    ([(MATCH, "")], 412),
    ([(UNMODIFIED, AT)], 200),
    ([(UNMODIFIED, AFTER)], 200),
    ([(UNMODIFIED, ASCTIME)], 200),
    ([(UNMODIFIED, BEFORE)], 412),
    ([(UNMODIFIED, "tomorrow")], 200),
    ([(MATCH, ETAG), (UNMODIFIED, BEFORE)], 200),
    ([(MATCH, '"v0"'), (UNMODIFIED, AFTER)], 412),
    ([(MATCH, ETAG), (NONE, ETAG)], 304),
    ([(MATCH, '"v0"'), (NONE, ETAG)], 412),
    ([(MATCH, ETAG), (SINCE, AFTER)], 304),
    ([(UNMODIFIED, BEFORE), (NONE, ETAG)], 412),
    ([(UNMODIFIED, AFTER), (SINCE, AT)], 304),
    ([(NONE, ETAG), ("Range", "bytes=0-1")], 304),
    ([(MATCH, '"v0"'), ("Range", "bytes=0-1")], 412),
    ([(MATCH, ETAG), ("Range", "bytes=0-1")], 206),
    ([(NONE, '"v0"'), ("Range", "bytes=0-1")], 206),
]
IDS = [", ".join(f"{name}: {value}" for name, value in case) or "none" for case, _ in CONDITIONS]


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(("headers", "status"), CONDITIONS, ids=IDS)
def test_condition(headers: list[tuple[str, str]], status: int) -> None:
    assert precondition_fails(fields(headers), VALIDATORS) == (status == 412)
    if status != 412:
        assert is_not_modified(fields(headers), VALIDATORS) == (status == 304)


def make_files(root: Path) -> Path:
    """A file that is kept in memory, one that is streamed, one of nothing; their real folder."""
    for name, size in {"small": 1000, "large": 100_000, "empty": 0}.items():
        (root / f"{name}.txt").write_bytes(bytes(32 + i * 7 % 90 for i in range(size)))
        os.utime(root / f"{name}.txt", (MODIFIED, MODIFIED))
    settle(root)
    return root.resolve()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("conditional"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ["small", "large"])
def test_conditional_requests(root: Path, name: str, method: str) -> None:
    content = (root / f"{name}.txt").read_bytes()
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}) as server:
        with Client(server.port) as client:
            etag = client.ask(target=f"/{name}.txt")["etag"]
            for headers, wanted in CONDITIONS:
                sent = [(key, value.replace(ETAG, etag)) for key, value in headers]
                reply = client.ask(method, f"/{name}.txt", sent)
                status = 200 if method == "HEAD" and wanted == 206 else wanted
                assert (reply.status, headers) == (status, headers)
                if method == "GET" and status in (200, 206):
                    assert reply.body == (content if status == 200 else content[:2])


def test_the_head_of_a_304(root: Path) -> None:
    headers = {
        "Cache-Control": "max-age=60",
        "Expires": AFTER,
        "Content-Location": "/x",
        "Content-Language": "en",
        "Content-Disposition": "inline",
        "X-Own": "y",
    }
    with start_server(
        "127.0.0.1", 0, {"static_paths": {"/": static_path(root, headers=headers, cors=True)}}
    ) as server, Client(server.port) as client:  # fmt: skip
        whole = client.ask(target="/small.txt")
        reply = client.ask(target="/small.txt", headers=[(NONE, whole["etag"])])
    assert (reply.status, reply.body) == (304, b"")
    # RFC 9110, section 15.4.5, and what a browser needs to let the page see it.
    wanted = {"date", "etag", "cache-control", "expires", "content-location", "vary"}
    assert {name for name, _ in reply.headers} <= wanted | {"access-control-allow-origin"}
    for name in ("etag", "cache-control", "expires", "content-location"):
        assert reply[name] == whole[name]
    assert reply["access-control-allow-origin"] == "*"


def test_the_connection_goes_on_after_304_and_412(root: Path) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}) as server:
        with Client(server.port) as client:
            for _ in range(3):
                assert client.ask(target="/small.txt", headers=[(NONE, "*")]).status == 304
                assert client.ask(target="/large.txt", headers=[(MATCH, '"v0"')]).status == 412


def test_last_modified_and_date(root: Path) -> None:
    assert http_date(MODIFIED) == AT.encode()
    assert ask(root, "/small.txt")["last-modified"] == AT


def test_a_modification_before_1970(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    os.utime(tmp_path / "a.txt", (-1, -1))
    reply = ask(tmp_path, "/a.txt")
    assert (reply.status, reply["last-modified"]) == (200, "Wed, 31 Dec 1969 23:59:59 GMT")


# -- codings -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with and without precompressed siblings, whose content tells which was sent."""
    top = tmp_path_factory.mktemp("packed").resolve()
    root = top / "pub"
    root.mkdir()
    (top / "secret.gz").write_bytes(SECRET)
    contents = {
        "page.js": SCRIPT,
        "small.js": b"1\n",
        "big.css": STYLE,
        "blob.bin": SCRIPT,
        "all.json": b"{}\n" * 1000,
        "all.json.br": b"br",
        "all.json.zst": b"zstd",
        "all.json.gz": b"gzip",
        "some.bin": b"plain",
        "some.bin.gz": b"gzip",
        "big.bin": b"plain" * 100_000,
        "big.bin.gz": b"gzip" * 50_000,
        "stale.js": SCRIPT,
        "stale.js.gz": b"stale",
        "linked.js": SCRIPT,
        "inner.js": SCRIPT,
        "folder.js": SCRIPT,
        "index.html": b"plain",
        "index.html.gz": b"gzip",
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
    (root / "linked.js.gz").symlink_to("../secret.gz")
    (root / "inner.js.gz").symlink_to("some.bin.gz")
    (root / "folder.js.gz").mkdir()
    for path in root.iterdir():
        if not path.is_symlink():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    os.utime(root / "stale.js.gz", (1_600_000_000, 1_600_000_000))
    settle(root)
    return root


class Packed(NamedTuple):
    target: str
    accept: str | None
    coding: str | None
    body: bytes
    """As it is on the wire; what was compressed on the fly after decoding."""


PACKED = [
    Packed("/page.js", None, None, SCRIPT),
    Packed("/page.js", "", None, SCRIPT),
    Packed("/page.js", "identity", None, SCRIPT),
    Packed("/page.js", "deflate, br, zstd", None, SCRIPT),
    Packed("/page.js", "gzip;q=0", None, SCRIPT),
    Packed("/page.js", "gzip; q=0.000, br", None, SCRIPT),
    Packed("/page.js", "*;q=0", None, SCRIPT),
    Packed("/page.js", "gzip;q=0, *", None, SCRIPT),
    Packed("/page.js", "gzip", "gzip", SCRIPT),
    Packed("/page.js", "GZIP", "gzip", SCRIPT),
    Packed("/page.js", "x-gzip", "gzip", SCRIPT),
    Packed("/page.js", "br;q=1, gzip;q=0.5", "gzip", SCRIPT),
    Packed("/page.js", "*", "gzip", SCRIPT),
    Packed("/small.js", "gzip", None, b"1\n"),
    Packed("/big.css", "gzip", "gzip", STYLE),
    Packed("/big.css", "br", None, STYLE),
    Packed("/blob.bin", "gzip", None, SCRIPT),
    Packed("/all.json", None, None, b"{}\n" * 1000),
    Packed("/all.json", "deflate", None, b"{}\n" * 1000),
    Packed("/all.json", "gzip, zstd, br", "br", b"br"),
    Packed("/all.json", "gzip, zstd", "zstd", b"zstd"),
    Packed("/all.json", "gzip", "gzip", b"gzip"),
    Packed("/all.json", "*", "br", b"br"),
    Packed("/all.json", "br;q=0, *", "zstd", b"zstd"),
    Packed("/all.json", "br;q=0, zstd;q=0, gzip", "gzip", b"gzip"),
    Packed("/all.json.gz", "gzip", None, b"gzip"),
    Packed("/some.bin", "gzip", "gzip", b"gzip"),
    Packed("/some.bin", "br", None, b"plain"),
    Packed("/big.bin", "gzip", "gzip", b"gzip" * 50_000),
    Packed("/stale.js", "gzip", "gzip", SCRIPT),
    Packed("/stale.js", "br", None, SCRIPT),
    Packed("/linked.js", "gzip", "gzip", SCRIPT),
    Packed("/inner.js", "gzip", "gzip", b"gzip"),
    Packed("/folder.js", "gzip", "gzip", SCRIPT),
    Packed("/", "gzip", "gzip", b"gzip"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("case", PACKED, ids=lambda case: f"{case.target} {case.accept}")
def test_content_coding(packed: Path, case: Packed, method: str) -> None:
    headers = [] if case.accept is None else [("Accept-Encoding", case.accept)]
    reply = ask(packed, case.target, headers, method=method)
    assert reply.status == 200
    assert reply.all("content-encoding") == ([case.coding] if case.coding else [])
    if case.coding:
        assert reply["vary"] == "Accept-Encoding"
    if method == "GET":
        on_the_fly = case.coding == "gzip" and reply.body.startswith(b"\x1f\x8b")
        assert (gzip.decompress(reply.body) if on_the_fly else reply.body) == case.body
        assert reply["etag"].startswith("W/") == on_the_fly


def test_each_coding_has_its_tag(packed: Path) -> None:
    codings = ("identity", "gzip", "zstd", "br")
    tags = [ask(packed, "/all.json", [("Accept-Encoding", c)])["etag"] for c in codings]
    assert len(set(tags)) == 4
    for tag, coding in zip(tags, codings, strict=True):
        headers = [("Accept-Encoding", coding), ("If-None-Match", tag)]
        reply = ask(packed, "/all.json", headers)
        assert (reply.status, reply["etag"], reply["vary"]) == (304, tag, "Accept-Encoding")


def test_a_304_has_the_tag_of_the_200(packed: Path) -> None:
    """RFC 9110, section 15.4.5: also when that is the weak one of a body compressed on the fly."""
    headers = [("Accept-Encoding", "gzip")]
    tag = ask(packed, "/page.js", headers)["etag"]
    reply = ask(packed, "/page.js", [*headers, ("If-None-Match", tag)])
    assert (reply.status, reply["etag"]) == (304, tag)


@pytest.mark.parametrize("target", ["/page.js", "/all.json", "/big.css", "/big.bin"])
def test_a_range_is_of_the_file_itself(packed: Path, target: str) -> None:
    headers = [("Accept-Encoding", "gzip, br, zstd"), ("Range", "bytes=2-9")]
    reply = ask(packed, target, headers)
    assert (reply.status, reply.body) == (206, (packed / target[1:]).read_bytes()[2:10])
    assert not reply.has("content-encoding")
    assert not reply["etag"].startswith("W/")


def test_a_linked_sibling_may_be_followed(packed: Path) -> None:
    reply = ask(packed, "/linked.js", [("Accept-Encoding", "gzip")], follow_symlinks=True)
    assert reply.body == SECRET
    reply = ask(packed, "/inner.js", [("Accept-Encoding", "gzip")], follow_symlinks=False)
    assert gzip.decompress(reply.body) == SCRIPT
