"""The pages that the server makes itself: listings and errors, whatever the names are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from helpers import Client, Reply

from httpuv_kernel import start_server, static_path

HTML = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")]
# Names that would be markup, script, another host or scheme, or no text at all.
NASTY = [
    b"<img src=x onerror=alert(1)>.html",
    b"<script>alert(1)<",
    b"<b><i><td><h1>",
    b"<!-- --!>",
    b"\"quoted' & <tagged>.txt",
    b"x onmouseover=alert(1) y",
    b"javascript:alert(1)",
    b"data:text.html",
    b"http:..evil.example",
    b"two\nlines.txt",
    b"tab\tcr\r.txt",
    b"\x01\x02.txt",
    b"\xff\xfe\x80.bin",
    b"{{ title }}{% raw 1 %}.txt",
    b"%2e%2e",
    b"%41?b#c;d=e&amp;f.txt",
    b" spaces at both ends ",
    b"+plus+.txt",
    "ünïcödé 日本 🎉.txt".encode(),
    "\u202egpj.exe".encode(),
    b"~tilde",
    b"-dash",
    b"@at",
]


class Page(HTMLParser):
    """What a browser would see of a listing."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[dict[str, str]] = []
        self.crumbs: list[tuple[str | None, str]] = []
        self.texts: dict[str, str] = {}
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        own = dict(attributes)
        self.tags.append((tag, own))
        if tag in ("img", "link", "meta", "input"):
            if self._open[-1][0] == "a":
                self.rows[-1]["img"] = str(own["src"]).removeprefix("./")
            return
        self._open.append((tag, own))
        if tag == "tr" and self._open[-2][0] == "tbody":
            self.rows.append({"kind": str(own["class"])})
        elif tag == "td":
            self.rows[-1][str(own["class"])] = ""
        elif tag == "a" and self._open[-2][0] == "td":
            self.rows[-1]["href"] = str(own["href"]).removeprefix("./")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        names = [name for name, _ in self._open]
        if not names:
            return
        self.texts[names[-1]] = self.texts.get(names[-1], "") + data
        if "td" in names:
            self.rows[-1][str(self._open[names.index("td")][1]["class"])] += data
        elif names[-1:] == ["nav"] and data.strip():
            self.crumbs.append((None, data))
        elif names[-2:] == ["nav", "a"]:
            self.crumbs.append((self._open[-1][1]["href"], data))

    @property
    def names(self) -> list[str]:
        return [row["name"] for row in self.rows]

    def count(self, tag: str) -> int:
        return [name for name, _ in self.tags].count(tag)


def ask(
    root: Path,
    target: str = "/",
    sent: Iterable[tuple[str, object]] = (),
    *,
    method: str = "GET",
    **options: object,
) -> Reply:
    """One request to a server of a listed directory; no callback runs."""
    path = static_path(root, **{"listing": True, **options})
    with start_server("127.0.0.1", 0, {"static_paths": {"/": path}}) as server:
        with Client(server.port) as client:
            return client.ask(method, target, sent)


def page(root: Path, target: str = "/", **options: object) -> Page:
    reply = ask(root, target, **options)
    assert (reply.status, reply["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(reply.text)


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "pub"
    root.mkdir()
    for name in NASTY:
        with open(os.fsencode(root) + b"/" + name, "wb") as file:
            file.write(name)
    return root


# -- names -------------------------------------------------------------------------------------


def test_no_name_becomes_markup(nasty: Path, tmp_path: Path) -> None:
    """The page has the same elements as one with as many harmless names."""
    plain = tmp_path / "plain"
    plain.mkdir()
    for i in range(len(NASTY)):
        (plain / f"{i}.txt").touch()
    found, wanted = page(nasty), page(plain)
    assert len(found.rows) == len(NASTY)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in wanted.tags]
    for (tag, own), (_, harmless) in zip(found.tags, wanted.tags, strict=True):
        assert own.keys() == harmless.keys(), tag


def test_every_name_is_shown_as_it_is(nasty: Path) -> None:
    shown = sorted(page(nasty).names)
    assert shown == sorted(name.decode("utf-8", "replace") for name in NASTY)


def test_every_link_leads_to_its_file(nasty: Path) -> None:
    rows = page(nasty).rows
    for prefix in ("http://h/", "http://h/a/b/"):
        for row in rows:
            url = urlsplit(urljoin(prefix, row["href"]))
            assert (url.scheme, url.netloc, url.query, url.fragment) == ("http", "h", "", "")
            assert url.path.startswith(urlsplit(prefix).path)
            assert unquote_to_bytes(url.path).rpartition(b"/")[2] in NASTY
    for row in rows:
        reply = ask(nasty, "/" + row["href"])
        assert reply.status == 200
        assert reply.body == unquote_to_bytes(row["href"])


@pytest.mark.parametrize("name", [b"<script>alert(1)<", b"\"'&<b>", b"\xff", b"a\nb"])
def test_the_name_of_a_directory_is_escaped_too(tmp_path: Path, name: bytes) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path.resolve()) + b"/" + name))
    (folder / "inner").mkdir(parents=True)
    wanted = [tag for tag, _ in page(tmp_path, "/").tags]
    assert wanted.count("script") == 1
    target = "/" + "".join(f"%{byte:02x}" for byte in name) + "/"
    inner = page(tmp_path, target)
    assert inner.count("script") == 1
    assert inner.count("b") == 1
    assert inner.texts["title"] == name.decode("utf-8", "replace")
    assert page(folder).texts["title"] == name.decode("utf-8", "replace")


# -- what is listed --------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    top = tmp_path.resolve()
    root = top / "pub"
    (root / "folder").mkdir(parents=True)
    (top / "outside").mkdir()
    (top / "outside/secret.txt").touch()
    for name in ("file.txt", ".env", "nul.txt", "back\\slash", "c:x", "s::$DATA", "aux", "12:30"):
        (root / name).touch()
    (root / ".git").mkdir()
    (root / ".well-known").mkdir()
    os.mkfifo(root / "fifo")
    links = {
        "to-file": "file.txt",
        "to-folder": "folder",
        "to-itself": ".",
        "out-file": "../outside/secret.txt",
        "out-folder": "../outside",
        "up": "..",
        "broken": "nowhere",
        "loop": "loop",
        "zero": "/dev/zero",
        "to-fifo": "fifo",
    }
    for name, goal in links.items():
        (root / name).symlink_to(goal)
    return root


ALWAYS = {".well-known", "folder", "12:30", "file.txt"}
INSIDE = {"to-file", "to-folder", "to-itself"}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ALWAYS | INSIDE),
        ({"follow_symlinks": "inside"}, ALWAYS | INSIDE),
        ({"follow_symlinks": False}, ALWAYS),
        ({"follow_symlinks": True}, ALWAYS | INSIDE | {"out-file", "out-folder", "up"}),
        ({"hidden": True}, ALWAYS | INSIDE | {".env", ".git"}),
    ],
)
def test_what_answers_404_is_not_listed(
    mixed: Path, options: dict[str, object], names: set[str]
) -> None:
    found = page(mixed, **options)
    assert {*found.names} == names
    for row in found.rows:
        assert ask(mixed, "/" + row["href"], **options).status == 200
    for name in {entry.name for entry in mixed.iterdir()} - names:
        target = "/" + name.replace("\\", "%5c")
        assert ask(mixed, target, **options).status == 404
        assert ask(mixed, target + "/", **options).status == 404


def test_an_empty_directory(tmp_path: Path) -> None:
    found = page(tmp_path)
    assert found.rows == []
    assert "empty" in ask(tmp_path).text
    assert found.texts["footer"] == "0 folders, 0 files"


def test_folders_first_then_by_name_without_regard_to_case(tmp_path: Path) -> None:
    for name in ("b", "A", "c"):
        (tmp_path / name).mkdir()
    for name in ("zeta", "Alpha", "beta.txt", "a1", "A1"):
        (tmp_path / name).touch()
    found = page(tmp_path)
    assert found.names == ["A", "b", "c", "A1", "a1", "Alpha", "beta.txt", "zeta"]
    assert [row["kind"] for row in found.rows] == ["dir"] * 3 + ["file"] * 5
    assert [row["href"] for row in found.rows[:4]] == ["A/", "b/", "c/", "A1"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (123_456, "123 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (5_400_000, "5.4 MB"),
        (2_000_000_000, "2.0 GB"),
        (3_000_000_000_000, "3.0 TB"),
    ],
)
def test_sizes(tmp_path: Path, size: int, shown: str) -> None:
    (tmp_path / "a").touch()
    os.truncate(tmp_path / "a", size)
    (tmp_path / "folder").mkdir()
    found = page(tmp_path)
    assert [row["size"] for row in found.rows] == ["", shown]
    total = f", {shown}" if size else ""
    assert found.texts["footer"] == f"1 folder, 1 file{total}"
    assert ("td", {"class": "size", "data-v": str(size)}) in found.tags


def test_times_are_local(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", (784111777, 784111777))
    (row,) = page(tmp_path).rows
    assert re.fullmatch(r"1994-11-0[567] \d\d:\d\d", row["time"])


def test_pictures_have_thumbnails(tmp_path: Path) -> None:
    for name in ("a.png", "b c.JPG", "d.svg", "e.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    rows = page(tmp_path).rows
    assert [row.get("img") for row in rows] == [None, "a.png", "b%20c.JPG", "d.svg", None]


def test_crumbs_lead_up(tmp_path: Path) -> None:
    root = tmp_path.resolve() / "site"
    (root / "a b/c/d").mkdir(parents=True)
    assert page(root).crumbs == [(None, "site")]
    found = page(root, "/a%20b/c/d/")
    assert found.crumbs == [("../../../", "site"), ("../../", "a b"), ("../", "c"), (None, "d")]
    assert found.texts["title"] == "d"
    for link, name in found.crumbs[:-1]:
        url = urljoin("http://h/proxy/a%20b/c/d/", str(link))
        assert url.startswith("http://h/proxy/")
        assert page(root, urlsplit(url).path.removeprefix("/proxy")).texts["title"] == name


def test_below_a_prefix_and_a_token(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = static_path(tmp_path, listing=True)
    token = "x" * 20
    app = {"static_paths": {"/data/here": path}}
    with start_server("127.0.0.1", 0, app, token=token) as server, Client(server.port) as client:
        reply = client.ask(target=f"/{token}/data/here")
        assert (reply.status, reply["location"]) == (308, "here/")
        found = client.ask(target=f"/{token}/data/here/")
        assert Page(found.text).rows[0]["href"] == "sub/"
        assert token not in found.text


def test_nothing_in_the_page_comes_from_elsewhere(mixed: Path) -> None:
    (mixed / "a.png").touch()
    for found in (page(mixed), Page(ask(mixed, "/missing", HTML).text)):
        for _, own in found.tags:
            for name in ("src", "href", "action", "srcset", "data"):
                link = own.get(name) or ""
                assert link == "data:," or not re.match(r"[a-z]+:|/", link), link
        assert "@import" not in str(found.tags)


def test_a_listing_as_a_response(mixed: Path) -> None:
    reply = ask(mixed)
    assert (reply["cache-control"], reply["x-content-type-options"]) == ("no-cache", "nosniff")
    head = ask(mixed, method="HEAD")
    assert (head.status, head["content-length"]) == (200, reply["content-length"])
    packed = ask(mixed, sent=[("Accept-Encoding", "gzip")])
    assert packed["content-encoding"] == "gzip"
    assert packed.unzipped == reply.body
    assert ask(mixed, method="POST").status == 405
    assert ask(mixed, listing=False).status == 404


def test_a_listing_has_the_headers_of_its_path_but_not_those_of_a_file(mixed: Path) -> None:
    headers = {"X-Own": "y", "Content-Type": "text/csv", "Content-Disposition": "attachment"}
    reply = ask(mixed, headers=headers, sandbox=True)
    assert reply["x-own"] == "y"
    assert reply["content-type"] == "text/html; charset=utf-8"
    assert not reply.has("content-disposition")
    assert reply["content-security-policy"].startswith("sandbox")


def test_a_listing_is_never_stale(tmp_path: Path) -> None:
    path = static_path(tmp_path, listing=True)
    with start_server("127.0.0.1", 0, {"static_paths": {"/": path}}) as server:
        with Client(server.port) as client:
            for i in range(20):
                (tmp_path / f"{i:02}").touch()
                assert len(Page(client.ask().text).rows) == i + 1


def test_an_index_comes_before_the_listing(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes(b"the index")
    assert ask(tmp_path).body == b"the index"
    assert page(tmp_path, indexhtml=False).names == ["index.html"]


def test_ten_thousand_entries(tmp_path: Path) -> None:
    for i in range(10_000):
        (tmp_path / f"tile-{i:05}.png").touch()
    found = page(tmp_path)
    assert found.names == [f"tile-{i:05}.png" for i in range(10_000)]
    assert found.texts["footer"] == "0 folders, 10,000 files"


# -- errors ------------------------------------------------------------------------------------

ERRORS = {
    404: ("GET", "/missing", []),
    405: ("POST", "/missing", []),
    412: ("GET", "/there", [("If-Match", '"x"')]),
}


@pytest.mark.parametrize("status", ERRORS)
def test_an_error_is_one_line_or_a_page(tmp_path: Path, status: int) -> None:
    (tmp_path / "there").touch()
    method, target, sent = ERRORS[status]
    plain = ask(tmp_path, target, sent, method=method)
    assert (plain.status, plain["content-type"]) == (status, "text/plain; charset=utf-8")
    assert plain.text == f"{status} {plain.reason}\n"
    for accept in ("*/*", "application/json", "image/avif,image/webp"):
        assert ask(tmp_path, target, [*sent, ("Accept", accept)], method=method).body == plain.body
    rich = ask(tmp_path, target, [*sent, *HTML], method=method)
    assert (rich.status, rich["content-type"]) == (status, "text/html; charset=utf-8")
    assert Page(rich.text).texts["title"] == f"{status} {rich.reason}"
    for reply in (plain, rich):
        assert "Accept" in reply.all("vary")
        assert reply["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("accept", [[], HTML])
@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/echoed-path", 404),
        ("/echoed-path?echoed-path", 404),
        ("/%3Cscript%3Eechoed-path", 404),
        ("/../echoed-path", 404),
        ("/echoed-path\\", 404),
        ("/folder", 308),
    ],
)
def test_no_error_tells_a_path(
    tmp_path: Path, target: str, status: int, accept: list[tuple[str, object]]
) -> None:
    (tmp_path / "folder").mkdir()
    reply = ask(tmp_path, target, accept)
    assert reply.status == status
    assert "echoed-path" not in str(reply)
    assert "folder" not in reply.text
    assert str(tmp_path) not in str(reply)


@pytest.mark.parametrize("accept", [[], HTML])
def test_a_validation_that_fails_tells_nothing(
    tmp_path: Path, accept: list[tuple[str, object]]
) -> None:
    reply = ask(tmp_path, sent=accept, validation={"X-Key": "the-secret"})
    assert reply.status == 403
    assert "X-Key" not in str(reply)
    assert "the-secret" not in str(reply)
