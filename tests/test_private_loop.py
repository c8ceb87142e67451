"""Private loops: with_private_loop (later::with_temp_loop), and next_run_in."""

from __future__ import annotations

import math
import threading

import pytest
from helpers import Client, Serving, Work, in_thread, wait_until

from httpuv_kernel import (
    MainThreadError,
    later,
    next_run_in,
    run_now,
    service,
    start_server,
    with_private_loop,
)


def test_what_was_scheduled_before_waits_for_its_end(ran: list[object]) -> None:
    later(lambda: ran.append("outer"))
    with with_private_loop():
        later(lambda: ran.append("inner"))
        while run_now():
            pass
        assert ran == ["inner"]
    run_now()
    assert ran == ["inner", "outer"]


def test_what_still_waits_at_its_end_is_not_lost(ran: list[object]) -> None:
    with with_private_loop():
        later(lambda: ran.append(1))
        later(lambda: ran.append(2), 0.02)
    while len(ran) < 2:
        run_now(1)
    assert ran == [1, 2]


def test_what_is_scheduled_at_its_end_keeps_the_order_of_time(ran: list[object]) -> None:
    later(lambda: ran.append("first"))
    with with_private_loop():
        later(lambda: ran.append("second"))
    later(lambda: ran.append("third"))
    while run_now():
        pass
    assert ran == ["first", "second", "third"]


def test_it_may_be_nested(ran: list[object]) -> None:
    with with_private_loop():
        later(lambda: ran.append("one"))
        with with_private_loop():
            later(lambda: ran.append("two"))
            while run_now():
                pass
        assert ran == ["two"]
        while run_now():
            pass
    assert ran == ["two", "one"]


def test_an_error_inside_ends_it(ran: list[object]) -> None:
    later(lambda: ran.append("outer"))
    with pytest.raises(ZeroDivisionError), with_private_loop():
        raise ZeroDivisionError
    run_now()
    assert ran == ["outer"]


def test_another_thread_is_not_in_it(ran: list[object]) -> None:
    with with_private_loop():
        in_thread(later, lambda: ran.append("from a thread"))
        assert not run_now(0.05)
    run_now(1)
    assert ran == ["from a thread"]


def test_requests_of_other_servers_wait(ran: list[object]) -> None:
    serving = Serving(lambda request: ran.append("request") or {})
    with Client(serving.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with with_private_loop():
            assert not run_now(0.2)
            assert ran == []
        reply = Work(client.read_reply).finish()
    assert reply.status == 200
    assert ran == ["request"]


def test_a_server_that_is_started_inside_is_served_inside() -> None:
    """The reply of a login page, say: nobody else's callbacks run while it is waited for."""
    code = []

    def app(request: object) -> dict[str, object]:
        code.append(request.query["code"])  # type: ignore[attr-defined]
        return {"body": "You may close this page."}

    with with_private_loop():
        with start_server("127.0.0.1", 0, app) as server:
            client = Client(server.port)
            client.send(b"GET /?code=42 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while not code:
                service(1000)
            assert client.read_reply().text == "You may close this page."
            client.socket.close()
    assert code == ["42"]


def test_such_a_server_goes_on_after_its_end() -> None:
    with with_private_loop():
        serving = Serving(lambda request: {"body": "still here"})
        assert serving.ask().text == "still here"
    assert serving.ask().text == "still here"


def test_a_callback_may_have_one(ran: list[object]) -> None:
    def callback() -> None:
        with with_private_loop():
            later(lambda: ran.append("inner"))
            run_now()
        ran.append("callback")

    later(callback)
    later(lambda: ran.append("other"))
    while run_now():
        pass
    assert ran == ["inner", "callback", "other"]


def test_it_belongs_to_the_main_thread() -> None:
    def enter() -> None:
        with with_private_loop():
            raise AssertionError("not reached")

    with pytest.raises(MainThreadError, match="main thread"):
        in_thread(enter)


# -- next_run_in ---------------------------------------------------------------------------------


def test_nothing_waits() -> None:
    assert next_run_in() == math.inf


def test_something_is_due(ran: list[object]) -> None:
    later(lambda: ran.append(1))
    assert next_run_in() == 0
    assert ran == []
    run_now()
    assert next_run_in() == math.inf


def test_something_will_be_due() -> None:
    later(int, 50)
    cancel = later(int, 10)
    assert 5 < next_run_in() <= 10
    cancel()
    assert 40 < next_run_in() <= 50


def test_a_request_waits() -> None:
    serving = Serving(lambda request: {})
    with Client(serving.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: next_run_in() == 0)
        assert Work(client.read_reply).finish().status == 200


def test_next_run_in_belongs_to_the_main_thread() -> None:
    with pytest.raises(MainThreadError):
        in_thread(next_run_in)


def test_a_private_loop_has_its_own() -> None:
    later(int)
    with with_private_loop():
        assert next_run_in() == math.inf
    assert next_run_in() == 0
    assert threading.current_thread() is threading.main_thread()
