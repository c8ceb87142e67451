"""Static files as bytes on the wire: which path gives which file, and which gives nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import Client, Reply, Serving, configure, request, settle

from httpuv_kernel import start_server, static_path

SECRET = b"not for you\n"
HOME = b"<h1>home</h1>\n"
# Names that may be served, and how a client writes them.
NAMES = {
    "a.txt": ["/a.txt", "/%61.txt", "/a%2Etxt", "/a.txt?v=2", "/a.txt?", "/a.txt?../x"],
    "b c.txt": ["/b%20c.txt"],
    "plus+sign.txt": ["/plus+sign.txt", "/plus%2Bsign.txt", "/plus%2bsign.txt"],
    "12:30.txt": ["/12:30.txt", "/12%3A30.txt"],
    "naïve.txt": ["/na%C3%AFve.txt", "/na%c3%afve.txt"],
    "日本.txt": ["/%E6%97%A5%E6%9C%AC.txt"],
    "50%.txt": ["/50%25.txt"],
    "q?x.txt": ["/q%3Fx.txt"],
    "hash#.txt": ["/hash%23.txt"],
    "a&b;c=d,e@f!$'()*~.txt": ["/a&b;c=d,e@f!$'()*~.txt"],
    "<b>.txt": ["/%3Cb%3E.txt"],
    "console.txt": ["/console.txt"],
    "com10.txt": ["/com10.txt"],
    "%2e%2e": ["/%252e%252e"],
    "x%2fy": ["/x%252fy"],
    "sub/page.html": ["/sub/page.html", "/sub%2Fpage.html"],
    "sub/deep/er/file.txt": ["/sub/deep/er/file.txt"],
    ".well-known/acme.txt": ["/.well-known/acme.txt"],
    "empty.txt": ["/empty.txt"],
}
# Names that exist and are never served, on any system.
NEVER = {
    "back\\slash.txt": ["/back\\slash.txt", "/back%5Cslash.txt", "/back%5cslash.txt"],
    "c:.txt": ["/c:.txt", "/C%3A.txt"],
    "data.txt::$DATA": ["/data.txt::$DATA", "/data.txt%3A%3A%24DATA"],
    "data.txt:$i30": ["/data.txt:$i30"],
    "NUL.txt": ["/NUL.txt", "/nul.txt"],
    "con ": ["/con%20"],
    "aux": ["/aux"],
    "prn.": ["/prn."],
    "com1.log": ["/com1.log"],
    "LPT9": ["/LPT9"],
    "com¹": ["/com%C2%B9"],
    "CONIN$": ["/CONIN$"],
    "nul/inside.txt": ["/nul/inside.txt"],
}
HIDDEN = [".env", ".git/config", "sub/.secret.txt", "..data", "...", ".zarray"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is served is `pub`; all beside it is secret."""
    top = tmp_path_factory.mktemp("static").resolve()
    pub = top / "pub"
    for name in [*NAMES, *NEVER, *HIDDEN]:
        (pub / name).parent.mkdir(parents=True, exist_ok=True)
        (pub / name).write_bytes(b"" if name == "empty.txt" else f"this is {name}\n".encode())
    Path(os.fsdecode(os.fsencode(pub) + b"/\xff\xc0\xae.txt")).write_bytes(b"no UTF-8\n")
    (pub / "index.html").write_bytes(HOME)
    (pub / "sub/deep/index.html").write_bytes(b"deep\n")
    (pub / "noindex").mkdir()
    (pub / "noindex/file.txt").write_bytes(b"file\n")
    os.mkfifo(pub / "fifo")
    (top / "pub2").mkdir()
    for secret in ("secret.txt", "pub2/secret.txt", "pub2/index.html", "pub2/%2e"):
        (top / secret).write_bytes(SECRET)
    links = {
        "in.txt": "a.txt",
        "absolute.txt": pub / "a.txt",
        "out.txt": "../secret.txt",
        "absolute-out.txt": top / "secret.txt",
        "prefix.txt": "../pub2/secret.txt",
        "chain.txt": "in.txt",
        "chain-out.txt": "out.txt",
        "bounce.txt": "../pub2/back.txt",
        "dir-in": "sub",
        "dir-out": "../pub2",
        "self": ".",
        "parent": "..",
        "broken": "nowhere",
        "loop": "loop",
        "zero": "/dev/zero",
        "null": "/dev/null",
        "to-fifo": "fifo",
    }
    for name, goal in links.items():
        (pub / name).symlink_to(goal)
    (top / "pub2/back.txt").symlink_to(pub / "a.txt")
    for name, goal in {"index-in": "../a.txt", "index-out": "../../secret.txt"}.items():
        (pub / name).mkdir()
        (pub / name / "index.html").symlink_to(goal)
    (top / "link").symlink_to("pub")
    settle(top)
    return top


@pytest.fixture(scope="module")
def pub(tree: Path) -> Path:
    return tree / "pub"


def ask(
    root: Path,
    target: str,
    sent: Iterable[tuple[str, object]] = (),
    *,
    method: str = "GET",
    body: bytes | list[bytes] = b"",
    **options: object,
) -> Reply:
    """One request to a server of nothing but a directory; no callback runs."""
    app = {"static_paths": {"/": static_path(root, **options)}}
    with start_server("127.0.0.1", 0, app) as server, Client(server.port) as client:
        return client.ask(method, target, sent, body)


def without_date(reply: Reply) -> Reply:
    headers = [pair for pair in reply.headers if pair[0] != "date"]
    return Reply(reply.status, reply.reason, headers, reply.body, reply.version)


# -- paths -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"), [(name, target) for name, targets in NAMES.items() for target in targets]
)
def test_a_name_is_served(pub: Path, name: str, target: str) -> None:
    reply = ask(pub, target)
    assert (reply.status, reply.body) == (200, (pub / name).read_bytes())


def test_a_name_that_is_no_utf8_is_served(pub: Path) -> None:
    assert ask(pub, "/%FF%C0%AE.txt").body == b"no UTF-8\n"


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/", 200, HOME),
        ("/?a=b", 200, HOME),
        ("/index.html", 200, HOME),
        ("http://localhost/", 200, HOME),
        ("http://evil.example/a.txt", 403, None),
        ("/sub/deep/", 200, b"deep\n"),
        ("/sub/deep/index.html", 200, b"deep\n"),
        ("/sub/deep", 308, None),
        ("/sub/", 404, None),
        ("/sub", 404, None),
        ("/noindex/", 404, None),
        ("/noindex/file.txt", 200, b"file\n"),
        ("/noindex/file.txt/", 404, None),
        ("/a.txt/", 404, None),
        ("/a.txt/b", 404, None),
        ("/A.txt", 404, None),
        ("/missing", 404, None),
        ("/missing/", 404, None),
        ("/missing/index.html", 404, None),
        ("/" + "a" * 300, 404, None),
        ("/" + "a/" * 3000, 404, None),
        ("/" + "%61" * 5000, 404, None),
        ("/%", 404, None),
        ("/%zz", 404, None),
        ("/%f", 404, None),
        ("/index.htm", 404, None),
    ],
)
def test_path(pub: Path, target: str, status: int, body: bytes | None) -> None:
    reply = ask(pub, target)
    assert reply.status == status
    assert body is None or reply.body == body


_WRITTEN = r"""
/.. /../ /../secret.txt /../pub2/secret.txt /../pub/a.txt /sub/../../secret.txt /sub/../a.txt
/sub/.. /%2e%2e/secret.txt /%2E%2E/secret.txt /%2e%2E/secret.txt /%2e./secret.txt
/.%2e/secret.txt /.%2E/secret.txt /%2e%2e%2fsecret.txt /..%2fsecret.txt /..%2Fsecret.txt
/%2f..%2fsecret.txt /sub%2f..%2f..%2fsecret.txt /..%5csecret.txt /..%5Csecret.txt
/..\secret.txt /..\..\secret.txt /sub\..\..\secret.txt /\..\secret.txt /\secret.txt
/\evil.example /%5c%5cevil.example%5cshare /%5c..%5csecret.txt /%252e%252e/secret.txt
/%252e%252e%252fsecret.txt /..%252fsecret.txt /%25252e%25252e/secret.txt
/%c0%ae%c0%ae/secret.txt /%c0%ae%c0%ae%c0%afsecret.txt /..%c0%afsecret.txt /..%c1%9csecret.txt
/%e0%80%ae%e0%80%ae/secret.txt /%uff0e%uff0e/secret.txt /%ef%bc%8e%ef%bc%8e/secret.txt
/..;/secret.txt /...//secret.txt /.../secret.txt /....//secret.txt /..%20/secret.txt
/..%00/secret.txt /%00 /a.txt%00 /a.txt%00.html /%00/a.txt /..%0d%0a/secret.txt /./a.txt /.
/%2e /%2e/a.txt /sub/./page.html /sub/. // //a.txt ///a.txt /%2fa.txt /sub//page.html
/sub/%2fpage.html /a.txt// /sub/deep// //evil.example //evil.example/ //evil.example/%2e%2e
//evil.example/%2e%2e/sub/deep ///evil.example ///evil.example/.. //localhost/a.txt
//../secret.txt http://localhost/../secret.txt http://localhost/%2e%2e/secret.txt
http://localhost//a.txt /C:/secret.txt /c:secret.txt /C%3A%5Csecret.txt /C:%2f..%2fsecret.txt
/file:///etc/passwd //etc/passwd /%2fetc%2fpasswd /etc/passwd /~root/.profile /a.txt::$DATA
/a.txt:%24DATA /index.html::$INDEX_ALLOCATION /sub:$I30:$INDEX_ALLOCATION/page.html /con/a.txt
/sub/CON.html /pub2/secret.txt /../pub/../secret.txt /%2eenv /.git/ /.git /.well-known/../.env
/fifo /fifo/ /zero /null /to-fifo
"""
TRAVERSALS = [
    *_WRITTEN.split(),
    *(target for targets in NEVER.values() for target in targets),
    *(f"/{name}" for name in HIDDEN),
]


@pytest.mark.parametrize("target", TRAVERSALS)
def test_outside_hidden_and_missing_have_one_answer(pub: Path, target: str) -> None:
    """The same 404 to the byte, so that nobody can ask what else is on the disk."""
    with start_server("127.0.0.1", 0, {"static_paths": {"/": pub}}) as server:
        with Client(server.port) as client:
            for method in ("GET", "HEAD"):
                missing = without_date(client.ask(method, "/missing"))
                assert missing.status == 404
                assert without_date(client.ask(method, target)) == missing


@pytest.mark.parametrize("target", ["/a.txt\0", "/na\xc3\xafve.txt", "/a b.txt", "/a.txt#x"])
def test_what_is_no_target_is_a_400(pub: Path, target: str) -> None:
    reply = ask(pub, target)
    assert reply.status == 400
    assert reply.closes


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_files_are_served_on_request(pub: Path, name: str) -> None:
    reply = ask(pub, f"/{name}", hidden=True)
    assert (reply.status, reply.body) == (200, f"this is {name}\n".encode())


@pytest.mark.parametrize("target", ["/..", "/../secret.txt", "/.", "/./a.txt", "/sub/../a.txt"])
def test_hidden_does_not_open_dot_segments(pub: Path, target: str) -> None:
    assert ask(pub, target, hidden=True).status == 404


# -- links -------------------------------------------------------------------------------------

# Target: what follow_symlinks "inside", True and False give.
LINKS = {
    "/in.txt": (200, 200, 404),
    "/absolute.txt": (200, 200, 404),
    "/chain.txt": (200, 200, 404),
    "/bounce.txt": (200, 200, 404),
    "/dir-in/page.html": (200, 200, 404),
    "/dir-in/deep/": (200, 200, 404),
    "/self/a.txt": (200, 200, 404),
    "/self/self/self/a.txt": (200, 200, 404),
    "/parent/pub/a.txt": (200, 200, 404),
    "/index-in/": (200, 200, 404),
    "/out.txt": (404, 200, 404),
    "/absolute-out.txt": (404, 200, 404),
    "/prefix.txt": (404, 200, 404),
    "/chain-out.txt": (404, 200, 404),
    "/dir-out/secret.txt": (404, 200, 404),
    "/dir-out/": (404, 200, 404),
    "/dir-out": (404, 308, 404),
    "/parent/secret.txt": (404, 200, 404),
    "/index-out/": (404, 200, 404),
    "/index-out": (404, 308, 404),
    "/index-out/index.html": (404, 200, 404),
    "/broken": (404, 404, 404),
    "/loop": (404, 404, 404),
    "/loop/a.txt": (404, 404, 404),
    "/zero": (404, 404, 404),
    "/null": (404, 404, 404),
    "/to-fifo": (404, 404, 404),
    "/a.txt": (200, 200, 200),
}


@pytest.mark.parametrize("root", ["pub", "link"])
@pytest.mark.parametrize("follow", ["inside", True, False])
@pytest.mark.parametrize("target", LINKS)
def test_link(tree: Path, root: str, follow: object, target: str) -> None:
    """A root that is a link itself makes no difference."""
    reply = ask(tree / root, target, follow_symlinks=follow)
    assert reply.status == LINKS[target][["inside", True, False].index(follow)]
    if follow != True:  # noqa: E712 - "inside" is true, too
        assert reply.body != SECRET


def test_a_link_that_is_bent_outwards_after_a_request(tmp_path: Path) -> None:
    root = tmp_path / "pub"
    root.mkdir()
    (root / "a.txt").write_bytes(b"open\n")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (root / "link.txt").symlink_to("a.txt")
    settle(root)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}) as server:
        with Client(server.port) as client:
            assert client.ask(target="/link.txt").body == b"open\n"
            (root / "new").symlink_to("../secret.txt")
            (root / "new").rename(root / "link.txt")
            assert client.ask(target="/link.txt").status == 404


def test_a_folder_that_becomes_a_link_outwards_after_a_request(tmp_path: Path) -> None:
    root = tmp_path / "pub"
    (root / "sub").mkdir(parents=True)
    (root / "sub/a.txt").write_bytes(b"open\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.txt").write_bytes(SECRET)
    settle(root)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": root}}) as server:
        with Client(server.port) as client:
            assert client.ask(target="/sub/a.txt").body == b"open\n"
            (root / "sub").rename(root / "was")
            (root / "sub").symlink_to("../other")
            assert client.ask(target="/sub/a.txt").status == 404


# -- methods -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL"]
)
@pytest.mark.parametrize("target", ["/a.txt", "/", "/missing", "/../secret.txt"])
def test_another_method_is_a_405(pub: Path, method: str, target: str) -> None:
    reply = ask(pub, target, method=method)
    assert (reply.status, reply["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("target", ["/a.txt", "/", "/empty.txt", "/sub/deep", "/missing"])
def test_head_is_get_without_the_body(pub: Path, target: str) -> None:
    got, head = ask(pub, target), ask(pub, target, method="HEAD")
    assert head.status == got.status
    assert without_date(head).headers == without_date(got).headers
    assert head.body == b""


def test_nothing_follows_the_head_of_a_head(pub: Path) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": pub}}) as server:
        with Client(server.port) as client:
            client.send(request("HEAD", "/a.txt", [("Connection", "close")]))
            assert client.read_all().endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_with_a_body_is_a_400(pub: Path, method: str) -> None:
    reply = ask(pub, "/a.txt", method=method, body=b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.status == 400
    assert reply.closes


def test_a_chunked_body_is_a_400(pub: Path) -> None:
    assert ask(pub, "/a.txt", body=[b"x"]).status == 400


def test_a_content_length_of_0_is_no_body(pub: Path) -> None:
    assert ask(pub, "/a.txt", [("Content-Length", 0)]).status == 200


def test_an_upgrade_is_for_the_app(pub: Path) -> None:
    serving = Serving({"static_paths": {"/": pub}, "call": lambda req: {"body": "the app"}})
    headers = [("Connection", "Upgrade"), ("Upgrade", "h2c")]
    assert serving.ask(target="/a.txt", headers=headers).body == b"the app"


def test_a_websocket_gets_no_file(pub: Path) -> None:
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    reply = ask(pub, "/a.txt", headers)
    assert reply.status >= 400
    assert reply.body != b"this is a.txt\n"


def test_connection_upgrade_alone_is_no_upgrade(pub: Path) -> None:
    assert ask(pub, "/a.txt", [("Connection", "upgrade")]).body == b"this is a.txt\n"


def test_http_1_0(pub: Path) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": pub}}) as server:
        with Client(server.port) as client:
            client.send(request(target="/a.txt", version="HTTP/1.0", host=None))
            assert client.read_all().endswith(b"\r\n\r\nthis is a.txt\n")


def test_pipelined_requests_are_answered_in_order(pub: Path) -> None:
    targets = ["/a.txt", "/missing", "/sub/page.html", "/sub/deep", "/12:30.txt"]
    with start_server("127.0.0.1", 0, {"static_paths": {"/": pub}}) as server:
        with Client(server.port) as client:
            client.send(b"".join(request(target=target) for target in targets))
            assert [client.read_reply().status for _ in targets] == [200, 404, 200, 308, 200]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil"])
def test_the_gate_stands_before_files_too(pub: Path, host: str) -> None:
    with start_server("127.0.0.1", 0, {"static_paths": {"/": pub}}) as server:
        for target in ("/a.txt", "/missing", "/sub/deep"):
            with Client(server.port) as client:
                assert client.ask(target=target, host=host).status == 403


# -- as a whole ----------------------------------------------------------------------------------


def test_the_head_of_a_file(pub: Path) -> None:
    reply = ask(pub, "/a.txt")
    names = [name for name, _ in reply.headers]
    assert sorted(names) == sorted(set(names))
    assert (reply["cache-control"], reply["accept-ranges"]) == ("no-cache", "bytes")
    assert reply["etag"].startswith('"')
    assert reply["last-modified"].endswith(" GMT")
    assert reply["content-length"] == "14"


def test_files_need_no_callbacks_and_on_headers_does_not_see_them(pub: Path) -> None:
    """Nothing runs callbacks here, so whatever asked the app would never be answered."""
    seen: list[object] = []
    app = {"static_paths": {"/": pub}, "on_headers": seen.append, "call": seen.append}
    with start_server("127.0.0.1", 0, app) as server, Client(server.port) as client:
        for target in ("/a.txt", "/missing", "/sub/deep", "/../secret.txt"):
            client.ask(target=target)
        client.ask("POST", "/a.txt")
    assert seen == []


def test_the_largest_target_that_fits(pub: Path) -> None:
    configure(header_bytes=8192)
    assert ask(pub, "/a.txt?" + "q" * 7000).status == 200
    assert ask(pub, "/a.txt?" + "q" * 9000).status == 431
