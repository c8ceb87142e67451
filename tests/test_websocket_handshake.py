"""WebSocket handshakes byte by byte, and who may open one."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import (
    Client,
    Serving,
    Work,
    configure,
    during,
    in_thread,
    request,
    run_until_idle,
    serve_until,
    wait_until,
)
from websocket_peer import (
    BINARY,
    TEXT,
    UPGRADE,
    Fields,
    Peer,
    Room,
    ask,
    first_reply,
    frame,
    talk,
)

from httpuv_kernel import later, start_server
from httpuv_kernel.main.runtime import running_runtime

# -- the handshake ---------------------------------------------------------------------------------


def test_the_answer_to_a_handshake() -> None:
    reply = ask(Serving(Room()), UPGRADE)
    assert (reply.status, reply.reason) == (101, "Switching Protocols")
    assert reply["upgrade"].lower() == "websocket"
    assert reply["connection"].lower() == "upgrade"
    assert reply["sec-websocket-accept"] == "ICX+Yqv66kxgM0FcWaLWlFLwTAI="
    assert not reply.has("content-length")
    assert not reply.has("sec-websocket-extensions")


@pytest.mark.parametrize("count", [2, 100])
def test_messages_right_behind_the_handshake_are_kept(count: int) -> None:
    messages = [b"%d" % i + b"x" * 10_000 for i in range(count)]

    def client(peer: Peer) -> list[bytes]:
        return [peer.read_frame()[1] for _ in messages]

    behind = b"".join(frame(BINARY, message) for message in messages)
    assert talk(Serving(Room()), client, behind) == messages


def test_a_handshake_behind_a_request() -> None:
    serving = Serving({"call": lambda request: {"body": "a"}, "on_ws_open": Room().on_ws_open})

    def client(connection: Client) -> tuple[str, int, bytes]:
        connection.send(request() + request(headers=UPGRADE) + frame(TEXT, b"x"))
        first, second = connection.read_reply(), connection.read_head()
        return first.text, second.status, connection.read_exactly(3)

    assert serving.run(client) == ("a", 101, b"\x81\1x")


def without(name: str, *instead: tuple[str, object]) -> Fields:
    return [(key, value) for key, value in UPGRADE if key != name] + [*instead]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", without("Sec-WebSocket-Version", ("Sec-WebSocket-Version", 8)), 426),
        ("GET", without("Sec-WebSocket-Version"), 426),
        ("GET", without("Sec-WebSocket-Key"), 400),
        ("GET", without("Sec-WebSocket-Key", ("Sec-WebSocket-Key", "short")), 400),
        ("GET", without("Connection"), 426),
        ("GET", UPGRADE + [("Sec-WebSocket-Extensions", "a; b=;;")], 400),
        ("GET", UPGRADE + [("Sec-WebSocket-Protocol", "a, b c")], 400),
        ("GET", UPGRADE + [("Content-Length", 1)], 400),
        ("POST", UPGRADE, 405),
        ("HEAD", UPGRADE, 405),
    ],
    ids=["version", "no version", "no key", "key", "connection", "extensions", "protocol", "body"]
    + ["POST", "HEAD"],
)
def test_a_handshake_that_is_wrong(method: str, headers: Fields, status: int) -> None:
    room = Room()
    app = {"on_ws_open": room.on_ws_open, "subprotocols": ["a"]}
    serving = Serving(app)
    reply = Work(lambda: first_reply(serving.port, method, headers)).finish(5)
    assert reply.status == status
    assert method == "HEAD" or len(reply.text.splitlines()) == 1
    assert room.sockets == []


@pytest.mark.parametrize("name", ["Sec-WebSocket-Version", "Connection"])
def test_426_says_what_to_upgrade_to(name: str) -> None:
    reply = ask(Serving(Room()), without(name))
    assert reply["upgrade"] == "websocket"  # RFC 9110, section 15.5.22
    assert "Upgrade" in reply.all("connection")
    assert reply["sec-websocket-version"] == "13"  # RFC 6455, section 4.4


def test_a_post_is_told_to_get() -> None:
    reply = ask(Serving(Room()), UPGRADE, method="POST")
    assert reply["allow"] == "GET"
    assert reply.text == "405 Method Not Allowed: a WebSocket is asked for with GET\n"


def test_without_on_ws_open_it_is_a_404() -> None:
    requests: list[object] = []
    serving = Serving(lambda request: requests.append(request))
    with serving.connect() as client:  # no callback runs
        assert in_thread(lambda: client.ask(headers=UPGRADE)).status == 404
    assert requests == []


def test_static_paths_do_not_stand_before_sockets(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("page")
    serving = Serving({"static_paths": {"/": str(tmp_path)}, "on_ws_open": Room().on_ws_open})
    assert ask(serving, UPGRADE).status == 101
    assert serving.ask().text == "page"


@pytest.mark.thread_only("watches what reaches the inbox while nothing runs")
def test_too_many_that_wait_are_a_503() -> None:
    configure(pending=1)
    serving = Serving(Room())
    with Peer(serving.port) as first:
        wait_until(lambda: running_runtime().inbox)  # type: ignore[union-attr]
        with serving.connect() as second:
            assert in_thread(lambda: second.ask(headers=UPGRADE)).status == 503
        assert during(first.read_head).status == 101
        assert ask(serving, UPGRADE).status == 101


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.thread_only("watches what reaches the inbox while nothing runs")
def test_one_who_leaves_before_on_ws_open_has_begun(who: str) -> None:
    room = Room()
    serving, other = Serving(room), Serving({})
    sockets, inbox = running_runtime().sockets, running_runtime().inbox  # type: ignore[union-attr]
    if who == "server":
        later(serving.server.stop)  # runs first, when on_ws_open is queued
    before = len(inbox)
    with Peer(serving.port) as peer:
        wait_until(lambda: len(inbox) > before)
        if who == "client":
            peer.reset()
            wait_until(lambda: len(inbox) > 1)
        run_until_idle(0.1)
    assert room.events == [1006] * len(room.sockets)
    assert who == "server" or room.sockets == []
    assert not sockets._open
    assert other.ask().status == 404


# -- who may open one ------------------------------------------------------------------------------

SAME = ["http://localhost", "https://localhost", "HTTP://LocalHost"]
OTHER = ["http://localhost:8888", "null", "http://evil.example", "http://localhost.evil.example"]
OTHER += ["", "localhost", "file://", "http://evil.example/http://localhost"]


@pytest.mark.parametrize(
    ("allowed", "passes", "refused"),
    [
        ([], [None, *SAME], OTHER),
        (["https://hub.example"], [None, *SAME, "https://hub.example"], OTHER),
        (["null"], ["null"], [origin for origin in OTHER if origin != "null"]),
        (["*"], [None, *SAME, *OTHER], []),
    ],
    ids=["none", "one", "null", "all"],
)
def test_the_origin(allowed: list[str], passes: list[str | None], refused: list[str]) -> None:
    configure(allowed_origins=allowed)
    room = Room()
    serving = Serving(room)
    for origin in passes:
        field: Fields = [] if origin is None else [("Origin", origin)]
        assert ask(serving, UPGRADE + field).status == 101, origin
    opened = len(room.sockets)
    assert opened == len(passes)
    for origin in refused:
        reply = ask(serving, UPGRADE + [("Origin", origin)])
        assert reply.status == 403, origin
        assert "allowed_origins" in reply.text
    assert len(room.sockets) == opened


def test_the_host() -> None:
    room = Room()
    serving = Serving(room)
    reply = serving.ask("GET", "/", UPGRADE, host="evil.example")
    assert reply.status == 403
    assert "allowed_hosts" in reply.text
    assert room.sockets == []


def test_the_token() -> None:
    room = Room()
    server = start_server("127.0.0.1", 0, room, token=True)

    def client(target: str) -> int:
        with Peer(server.port, target=target) as peer:
            return peer.read_head().status

    assert [during(client, target) for target in ("/", "/ws", f"/{'x' * 32}/ws")] == [403] * 3
    assert room.sockets == []
    assert during(client, f"/{server.token}/ws?a=1") == 101
    assert room.sockets[0].request.path == "/ws"


def test_on_headers_lets_pass_or_refuses() -> None:
    room = Room()

    def on_headers(request: object) -> object:
        return {"status": 401, "body": "who"} if request["QUERY_STRING"] else None  # type: ignore[index]

    serving = Serving({"on_headers": on_headers, "on_ws_open": room.on_ws_open})
    assert (reply := ask(serving, UPGRADE, "/?x")).status == 401
    assert (reply.text, reply.closes, room.sockets) == ("who", True, [])

    def client(peer: Peer) -> bytes:
        peer.send(frame(TEXT, b"x"))
        return peer.read_frame()[1]

    assert talk(serving, client) == b"x"
    serve_until(lambda: len(room.events) == 2)
    assert len(running_runtime().exchanges) == 0  # type: ignore[union-attr]
