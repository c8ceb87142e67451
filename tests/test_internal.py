"""The routes below /__httpuv__/, asked as a page of the notebook asks them."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
from helpers import Client, Reply, during, in_thread, serve_until, wait_until
from kernels import is_free

from httpuv_kernel import WebServer, list_servers, start_server
from httpuv_kernel.network import internal

TOKEN = "a-token-that-nobody-guesses"
HOSTS = ["localhost", "127.0.0.1:8000", "hub.example", "evil.example:80"]


def call(request: object) -> dict[str, object]:
    return {"body": "the app"}


@pytest.fixture(params=["", TOKEN], ids=["plain", "token"])
def server(request: pytest.FixtureRequest) -> WebServer:
    return start_server("127.0.0.1", 0, call, token=request.param or False)


def ask(
    server: WebServer, method: str, route: str, secret: str | None = None, host: str = "localhost"
) -> Reply:
    """A request to an internal route; no callback runs meanwhile."""
    headers = [] if secret is None else [("X-Httpuv-Key", secret)]

    def run() -> Reply:
        with Client(server.port) as client:
            return client.ask(method, f"/__httpuv__/{route}", headers, host=host)

    return in_thread(run)


def key_of(server: WebServer) -> str:
    """The key of a panel, as it stands in its HTML."""
    html = server._repr_mimebundle_()["text/html"]
    found = re.search(r"key&quot;: &quot;([^&]+)&quot;", html)
    assert found is not None
    return found[1]


def control_of(server: WebServer) -> str:
    return str(json.loads(ask(server, "POST", "claim", key_of(server)).text)["control"])


# -- ping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_ping_says_the_servers_id_back_whatever_the_host(server: WebServer, host: str) -> None:
    reply = ask(server, "GET", f"ping?id={server.identity}", host=host)
    assert (reply.status, reply.text) == (200, server.identity)
    assert reply["access-control-allow-origin"] == "*"
    assert reply["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "query", ["", "?", "?id=", "?id=wrong", "?id=%FF", "?id=%C3%A9", "?other=1"]
)
def test_ping_for_another_server_tells_nothing(server: WebServer, query: str) -> None:
    reply = ask(server, "GET", f"ping{query}")
    assert reply.status == 403
    assert server.identity not in reply.text
    assert not reply.has("access-control-allow-origin")


# -- claim -----------------------------------------------------------------------------------------


def test_a_key_gives_the_token_and_the_control_secret(server: WebServer) -> None:
    reply = ask(server, "POST", "claim", key_of(server))
    assert reply.status == 200
    assert json.loads(reply.text) == {"token": server.token, "control": server._control}
    assert reply["cache-control"] == "no-store"


def test_a_key_works_once(server: WebServer) -> None:
    key = key_of(server)
    assert ask(server, "POST", "claim", key).status == 200
    assert ask(server, "POST", "claim", key).status == 403


def test_each_panel_has_a_key_of_its_own(server: WebServer) -> None:
    first, second = key_of(server), key_of(server)
    assert ask(server, "POST", "claim", second).status == 200
    assert ask(server, "POST", "claim", first).status == 200


@pytest.mark.thread_only("sets a limit of the network side")
def test_a_key_expires(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal, "_KEY_SECONDS", -1.0)
    assert ask(server, "POST", "claim", key_of(server)).status == 403


@pytest.mark.thread_only("sets a limit of the network side")
def test_the_oldest_of_too_many_keys_is_dropped(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internal, "_MOST_KEYS", 2)
    oldest, older, newest = (key_of(server) for _ in range(3))
    assert ask(server, "POST", "claim", oldest).status == 403
    assert ask(server, "POST", "claim", older).status == 200
    assert ask(server, "POST", "claim", newest).status == 200


def test_a_key_of_another_server_does_not_work(server: WebServer) -> None:
    with start_server("127.0.0.1", 0, call) as other:
        assert ask(server, "POST", "claim", key_of(other)).status == 403


def test_the_name_that_the_page_came_by_is_served_from_then_on(server: WebServer) -> None:
    target = f"/{server.token}/" if server.token else "/"

    def get(host: str) -> int:
        with Client(server.port) as client:
            return client.ask("GET", target, host=host).status

    assert during(get, "hub.example") == 403
    ask(server, "POST", "claim", "wrong", host="hub.example")
    assert during(get, "hub.example") == 403
    ask(server, "POST", "claim", key_of(server), host="hub.example:8888")
    assert during(get, "hub.example") == 200
    assert during(get, "evil.example") == 403


# -- who may not -----------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [None, "", "wrong", "\xe9"], ids=["none", "empty", "wrong", "é"])
@pytest.mark.parametrize(
    ("method", "route"), [("POST", "claim"), ("GET", "state"), ("POST", "stop")]
)
def test_without_its_secret_a_route_is_refused(
    server: WebServer, method: str, route: str, secret: str | None
) -> None:
    reply = ask(server, method, route, secret)
    assert reply.status == 403
    assert not reply.has("access-control-allow-origin")
    assert server.is_running


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("POST", "ping"),
        ("GET", "claim"),
        ("PUT", "claim"),
        ("POST", "state"),
        ("HEAD", "state"),
        ("GET", "stop"),
        ("HEAD", "stop"),
        ("DELETE", "stop"),
    ],
)
def test_another_method_is_refused(server: WebServer, method: str, route: str) -> None:
    secret = control_of(server)
    assert ask(server, method, f"{route}?id={server.identity}", secret).status == 403
    assert server.is_running
    assert not is_free(server.port)


@pytest.mark.parametrize("route", ["", "other", "ping/", "PING", "../", "%70ing", "state/more"])
def test_other_routes_are_refused_and_never_the_apps(server: WebServer, route: str) -> None:
    reply = ask(server, "GET", route, control_of(server))
    assert reply.status == 403
    assert "the app" not in reply.text


@pytest.mark.parametrize("route", ["ping", "claim", "state", "stop"])
def test_a_page_of_another_origin_may_send_the_header(server: WebServer, route: str) -> None:
    reply = ask(server, "OPTIONS", route)
    assert reply.status == 204
    assert reply["access-control-allow-origin"] == "*"
    assert reply["access-control-allow-headers"] == "X-Httpuv-Key"
    assert not reply.has("access-control-allow-credentials")
    assert server.is_running


# -- state -----------------------------------------------------------------------------------------


def test_state_counts_the_requests_of_the_app_and_not_its_own(server: WebServer) -> None:
    control = control_of(server)
    target = f"/{server.token}/" if server.token else "/"
    with Client(server.port) as client:
        for _ in range(3):
            during(client.ask, "GET", target)
        states = [json.loads(ask(server, "GET", "state", control).text) for _ in range(2)]
    assert [state["requests"] for state in states] == [3, 3]
    assert states[0]["waiting"] == 0
    assert states[0]["sockets"] == 0


def test_state_tells_what_waits_for_the_main_thread(server: WebServer) -> None:
    control = control_of(server)

    def waiting() -> int:
        return int(json.loads(ask(server, "GET", "state", control).text)["waiting"])

    with Client(server.port) as client:
        client.send(
            b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
            % (f"{server.token}/".encode() if server.token else b"")
        )
        wait_until(lambda: waiting() == 1)
        assert during(client.read_reply).text == "the app"
        assert waiting() == 0


# -- stop ------------------------------------------------------------------------------------------


def test_stop_closes_the_port_while_the_main_thread_is_busy_and_it_hears_later(
    server: WebServer,
) -> None:
    reply = ask(server, "POST", "stop", control_of(server))
    assert (reply.status, json.loads(reply.text)) == (200, {"stopped": True})
    wait_until(lambda: is_free(server.port))
    assert server.is_running  # as far as the main thread knows
    serve_until(lambda: not server.is_running)
    assert list_servers() == []


def test_stop_twice_and_from_code_meanwhile(server: WebServer) -> None:
    control = control_of(server)
    with Client(server.port) as first, Client(server.port) as second:
        head = (
            f"POST /__httpuv__/stop HTTP/1.1\r\nHost: localhost\r\nX-Httpuv-Key: {control}\r\n\r\n"
        )
        for client in (first, second):
            client.send(head.encode())
        assert {first.read_reply().status, second.read_reply().status} == {200}
    server.stop()
    assert is_free(server.port)
    with start_server("127.0.0.1", 0, call) as other:
        serve_until(lambda: not server.is_running)
        during(time.sleep, 0)
        assert other.is_running


def test_other_servers_go_on(server: WebServer) -> None:
    with start_server("127.0.0.1", 0, call) as other:
        ask(server, "POST", "stop", control_of(server))
        serve_until(lambda: not server.is_running)
        assert ask(other, "GET", f"ping?id={other.identity}").status == 200
    assert "httpuv-io" not in [thread.name for thread in threading.enumerate()]
