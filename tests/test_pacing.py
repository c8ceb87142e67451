"""Answers of quick callbacks leave together, and wait for no slow one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from helpers import Client, configure, request, serve_until
from websocket import create_connection

from httpuv_kernel import Request, WebServer, WebSocket, later, list_servers, start_server
from httpuv_kernel.bridge import Questions
from httpuv_kernel.main.pacing import Pacing

T = TypeVar("T")


class Network(Questions):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def send(self, message: tuple[Any, ...]) -> None:
        raise AssertionError("pacing sends nothing itself")

    def nudge(self) -> None:
        pass

    def cork(self) -> None:
        self.told.append("cork")

    def uncork(self) -> None:
        self.told.append("uncork")


def flooded() -> tuple[Pacing, Network]:
    """After a pass with many quick callbacks, which ended at the time 1."""
    network = Network()
    pacing = Pacing([network])
    pacing.begin(0.0)
    for step in range(100):
        pacing.step(step * 1e-5)
    pacing.end()
    return pacing, network


# -- the decision ----------------------------------------------------------------------------------


def test_the_first_answers_leave_at_once() -> None:
    _, network = flooded()
    assert network.told == []


def test_in_a_flood_answers_wait_for_the_end_of_the_pass() -> None:
    pacing, network = flooded()
    pacing.begin(1.0)
    assert network.told == ["cork"]
    pacing.step(1.00001)
    assert network.told == ["cork"]
    pacing.end()
    assert network.told == ["cork", "uncork"]


def test_servers_may_come_and_go_meanwhile() -> None:
    """Their network sides are in a list that other threads change."""
    pacing, network = flooded()
    pacing.begin(1.0)
    pacing._networks.clear()
    pacing.end()
    assert network.told == ["cork", "uncork"]


def test_none_waits_for_longer_than_half_a_millisecond() -> None:
    pacing, network = flooded()
    pacing.begin(1.0)
    for step in range(1, 61):
        pacing.step(1.0 + step * 1e-5)
    assert network.told == ["cork", "uncork", "cork"]


@pytest.mark.parametrize("seconds", [0.0002, 0.01, 5.0])
def test_after_a_slow_callback_all_leave_at_once(seconds: float) -> None:
    pacing, network = flooded()
    pacing.begin(1.0)
    pacing.step(1.0 + seconds)
    assert network.told[:2] == ["cork", "uncork"]


def test_one_slow_callback_does_not_end_a_flood() -> None:
    """The system may have taken the core away for a moment."""
    pacing, network = flooded()
    pacing.begin(1.0)
    pacing.step(1.001)
    assert network.told == ["cork", "uncork", "cork"]


@pytest.mark.parametrize("seconds", [0.011, 5.0])
def test_a_long_callback_does(seconds: float) -> None:
    """It may keep the GIL, and then the thread that lets out what is held cannot."""
    pacing, network = flooded()
    pacing.begin(1.0)
    pacing.step(1.0 + seconds)
    pacing.begin(2.0 + seconds)
    assert network.told == ["cork", "uncork"]


def test_some_slow_callbacks_do() -> None:
    pacing, network = flooded()
    pacing.begin(1.0)
    for step in range(1, 6):
        pacing.step(1.0 + step * 0.001)
    network.told.clear()
    pacing.begin(2.0)
    assert network.told == []


def test_a_long_flood_ends_as_soon_as_a_short_one() -> None:
    pacing, network = flooded()
    for step in range(10_000):
        pacing.step(2.0 + step * 1e-5)
    for step in range(1, 6):
        pacing.step(3.0 + step * 0.001)
    network.told.clear()
    pacing.begin(4.0)
    assert network.told == []


# -- with a network process, in a program whose loop is idle between passes ------------------------

QUICK = 300


@pytest.fixture(autouse=True)
def _in_a_process() -> None:
    configure(isolation="process")


def flood(client: Client, then: bytes) -> None:
    """Many quick requests, and then something else, all at once; the many answers are read."""
    client.send(request(target="/quick") * QUICK + then)
    for _ in range(QUICK):
        assert client.read_reply().text == "quick"


def ask_idle(app: object, work: Callable[[WebServer, Client], T]) -> T:
    """Do a client's work while asyncio's loop runs and nothing else."""

    async def main() -> T:
        with start_server("127.0.0.1", 0, app) as server, Client(server.port) as client:
            return await asyncio.to_thread(work, server, client)

    return asyncio.run(main())


def test_all_answers_of_a_flood_come_in_order() -> None:
    numbers = iter(range(10_000))

    def ask(server: WebServer, client: Client) -> list[int]:
        client.send(request() * 1000)
        return [int(client.read_reply().text) for _ in range(1000)]

    assert ask_idle(lambda request: {"body": str(next(numbers))}, ask) == list(range(1000))


def test_no_answer_waits_for_a_slow_callback() -> None:
    """The one behind a flood, of which nobody could know that it is slow."""
    answered = threading.Event()

    def call(asked: Request) -> dict[str, str]:
        if asked.path == "/pay":
            later(lambda: answered.wait(5))
        return {"body": "quick"}

    def ask(server: WebServer, client: Client) -> bool:
        flood(client, request(target="/pay"))
        assert client.read_reply().text == "quick"
        answered.set()
        return True

    assert ask_idle(call, ask)


@pytest.mark.parametrize("large", [0, 7], ids=["small", "some large"])
def test_all_pieces_of_a_stream_come_in_order(large: int) -> None:
    pieces = [f"{n} " + "x" * (5000 if large and n % large == 0 else 0) for n in range(2000)]

    def ask(server: WebServer, client: Client) -> str:
        return client.ask().text

    assert ask_idle(lambda request: {"body": iter(pieces)}, ask) == "".join(pieces)


def test_no_piece_waits_for_a_slow_one() -> None:
    """After many quick ones, when nobody can know that the next is slow."""
    read = threading.Event()

    def pieces() -> Iterator[str]:
        yield from ["x"] * QUICK
        yield str(read.wait(5))

    def ask(server: WebServer, client: Client) -> bytes:
        client.send(request())
        client.read_head()
        assert [client.read_chunk() for _ in range(QUICK)] == [b"x"] * QUICK
        read.set()
        return client.read_chunk()

    assert ask_idle(lambda request: {"body": pieces()}, ask) == b"True"


def test_a_message_does_not_overtake_an_answer() -> None:
    heard = threading.Event()
    sockets: list[WebSocket] = []

    def call(asked: Request) -> dict[str, str]:
        if asked.path == "/send":

            def send() -> None:
                sockets[0].send("now")
                heard.wait(5)

            later(send)
        return {"body": "quick"}

    def ask(server: WebServer, client: Client) -> str:
        socket = create_connection(f"ws://127.0.0.1:{server.port}/", timeout=10)
        flood(client, request(target="/send"))
        assert socket.recv() == "now"
        client.socket.settimeout(0.5)  # it is on its way, if not here
        text = client.read_reply().text
        heard.set()
        socket.close()
        return text

    assert ask_idle({"call": call, "on_ws_open": sockets.append}, ask) == "quick"


def test_another_thread_stops_a_server_whose_answer_waits() -> None:
    stopped = threading.Event()

    def call(asked: Request) -> dict[str, str]:
        if asked.path == "/stop":
            later(lambda: stopped.wait(5))
        return {"body": "quick"}

    def ask(server: WebServer, client: Client) -> str:
        flood(client, request(target="/stop"))
        server.stop(0.3)
        text = client.read_reply().text
        stopped.set()
        return text

    assert ask_idle(call, ask) == "quick"


def test_a_handler_in_a_flood_asks_its_server() -> None:
    """Which blocks until the network side has answered."""

    def call(asked: Request) -> dict[str, str]:
        if asked.path == "/quick":
            return {"body": "quick"}
        (server,) = list_servers()
        return {"body": str(server.status().requests)}

    def ask(server: WebServer, client: Client) -> str:
        flood(client, request(target="/status"))
        return client.read_reply().text

    assert ask_idle(call, ask) == str(QUICK + 1)


def test_a_handler_in_a_flood_is_answered_before_it_stops_its_server() -> None:
    def call(asked: Request) -> dict[str, str]:
        if asked.path == "/stop":
            (server,) = list_servers()
            later(server.stop)
        return {"body": "quick"}

    def ask(server: WebServer, client: Client) -> str:
        flood(client, request(target="/stop"))
        return client.read_reply().text

    assert ask_idle(call, ask) == "quick"


def test_a_handler_in_a_flood_serves_others() -> None:
    """What was answered before it called service() has left when it waits."""
    answered = threading.Event()

    def call(asked: Request) -> dict[str, str]:
        if asked.path == "/wait":
            serve_until(answered.is_set)
        return {"body": "quick"}

    def ask(server: WebServer, client: Client) -> str:
        with Client(server.port) as other:
            flood(client, request(target="/quick") + request(target="/wait"))
            assert client.read_reply().text == "quick"
            assert other.ask(target="/quick").text == "quick"
            answered.set()
            return client.read_reply().text

    assert ask_idle(call, ask) == "quick"


def test_a_message_in_a_flood_leaves_while_its_handler_goes_on() -> None:
    heard = threading.Event()
    sockets: list[WebSocket] = []

    def call(asked: Request) -> dict[str, str]:
        if asked.path == "/send":
            sockets[0].send("now")
            return {"body": str(heard.wait(5))}
        return {"body": "quick"}

    def ask(server: WebServer, client: Client) -> str:
        socket = create_connection(f"ws://127.0.0.1:{server.port}/", timeout=10)
        flood(client, request(target="/send"))
        assert socket.recv() == "now"
        heard.set()
        socket.close()
        return client.read_reply().text

    assert ask_idle({"call": call, "on_ws_open": sockets.append}, ask) == "True"
