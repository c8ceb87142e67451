"""How WebSockets end, what their clients have not taken, and subprotocols."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers import (
    Serving,
    Work,
    configure,
    during,
    in_thread,
    reset,
    run_until_idle,
    serve_until,
)
from websocket import ABNF
from websocket_client import Connection, Room, begin, open_socket, read_close, talk
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from httpuv_kernel import WebSocket, broadcast, list_servers
from httpuv_kernel.network.websocket import WebSocketConnection

# -- closing ---------------------------------------------------------------------------------------


def test_the_code_and_reason_of_the_client_are_there_in_on_close() -> None:
    room = Room()
    talk(Serving(room), lambda connection: connection.close(3456, b"bye"))
    serve_until(lambda: room.events)
    assert room.events == [(3456, "bye")]
    assert not room.sockets[0].is_open


def test_a_close_without_a_code_is_1005() -> None:
    room = Room()
    talk(Serving(room), lambda connection: connection.send(b"", ABNF.OPCODE_CLOSE))
    serve_until(lambda: room.events)
    assert room.events == [(1005, "")]


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1013, 1014, 3000, 4999])
def test_a_close_of_the_server(code: int) -> None:
    room = Room()
    with open_socket(room) as (ws, connection):
        ws.close(code, "bye ä")
        assert not ws.is_open
        ws.close(1000, "again")
        ws.send("lost")
        broadcast([ws], "lost")
        assert in_thread(read_close, connection) == (code, "bye ä")
        serve_until(lambda: room.events)
        assert room.events == [(1000, "")]  # with that this client answers every code


INVALID = [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536, "1000", None, 1000.5]


def test_close_codes_that_nobody_may_send() -> None:
    with open_socket(Room()) as (ws, connection):
        for code in INVALID:
            with pytest.raises(ValueError, match="3000 to 4999"):
                ws.close(code)  # type: ignore[arg-type]
        for reason in ("x" * 124, "ä" * 62):
            with pytest.raises(ValueError, match="123 bytes"):
                ws.close(1000, reason)
        assert ws.is_open
        ws.close(reason="x" * 123)
        assert in_thread(read_close, connection) == (1000, "x" * 123)


def test_a_close_in_on_ws_open() -> None:
    def opened(ws: WebSocket) -> None:
        ws.send("sorry")
        ws.close(4001, "not you")

    def client(connection: Connection) -> tuple[str, tuple[int, str]]:
        return connection.recv(), read_close(connection)

    assert talk(Serving({"on_ws_open": opened}), client) == ("sorry", (4001, "not you"))


def test_a_client_that_vanishes_is_1006() -> None:
    room = Room()
    talk(Serving(room), lambda connection: connection.send("x"))
    serve_until(lambda: len(room.events) > 1)
    run_until_idle(0.1)
    assert room.events == ["x", (1006, "")]
    room.sockets[0].send("nobody hears it")
    room.sockets[0].close()


@pytest.mark.thread_only("the network thread's part of a send is replaced")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("size", [1, 1000], ids=["short", "long"])
@pytest.mark.parametrize("all_at_once", [False, True], ids=["send", "broadcast"])
def test_what_is_sent_to_a_client_that_has_just_vanished_leaves_no_warning(
    all_at_once: bool,
    size: int,
    loop: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio's transport warns of what is written behind the first that failed."""
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    name = "send_frame" if all_at_once else "send"
    send = getattr(WebSocketConnection, name)

    def vanish(self: WebSocketConnection, *arguments: Any) -> None:
        reset(connection.sock)
        for _ in range(20):
            send(self, *arguments)

    monkeypatch.setattr(WebSocketConnection, name, vanish)
    room = Room()
    with open_socket(room) as (ws, connection):
        if all_at_once:
            broadcast([ws], "x" * size)
        else:
            ws.send("x" * size)
        serve_until(lambda: room.events)
    assert room.events == [(1006, "")]
    assert caplog.records == []


@pytest.mark.usefixtures("quick_heartbeat")
@pytest.mark.parametrize("others", [False, True], ids=["the only server", "one of two"])
@pytest.mark.parametrize("answers", [True, False], ids=["answers", "silent"])
def test_a_server_that_stops(answers: bool, others: bool) -> None:
    configure(linger_timeout=0.2)
    room = Room()
    with open_socket(room) as (ws, connection):
        other = Serving({}) if others else None
        work = Work(read_close, connection) if answers else None
        in_thread(list_servers()[0].stop)
        serve_until(lambda: room.events)
        assert (work or Work(read_close, connection)).finish()[0] == 1001
        run_until_idle(0.1)
        assert len(room.events) == 1
        assert not ws.is_open
        assert other is None or other.ask().status == 404


# -- subprotocols ----------------------------------------------------------------------------------


def negotiated(
    opened: Callable[[WebSocket], object], known: list[str], offered: list[str]
) -> str | None:
    """The subprotocol that a client is told."""
    serving = Serving({"on_ws_open": opened, "subprotocols": known})

    def client() -> str | None:
        with connect(f"ws://127.0.0.1:{serving.port}/", subprotocols=offered or None) as connection:
            connection.recv(5)
            return connection.subprotocol

    return during(client)


@pytest.mark.parametrize(
    ("known", "offered", "chosen"),
    [
        (["a"], ["a"], "a"),
        (["a", "b"], ["c", "b", "a"], "b"),
        (["a"], ["b"], None),
        (["a"], [], None),
        ([], ["a"], None),
    ],
)
def test_the_first_offered_that_the_app_names(
    known: list[str], offered: list[str], chosen: str | None
) -> None:
    seen: list[object] = []
    assert (
        negotiated(lambda ws: seen.append(ws.subprotocol) or ws.send("x"), known, offered) == chosen
    )
    assert seen == [chosen]


def test_a_subprotocol_chosen_in_on_ws_open() -> None:
    def opened(ws: WebSocket) -> None:
        assert ws.offered_subprotocols == ["a", "b"]
        ws.subprotocol = "b"
        ws.send("x")

    assert negotiated(opened, ["a"], ["a", "b"]) == "b"


@pytest.mark.parametrize("sends", [True, False])
def test_a_subprotocol_that_is_not_offered(sends: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def opened(ws: WebSocket) -> None:
        ws.subprotocol = "c"
        if sends:
            ws.send("x")

    with pytest.raises(ConnectionClosedError) as raised:
        negotiated(opened, [], ["a"])
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1011
    assert "does not offer the subprotocol 'c'" in capsys.readouterr().err


# -- what the client has not taken -----------------------------------------------------------------

LARGE = bytes(256 * 1024)


def test_drain_waits_until_the_client_has_taken_it_all() -> None:
    amounts: list[int] = []
    reads = threading.Event()

    async def opened(ws: WebSocket) -> None:
        earlier = asyncio.ensure_future(ws.drain())
        await asyncio.sleep(0)
        for _ in range(64):
            ws.send(LARGE)
        amounts.append(ws.buffered_amount)
        await ws.drain()
        amounts.append(ws.buffered_amount)
        await earlier

    def client(connection: Connection) -> int:
        reads.wait(10)
        return sum(len(connection.recv()) for _ in range(64))

    work = begin(Serving({"on_ws_open": opened}), client)
    run_until_idle(0.3)
    assert amounts == [64 * len(LARGE)]
    reads.set()
    assert work.finish() == 64 * len(LARGE)
    serve_until(lambda: len(amounts) == 2)
    assert amounts[1] == 0


def test_the_buffered_amount_is_in_bytes() -> None:
    with open_socket(Room()) as (ws, _):
        ws.send("ä" * 100)
        assert ws.buffered_amount == 200
        broadcast([ws], "€")
        assert ws.buffered_amount == 203


def test_drain_ends_when_the_client_leaves() -> None:
    events: list[object] = []

    async def opened(ws: WebSocket) -> None:
        for _ in range(64):
            ws.send(LARGE)
        ws.on_close(lambda: events.append("close"))
        await ws.drain()
        events.append(ws.buffered_amount)
        await ws.drain()

    talk(Serving({"on_ws_open": opened}), lambda connection: None)
    serve_until(lambda: "close" in events)
    assert events == [0, "close"]


def test_a_drain_that_was_given_up_disturbs_nobody() -> None:
    room = Room()
    with open_socket(room) as (ws, _):
        for _ in range(64):
            ws.send(LARGE)

        def give_up() -> None:
            asyncio.run(asyncio.wait_for(ws.drain(), 0.05))

        with pytest.raises(asyncio.TimeoutError):
            in_thread(give_up)
    serve_until(lambda: room.events)  # the loop of the drain is closed by now
