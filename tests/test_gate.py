"""One gate before everything: each route, over each transport, with each token, Host and Origin.

What is expected stands in `expected`, a table of its own; the gate is not asked.
"""

from __future__ import annotations

import logging
import os
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import Client, during, request
from websocket_peer import UPGRADE

from httpuv_kernel import Request, WebSocket, start_pipe_server, start_server, static_path

TOKEN = "right-token-0123456789"
WRONG = "wrong-token-0123456789"
FOREIGN = "http://foreign.example"
SECRET = "only for those who may ask"


class Route(NamedTuple):
    """Where to ask, and what someone gets who may."""

    method: str
    path: str
    status: int
    asks_app: bool = False


ROUTES = {
    "call": Route("GET", "/call", 200, True),
    "post": Route("POST", "/call", 200, True),
    "on_headers": Route("GET", "/refused", 418, True),
    "websocket": Route("GET", "/ws", 101, True),
    "published": Route("GET", "/published", 200),
    "file": Route("GET", "/files/a.txt", 200),
    "head": Route("HEAD", "/files/a.txt", 200),
    "index": Route("GET", "/files/index/", 200),
    "redirect": Route("GET", "/files/index", 308),
    "listing": Route("GET", "/files/", 200),
    "404": Route("GET", "/files/none", 404),
    "405": Route("DELETE", "/files/a.txt", 405),
    "preflight": Route("OPTIONS", "/files/a.txt", 204),
}
# With their secret, whoever asks; without, nobody.
INTERNAL = {
    "ping": Route("GET", "/__httpuv__/ping", 200),
    "claim": Route("POST", "/__httpuv__/claim", 200),
    "state": Route("GET", "/__httpuv__/state", 200),
    "stop": Route("POST", "/__httpuv__/stop", 200),
}

TRANSPORTS = ["127.0.0.1", "::1", "unix"]
# Whether the server has a token, and which segment the client puts before the path.
TOKENS = {
    "no token": (False, ""),
    "none": (True, ""),
    "wrong": (True, WRONG),
    "right": (True, TOKEN),
}
HOSTS = {"good": "localhost", "rebound": "evil.example", "missing": None}
ORIGINS = ["none", "own", "foreign", "null"]


def expected(name: str, transport: str, token: str, host: str, origin: str) -> int:
    """What a client gets, of the issue's own words."""
    if host == "missing":
        return 400
    if token in ("none", "wrong"):
        return 403
    if host == "rebound" and transport != "unix":  # no page of a browser can ask a Unix socket
        return 403
    if name == "websocket" and origin in ("foreign", "null"):
        return 403
    return ROUTES[name].status


def expected_internal(token: str, host: str, has_secret: bool) -> int:
    if host == "missing":
        return 400
    return 403 if token == "wrong" or not has_secret else 200


class App:
    """Notes who came through."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[str] = []
        (folder / "index").mkdir(exist_ok=True)
        for name in ("a.txt", "index/index.html"):
            (folder / name).write_text(SECRET)
        self.static_paths = {"/files": static_path(folder, listing=True, cors=True)}

    def on_headers(self, request: Request) -> dict[str, object] | None:
        self.seen.append(request.path)
        return {"status": 418, "body": SECRET} if request.path == "/refused" else None

    def call(self, request: Request) -> dict[str, object]:
        return {"body": SECRET}

    def on_ws_open(self, ws: WebSocket) -> None:
        self.seen.append("open")


def started(
    transport: str, has_token: bool, folder: Path
) -> tuple[App, object, tuple[object, ...]]:
    """The app, its server, and where to connect."""
    app = App(folder)
    if transport == "unix":
        path = str(folder / "socket")
        return app, start_pipe_server(path, None, app), (path,)
    server = start_server(transport, 0, app, token=TOKEN if has_token else False)
    return app, server, (server.port, transport)


def ask(
    address: tuple[object, ...],
    route: Route,
    token: str,
    host: str,
    origin: str,
    headers: list[tuple[str, object]],
) -> tuple[int, str]:
    """Status and all of the answer's text."""
    prefix = f"/{TOKENS[token][1]}" if TOKENS[token][1] else ""
    origins = {"own": f"http://{HOSTS[host]}", "foreign": FOREIGN, "null": "null"}
    fields = headers + ([("Origin", origins[origin])] if origin in origins else [])
    with Client(*address) as client:  # type: ignore[arg-type]
        client.send(request(route.method, prefix + route.path, fields, host=HOSTS[host]))
        reply = client.read_reply("HEAD" if route.status == 101 else route.method)
    return reply.status, str(reply.headers) + reply.body.decode("latin-1")


CASES = [
    (transport, token)
    for transport, token in product(TRANSPORTS, TOKENS)
    if transport != "unix" or token == "no token"
]


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize(("transport", "token"), CASES)
def test_a_route(tmp_path: Path, name: str, transport: str, token: str) -> None:
    app, server, address = started(transport, TOKENS[token][0], tmp_path)
    server.publish("/published", SECRET)  # type: ignore[attr-defined]
    route = ROUTES[name]
    headers = {
        "websocket": UPGRADE,
        "preflight": [("Access-Control-Request-Method", "GET")],
    }.get(name, [])
    for host, origin in product(HOSTS, ORIGINS):
        app.seen.clear()
        status, text = during(ask, address, route, token, host, origin, headers)
        wanted = expected(name, transport, token, host, origin)
        assert status == wanted, (host, origin)
        if wanted != route.status:
            assert SECRET not in text
            assert "a.txt" not in text
            assert app.seen == [], (host, origin)
        else:
            assert bool(app.seen) is route.asks_app, (host, origin)
        assert TOKEN not in text


@pytest.mark.parametrize("has_secret", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("name", INTERNAL)
@pytest.mark.parametrize(("transport", "token"), CASES)
def test_an_internal_route(
    tmp_path: Path, name: str, transport: str, token: str, has_secret: bool
) -> None:
    app, server, address = started(transport, TOKENS[token][0], tmp_path)
    route = INTERNAL[name]
    for host, origin in product(HOSTS, ORIGINS):
        secret = server._new_key() if name == "claim" else server._control  # type: ignore[attr-defined]
        headers: list[tuple[str, object]] = [("X-Httpuv-Key", secret)] if has_secret else []
        asked = route
        if name == "ping" and has_secret:
            asked = route._replace(path=f"{route.path}?id={server.identity}")  # type: ignore[attr-defined]
        status, text = during(ask, address, asked, token, host, origin, headers)
        wanted = expected_internal(token, host, has_secret)
        assert status == wanted, (host, origin)
        if wanted != 200:
            assert server._control not in text  # type: ignore[attr-defined]
            assert TOKEN not in text
        if name == "stop" and wanted == 200:
            break  # the next ones would find it closed
    assert app.seen == []


@pytest.mark.parametrize("token", ["none", "wrong"])
@pytest.mark.parametrize("target", ["/", "/?a", "/..", "//", "/%2e%2e/files/a.txt"])
def test_no_way_round_the_token(tmp_path: Path, token: str, target: str) -> None:
    _, _, address = started("127.0.0.1", True, tmp_path)
    route = Route("GET", target, 200)
    status, text = ask(address, route, token, "good", "none", [])
    assert status == 403
    assert SECRET not in text
    assert "token" in text


def test_the_gate_is_asked_anew_for_each_request_of_a_connection(tmp_path: Path) -> None:
    _, _, address = started("127.0.0.1", True, tmp_path)
    good = request(target=f"/{TOKEN}/files/a.txt")
    with Client(*address) as client:  # type: ignore[arg-type]
        client.send(good * 3 + request(target="/files/a.txt") + good)
        assert [client.read_reply().status for _ in range(4)] == [200, 200, 200, 403]
        assert client.is_closed()


def test_what_one_host_was_told_another_is_not(tmp_path: Path) -> None:
    """The gate remembers its verdicts."""
    _, _, address = started("127.0.0.1", False, tmp_path)
    hosts = ["localhost", "evil.example", "localhost", "evil.example", "b.localhost", "b.example"]
    statuses = []
    for i, host in enumerate(hosts * 2):  # a server knows equal requests again
        with Client(*address) as client:  # type: ignore[arg-type]
            statuses.append(client.ask("GET", f"/files/a.txt?{i}", host=host).status)
    assert statuses == [200, 403] * 6


@pytest.mark.parametrize(
    "target",
    [
        "/__httpuv__",
        "/%5F_httpuv__/state",
        "/__HTTPUV__/state",
        "//__httpuv__/state",
        "/./__httpuv__/state",
        "/__httpuv__%2fstate",
    ],
)
def test_what_only_looks_internal_passes_the_gate(tmp_path: Path, target: str) -> None:
    _, _, address = started("127.0.0.1", True, tmp_path)
    with Client(*address) as client:  # type: ignore[arg-type]
        assert client.ask("GET", target).status == 403
    app, _, address = started("127.0.0.1", False, tmp_path)
    with Client(*address) as client:  # type: ignore[arg-type]
        assert client.ask("GET", target, host="evil.example").status == 403
    assert app.seen == []


@pytest.mark.parametrize(
    ("authority", "status"),
    [
        ("localhost", 200),
        ("evil.example", 403),
        ("localhost@evil.example", 400),
        ("evil.example@localhost", 400),
        ("evil.example:80@localhost", 400),
    ],
)
def test_the_host_of_a_whole_uri_counts(tmp_path: Path, authority: str, status: int) -> None:
    """RFC 9112, section 3.2.2; who the user is has no place in it (RFC 9110, section 4.2.4)."""
    _, _, address = started("127.0.0.1", False, tmp_path)
    with Client(*address) as client:  # type: ignore[arg-type]
        assert client.ask("GET", f"http://{authority}/files/a.txt").status == status


@pytest.mark.parametrize(
    ("origins", "status"),
    [([FOREIGN, "http://localhost"], 403), (["http://localhost", FOREIGN], 400)],
)
def test_two_origins_are_none(tmp_path: Path, origins: list[str], status: int) -> None:
    app, _, address = started("127.0.0.1", False, tmp_path)
    headers = UPGRADE + [("Origin", origin) for origin in origins]
    route = ROUTES["websocket"]
    assert during(ask, address, route, "no token", "good", "none", headers)[0] == status
    assert app.seen == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_cors_never_comes_with_credentials(tmp_path: Path, transport: str) -> None:
    _, _, address = started(transport, False, tmp_path)
    for origin in ("own", "foreign", "null"):
        _, text = ask(address, ROUTES["file"], "no token", "good", origin, [])
        assert "('access-control-allow-origin', '*')" in text
        assert "credentials" not in text


def test_a_unix_socket_may_be_kept_to_its_owner(tmp_path: Path) -> None:
    started("unix", False, tmp_path)
    path = tmp_path / "owned"
    with start_pipe_server(path, 0o177, {}):
        assert os.stat(path).st_mode & 0o777 == 0o600


BELOW = f"/{TOKEN}"
LOGGED = {
    "a file": request(target=f"{BELOW}/files/a.txt"),
    "nothing": request(target=f"{BELOW}/none?{SECRET.replace(' ', '+')}"),
    "the app fails": request(target=f"{BELOW}/fails"),
    "the token alone": request(target=BELOW),
    "another token": request(target=f"{BELOW}x/a"),
    "without a slash": request(target=f"http://localhost{BELOW}/files/a.txt"),
    "another host": request(target=f"{BELOW}/files/a.txt", host="evil.example"),
    "two hosts": request(target=BELOW, headers=[("Host", "localhost")]),
    "a bad field": request(target=BELOW, headers=[("X ", "a")]),
    "no method": request("BREW", BELOW),
    "a large body": request("POST", BELOW, [("Content-Length", 10**12)]),
    "a fragment": request(target=f"{BELOW}/#a"),
    "no socket": request(target=f"{BELOW}/ws", headers=[*UPGRADE, ("Origin", FOREIGN)]),
    "a socket": request(target=f"{BELOW}/ws", headers=UPGRADE),
    "an internal route": request(target=f"{BELOW}/__httpuv__/state"),
}


@pytest.mark.thread_only("its log lines come when the main thread looks")
@pytest.mark.parametrize("name", LOGGED)
def test_the_token_is_in_no_log(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    class Fails(App):
        def call(self, request: Request) -> dict[str, object]:
            raise ValueError(request.path)

    for logger in ("httpuv_kernel", "httpuv_kernel.access"):
        caplog.set_level(logging.DEBUG, logger)
    server = start_server("127.0.0.1", 0, Fails(tmp_path), token=TOKEN, access_log=True)

    def client() -> bytes:
        with Client(server.port) as connection:
            connection.send(LOGGED[name])
            return connection.read_until(b"\r\n\r\n")

    assert during(client)
    said = [repr(server), repr(server.log())]
    server.stop()
    assert "a client is gone" in caplog.text
    said += [caplog.text, *capfd.readouterr()]
    assert not [text for text in said if TOKEN in text]
