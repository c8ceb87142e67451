"""Snapshots that are served without the main thread; the progress page; a kernel that is busy."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import Client, Reply, Serving, configure, during, in_thread, run_until_idle, wait_until

from httpuv_kernel import start_server
from httpuv_kernel.main.publish import progress, snapshot


@pytest.fixture(params=["thread", "process"], autouse=True)
def isolation(request: pytest.FixtureRequest) -> str:
    configure(isolation=request.param)
    return str(request.param)


def ask(serving: Serving, *args: Any, **options: Any) -> Reply:
    """A request that the main thread takes no part in."""

    def run() -> Reply:
        with serving.connect() as client:
            return client.ask(*args, **options)

    return in_thread(run)


class Picture:
    def _repr_png_(self) -> bytes:
        return b"\x89PNG"


class Table:
    def _repr_html_(self) -> str:
        return "<table>"


VALUES = {
    "bytes": ("/a", b"\0\1", None, "application/octet-stream", b"\0\1"),
    "bytes of a known name": ("/a.png", b"\x89PNG", None, "image/png", b"\x89PNG"),
    "a bytearray": ("/a", bytearray(b"x"), None, "application/octet-stream", b"x"),
    "text": ("/a", "ä", None, "text/plain; charset=utf-8", "ä".encode()),
    "a page": ("/a", "\n <b>x</b>", None, "text/html; charset=utf-8", b"\n <b>x</b>"),
    "no text": ("/a", "", None, "text/plain; charset=utf-8", b""),
    "a dict": ("/a", {"a": [1, None]}, None, "application/json", b'{"a": [1, null]}'),
    "a number": ("/a", 1.5, None, "application/json", b"1.5"),
    "None": ("/a", None, None, "application/json", b"null"),
    "a picture": ("/a", Picture(), None, "image/png", b"\x89PNG"),
    "another type": ("/a", "a,b", "text/csv", "text/csv", b"a,b"),
}


@pytest.mark.parametrize(
    ("path", "value", "given", "media_type", "body"), VALUES.values(), ids=VALUES
)
def test_what_may_be_published(
    path: str, value: object, given: str | None, media_type: str, body: bytes
) -> None:
    serving = Serving(lambda request: {"body": "app"})
    serving.server.publish(path, value, media_type=given)
    reply = ask(serving, "GET", path)
    assert (reply.status, reply["content-type"], reply.body) == (200, media_type, body)
    assert reply["cache-control"] == "no-store"


def test_a_table_is_a_page() -> None:
    serving = Serving(lambda request: {"body": "app"})
    serving.server.publish("/a", Table())
    reply = ask(serving, "GET", "/a")
    assert reply["content-type"].startswith("text/html")
    assert "<table>" in reply.text


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": object()}], ids=repr)
def test_what_may_not(value: object) -> None:
    serving = Serving(lambda request: {"body": "app"})
    serving.server.publish("/a", "before")
    with pytest.raises(TypeError):
        serving.server.publish("/a", value)
    assert ask(serving, "GET", "/a").text == "before"


@pytest.mark.parametrize(
    ("path", "target"),
    [("a", "/a"), ("/", "/"), ("/a b", "/a%20b"), ("/ä", "/%C3%A4"), ("/a", "/a?query=1"),
     ("/a%b", "/a%25b"), ("/a?b", "/a%3Fb"), ("/a/b.json", "/a/b.json")],
)  # fmt: skip
def test_the_path(path: str, target: str) -> None:
    serving = Serving(lambda request: {"body": "app"})
    serving.server.publish(path, "here")
    assert ask(serving, "GET", target).text == "here"


def test_later_requests_see_the_new_value() -> None:
    """Not always the very next: it may be read together with the news."""
    serving = Serving(lambda request: {"body": "app"})

    def run() -> None:
        with serving.connect() as client:
            for i in range(100):
                serving.server.publish("/n", str(i))
                wait_until(lambda i=i: client.ask("GET", "/n").text == str(i))

    in_thread(run)


def test_a_large_value() -> None:
    serving = Serving(lambda request: {"body": "app"})
    body = bytes(range(256)) * 40_000
    serving.server.publish("/large", body)
    assert ask(serving, "GET", "/large").body == body


def test_head_and_other_methods() -> None:
    serving = Serving(lambda request: {"body": request.method})
    serving.server.publish("/a", "abc")
    head = ask(serving, "HEAD", "/a")
    assert (head["content-length"], head.body) == ("3", b"")
    assert serving.ask("POST", "/a", body=b"x").text == "POST"


def test_unpublish() -> None:
    serving = Serving(lambda request: {"body": "app"})
    serving.server.publish("/a", "abc")
    serving.server.unpublish("/a")
    serving.server.unpublish("/a")
    serving.server.unpublish("/never")
    assert serving.ask("GET", "/a").text == "app"


def test_it_comes_before_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    serving = Serving({"static_paths": {"/": tmp_path}})
    serving.server.publish("/a", "published")
    assert ask(serving, "GET", "/a").text == "published"
    serving.server.unpublish("/a")
    assert ask(serving, "GET", "/a").text == "file"


def test_it_stays_when_the_app_is_replaced() -> None:
    serving = Serving(lambda request: {"body": "app"})
    serving.server.publish("/a", "published")
    serving.server.replace_app(lambda request: {"body": "new"})
    assert ask(serving, "GET", "/a").text == "published"


def test_it_is_behind_the_token() -> None:
    with start_server("127.0.0.1", 0, lambda request: {}, token="s" * 16) as server:
        server.publish("/a", "published")

        def run() -> list[int]:
            with Client(server.port) as client:
                return [client.ask("GET", path).status for path in ("/" + "s" * 16 + "/a", "/a")]

        assert in_thread(run) == [200, 403]


def test_servers_publish_apart() -> None:
    one, other = (Serving({"static_paths": {}}) for _ in range(2))
    one.server.publish("/a", "one")
    assert ask(one, "GET", "/a").text == "one"
    assert ask(other, "GET", "/a").status == 404


def test_a_stopped_server_publishes_nothing() -> None:
    server = start_server("127.0.0.1", 0, lambda request: {})
    server.stop()
    server.publish("/a", "nobody")
    server.unpublish("/a")


# -- progress --------------------------------------------------------------------------------------


def figures(serving: Serving) -> dict[str, Any]:
    return dict(json.loads(ask(serving, "GET", "/progress.json").body))


def test_progress_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpuv_kernel.main.publish._PERIOD", -1.0)
    serving = Serving(lambda request: {})
    seen = []
    items = []
    for item in progress("abc", serving.server, label="letters"):
        items.append(item)
        seen.append(figures(serving))
    assert items == list("abc")
    assert [each["done"] for each in seen] == [0, 1, 2]
    assert {each["state"] for each in seen} == {"running"}
    assert {(each["total"], each["label"]) for each in seen} == {(3, "letters")}
    end = figures(serving)
    assert (end["done"], end["state"]) == (3, "done")
    page = ask(serving, "GET", "/progress")
    assert page["content-type"] == "text/html; charset=utf-8"
    assert b"<progress" in page.body


@pytest.mark.parametrize("how", ["break", "error"])
def test_a_loop_that_ends_early(how: str) -> None:
    serving = Serving(lambda request: {})
    loop = progress(iter(range(10)), serving.server, total=10)
    assert next(loop) == 0
    if how == "break":
        loop.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(KeyboardInterrupt):
            loop.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert figures(serving)["state"] == "ended early"


def test_an_iterable_without_length() -> None:
    serving = Serving(lambda request: {})
    assert list(progress(iter("ab"), serving.server, "/p")) == ["a", "b"]
    end = json.loads(ask(serving, "GET", "/p.json").body)
    assert (end["done"], end["total"], end["state"]) == (2, None, "done")


def test_what_a_tqdm_knows() -> None:
    class Bar(list[int]):
        total = 7
        format_dict = {"prefix": "Epoch: "}

    serving = Serving(lambda request: {})
    list(progress(Bar([1, 2]), serving.server, label="mine"))
    end = figures(serving)
    assert (end["label"], end["total"]) == ("Epoch", 7)


# -- a kernel that is busy -------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_busy_timeout(accept: str) -> None:
    configure(busy_timeout=0.1)
    called: list[bool] = []
    serving = Serving(lambda request: called.append(True))
    reply = ask(serving, headers=[("Accept", accept)])
    assert (reply.status, reply["retry-after"], reply["refresh"]) == (503, "1", "2")
    assert ("<html" in reply.text) == (accept == "text/html")
    assert "busy" in reply.text
    serving.server.status()  # by now all is here that a network process sent before
    run_until_idle(0.1)
    assert not called  # its client has its answer


def test_the_connection_goes_on_after_it() -> None:
    configure(busy_timeout=0.1)
    serving = Serving(lambda request: {"body": "late"})
    with serving.connect() as client:
        assert in_thread(client.ask).status == 503
        assert during(client.ask).text == "late"


def test_a_handler_that_takes_long_is_not_cut_short() -> None:

    configure(busy_timeout=0.1)

    def app(request: Any) -> dict[str, str]:
        time.sleep(1.6)
        return {"body": "done"}

    assert Serving(app).ask().text == "done"


def test_nor_a_coroutine() -> None:

    configure(busy_timeout=0.1)

    async def app(request: Any) -> dict[str, str]:
        await asyncio.sleep(1.6)
        return {"body": "done"}

    assert Serving(app).ask().text == "done"


def test_the_snapshot_is_plain() -> None:
    head, body = snapshot("/a", "x", None)
    assert (type(body), isinstance(head, tuple)) == (bytes, True)
