"""Values pushed to all open pages: order, history, back-pressure; in a kernel, in Chromium."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Browser, chromium
from helpers import Serving, during, in_thread, request, serve_until
from kernels import Kernel, kernel_fixtures

from httpuv_kernel import start_server
from httpuv_kernel.main import exchange
from httpuv_kernel.main.events import EventFeed, ServerEvent

shared_kernel, kernel, own_kernel = kernel_fixtures()


class Page:
    """An open page of a feed, in the thread of its test."""

    def __init__(self, served: Serving, last: object = None) -> None:
        self.client = served.connect()
        headers = [] if last is None else [("Last-Event-ID", last)]
        self.client.send(request(headers=headers))
        self._text = ""

    def open(self) -> Page:
        """Serve until it is open."""
        self.head = during(self.client.read_head)
        return self

    def events(self, count: int) -> list[tuple[int, str]]:
        """The next events: id and data."""

        def enough() -> bool:
            while self._text.count("id: ") < count or not self._text.endswith("\n\n"):
                self._text += self.client.read_chunk().decode()
            return True

        during(enough)
        text, self._text = self._text, ""
        blocks = [block for block in text.split("\n\n") if "id: " in block]
        return [
            (int(block.partition("id: ")[2].partition("\n")[0]), block.partition("data: ")[2])
            for block in blocks
        ]

    def data(self, count: int) -> list[str]:
        return [data for _, data in self.events(count)]

    def leave(self) -> None:
        self.client.socket.close()


@pytest.fixture
def pages() -> Iterator[list[Page]]:
    opened: list[Page] = []
    yield opened
    for page in opened:
        page.leave()


def test_a_feed_is_an_app_and_reaches_every_page(pages: list[Page]) -> None:
    feed = EventFeed()
    served = Serving(feed)
    assert len(feed) == 0
    assert feed
    pages += [Page(served).open(), Page(served).open()]
    assert len(feed) == 2
    feed.send("one")
    in_thread(feed.send, {"two": 2})
    assert [page.data(2) for page in pages] == [["one", '{"two": 2}']] * 2
    assert pages[0].head["content-type"] == "text/event-stream"


def test_events_arrive_while_the_main_thread_is_busy(pages: list[Page]) -> None:
    feed = EventFeed()
    page = Page(Serving(feed)).open()
    pages.append(page)
    feed.send("now")
    assert in_thread(lambda: [page.client.read_chunk() for _ in range(2)])[1].endswith(
        b"data: now\n\n"
    )


def test_a_page_that_leaves_is_forgotten() -> None:
    feed = EventFeed()
    page = Page(Serving(feed)).open()
    page.client.reset()
    serve_until(lambda: len(feed) == 0)
    feed.send("nobody")


def test_a_server_that_stops_takes_its_pages_along(pages: list[Page]) -> None:
    feed = EventFeed()
    served = Serving(feed)
    pages.append(Page(served).open())
    served.server.stop()
    serve_until(lambda: len(feed) == 0)
    feed.send("nobody")


def test_a_page_that_only_stopped_sending_is_forgotten_by_a_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its FIN could be that of a client that still reads; a write tells."""
    monkeypatch.setattr(exchange, "_HEARTBEAT_SECONDS", 0.03)
    feed = EventFeed()
    Page(Serving(feed)).open().leave()
    serve_until(lambda: len(feed) == 0)


def test_head_opens_no_page() -> None:
    feed = EventFeed()
    assert Serving(feed).ask("HEAD").status == 200
    serve_until(lambda: len(feed) == 0)


@pytest.mark.parametrize(
    ("replay", "got"), [(0, ["new"]), (1, ["2", "new"]), (9, ["0", "1", "2", "new"])]
)
def test_a_late_page_gets_the_history(replay: int, got: list[str], pages: list[Page]) -> None:
    feed = EventFeed(replay=replay)
    for i in range(3):
        feed.send(i)
    pages.append(Page(Serving(feed)).open())
    feed.send("new")
    assert pages[0].data(len(got)) == got


def test_a_page_that_comes_back_gets_what_it_missed(pages: list[Page]) -> None:
    feed = EventFeed(replay=3)
    served = Serving(feed)
    pages.append(Page(served).open())
    for value in "abc":
        feed.send(value)
    (last, _), *_ = pages[0].events(3)
    feed.send("d")
    pages.append(Page(served, last).open())
    assert pages[1].data(3) == ["b", "c", "d"]


@pytest.mark.parametrize("last", ["x", "", "-1", "²", "1" * 30, "1.5"])
def test_an_id_that_is_not_ours_counts_as_none(last: str, pages: list[Page]) -> None:
    feed = EventFeed(replay=1)
    feed.send("a")
    pages.append(Page(Serving(feed), last.encode().decode("latin-1")).open())
    assert pages[0].data(1) == ["a"]


def test_the_ids_of_a_feed_grow_also_after_a_restart(pages: list[Page]) -> None:
    ids = []
    for _ in range(2):
        feed = EventFeed(replay=2)
        feed.send("a")
        feed.send("b")
        pages.append(Page(Serving(feed)).open())
        ids += [number for number, _ in pages[-1].events(2)]
    assert ids == sorted(set(ids))


def test_an_event_with_a_name_and_no_id_of_its_own(pages: list[Page]) -> None:
    feed = EventFeed(retry=9)
    pages.append(Page(Serving(feed)).open())
    feed.send(ServerEvent("a", event="tick"))
    assert during(pages[0].client.read_chunk) == b"retry: 9\n\n"
    assert b"event: tick\ndata: a\n\n" in during(pages[0].client.read_chunk)
    with pytest.raises(ValueError, match="numbers its events itself"):
        feed.send(ServerEvent("a", id=1))


def test_of_too_many_events_the_oldest_are_dropped(pages: list[Page]) -> None:
    feed = EventFeed(backlog=2)
    served = Serving(feed)
    pages.append(Page(served).open())
    big = "x" * 700_000
    for i in range(6):  # two are on their way, two wait; nothing is taken off the bridge meanwhile
        feed.send(f"{i}{big}")
    assert [data[0] for data in pages[0].data(4)] == ["0", "1", "4", "5"]
    feed.send("after")
    assert pages[0].data(1) == ["after"]


def test_close_ends_every_stream_and_refuses_new_pages(pages: list[Page]) -> None:
    feed = EventFeed(replay=1)
    served = Serving(feed)
    pages.append(Page(served).open())
    feed.send("last")
    in_thread(feed.close)
    rest = during(lambda: list(iter(pages[0].client.read_chunk, b"")))
    assert rest[-1].endswith(b"data: last\n\n")
    assert len(feed) == 0
    feed.send("unheard")
    assert served.ask().status == 204


def test_threads_that_send_at_once_keep_each_pages_order(pages: list[Page]) -> None:
    feed = EventFeed()
    served = Serving(feed)
    pages += [Page(served).open(), Page(served).open()]

    def send() -> None:
        for i in range(50):
            feed.send(i)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = [page.events(150) for page in pages]
    assert first == second
    assert [number for number, _ in first] == sorted(number for number, _ in first)


# -- in a kernel, in a browser ---------------------------------------------------------------------


@pytest.mark.kernel
def test_a_running_cell_feeds_a_page(kernel: Kernel) -> None:
    port = kernel.serve(
        "from httpuv_kernel.main.events import EventFeed\nfeed = EventFeed()", "feed"
    ).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    response = connection.getresponse()
    assert response.readline() == b":\n"
    cell = kernel.begin("feed.send('in the cell'); go = threading.Event(); go.wait(5)")
    lines = [response.readline() for _ in range(3)]
    assert lines[2] == b"data: in the cell\n"
    assert cell.contents("status")[-1] != {"execution_state": "idle"}
    kernel.interrupt()
    cell.wait()
    connection.close()


PAGE = """<!doctype html><link rel="icon" href="data:,"><script>
const seen = window.seen = [], source = new EventSource("events");
source.onmessage = event => seen.push(event.data);
source.addEventListener("tick", event => seen.push("tick " + event.data));
source.onopen = () => window.opened = (window.opened || 0) + 1;
</script>"""


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_reads_a_feed_and_comes_back(browser: Browser) -> None:
    feed = EventFeed(replay=10, retry=100)

    def app(request: Any) -> object:
        if request.path == "/events":
            return feed(request)
        return {"headers": {"Content-Type": "text/html"}, "body": PAGE}

    served = Serving(app)
    port = served.port
    during(lambda: browser.open(served.server.url))
    serve_until(lambda: len(feed) == 1)
    feed.send({"n": 1})
    feed.send(ServerEvent("of the clock", event="tick"))
    during(lambda: browser.wait_for("seen.length == 2"))
    served.server.stop()
    serve_until(lambda: len(feed) == 0)
    feed.send("while it was away")
    start_server("127.0.0.1", port, app)
    during(lambda: browser.wait_for("seen.length == 3"))
    feed.send("after")
    during(lambda: browser.wait_for("seen.length == 4"))
    assert browser.run("return seen") == [
        '{"n": 1}',
        "tick of the clock",
        "while it was away",
        "after",
    ]
    assert browser.run("return opened") == 2
