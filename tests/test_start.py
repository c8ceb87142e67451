"""Starting, stopping and listing servers; what the system or the caller gets wrong."""

from __future__ import annotations

import errno
import math
import socket
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest
from helpers import Client, Serving, configure, in_thread

from httpuv_kernel import (
    AddressNotAvailableError,
    HttpuvError,
    InvalidAddressError,
    PortInUseError,
    PortPermissionError,
    Request,
    StartError,
    list_servers,
    start_daemonized_server,
    start_server,
    stop_all_servers,
    stop_daemonized_server,
    stop_server,
)
from httpuv_kernel.addresses import ip_family
from httpuv_kernel.main.web_server import _start_error


def hello(request: Request) -> dict[str, object]:
    return {"body": "hello"}


def start(host: object = "127.0.0.1", port: object = 0, **options: bool):  # type: ignore[no-untyped-def]
    return start_server(host, port, hello, **options)  # type: ignore[arg-type]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return sock.connect_ex(("127.0.0.1", port)) != 0


# -- ports and hosts -------------------------------------------------------------------------------


def test_port_0_is_any_free_one() -> None:
    first, second = start(), start()
    assert 0 < first.port != second.port > 0


def test_a_given_port() -> None:
    port = start().port
    stop_all_servers()
    assert start(port=port).port == port


@pytest.mark.parametrize("kind", [float, lambda port: _Index(port)], ids=["float", "index"])
def test_a_port_of_another_type(kind: object) -> None:
    port = start().port
    stop_all_servers()
    server = start(port=kind(port))  # type: ignore[operator]
    assert server.port == port
    assert type(server.port) is int


class _Index:
    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


@pytest.mark.parametrize(
    ("port", "named"),
    [
        ("8080", "'8080'"),
        (None, "None"),
        (8080.5, "8080.5"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (True, "True"),
        ([8080], "[8080]"),
        (b"80", "b'80'"),
        (-1, "-1"),
        (65536, "65536"),
        (10**20, "1" + "0" * 20),
        (1e20, "1" + "0" * 20),
    ],
    ids=repr,
)
def test_a_port_that_cannot_be_one(port: object, named: str) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        start(port=port)
    assert named in str(caught.value)
    assert "65535" in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["", None, 5, b"127.0.0.1", "no.such.host.invalid", "256.0.0.1", "a b", "::g", "a" * 300],
    ids=lambda host: repr(host)[:20],
)
def test_a_host_that_cannot_be_one(host: object) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        start(host)
    assert repr(host) in str(caught.value)
    assert list_servers() == []


def test_invalid_addresses_are_value_errors() -> None:
    assert issubclass(InvalidAddressError, ValueError)
    assert issubclass(InvalidAddressError, HttpuvError)


def test_localhost_is_served() -> None:
    server = start("localhost")
    assert in_thread(socket.create_connection, ("localhost", server.port)).close() is None


def test_localhost_has_one_port_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (family, socket.SOCK_STREAM, 6, "", (host, 0))
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    ]
    monkeypatch.setattr(socket, "getaddrinfo", _first(found, socket.getaddrinfo))
    server = start("localhost")
    monkeypatch.undo()
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, server.port)).close()


def _first(answer: object, function: object) -> object:
    """Give this answer for localhost, and ask the system for the rest."""

    def resolve(host: object, *arguments: object, **options: object) -> object:
        if host == "localhost":
            return answer
        return function(host, *arguments, **options)  # type: ignore[operator]

    return resolve


def test_ipv6() -> None:
    serving = Serving(hello, "::1")
    assert serving.ask(host="[::1]").text == "hello"
    assert serving.server.url == f"http://[::1]:{serving.port}/"


def test_ipv6_fields_of_a_request() -> None:
    serving = Serving(
        lambda request: {"body": f"{request['SERVER_NAME']} {request['REMOTE_ADDR']}"}, "::1"
    )
    assert serving.ask().text == "::1 ::1"


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_host_of_another_machine(host: str) -> None:
    with pytest.raises(AddressNotAvailableError, match=f"{host} is not an address of this"):
        start(host)
    assert list_servers() == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_wildcard_warns(host: str) -> None:
    with pytest.warns(UserWarning, match="everyone who reaches this machine"):
        start(host)


def test_a_quiet_wildcard() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start("0.0.0.0", quiet=True)


def test_a_wildcard_answers_to_any_host() -> None:
    server = start("0.0.0.0", quiet=True)
    with Client(server.port) as client:
        client.send(b"OPTIONS * HTTP/1.1\r\nHost: any.example\r\n\r\n")
        server.stop()


def test_allowed_hosts() -> None:
    configure(allowed_hosts=["hub.example", ".proxy.example"])
    serving = Serving(hello)
    hosts = ["hub.example", "HUB.example:80", "a.proxy.example", "other.example", "a.hub.example"]
    statuses = [serving.ask(host=host).status for host in hosts]
    assert statuses == [200, 200, 200, 403, 403]


def test_a_refused_host_is_told_the_setting() -> None:
    reply = Serving(hello).ask(host="other.example")
    assert "c.HTTPUV.allowed_hosts = ['other.example']" in reply.text


# -- refusals of the system ------------------------------------------------------------------------


def test_a_port_of_our_own_server_names_it() -> None:
    server = start()
    with pytest.raises(PortInUseError) as caught:
        start(port=server.port)
    assert repr(server) in str(caught.value)
    assert "stop_server" in str(caught.value)
    assert caught.value.errno == errno.EADDRINUSE
    assert list_servers() == [server]


def test_a_port_of_another_program(taken_port: int) -> None:
    with pytest.raises(PortInUseError, match=f"port {taken_port} at .* by another program"):
        start(port=taken_port)
    assert list_servers() == []


def test_a_port_in_use_among_several_addresses_leaves_none_bound(
    taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        (family, socket.SOCK_STREAM, 6, "", (host, taken_port))
        for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))
    ]
    monkeypatch.setattr(socket, "getaddrinfo", _first(found, socket.getaddrinfo))
    with pytest.raises(PortInUseError):
        start("localhost", taken_port)
    monkeypatch.undo()
    with socket.socket(socket.AF_INET6) as sock:
        assert sock.connect_ex(("::1", taken_port)) == errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EADDRINUSE, PortInUseError),
        (errno.EACCES, PortPermissionError),
        (errno.EPERM, PortPermissionError),
        (errno.EADDRNOTAVAIL, AddressNotAvailableError),
        (errno.ENOBUFS, StartError),
        (0, StartError),
    ],
)
def test_refusals_of_the_system(number: int, kind: type[StartError]) -> None:
    error = _start_error(OSError(number, "text of the system"), "192.0.2.9", 999)
    assert type(error) is kind
    assert isinstance(error, OSError)
    assert error.errno == number
    assert "999" in str(error) or "192.0.2.9" in str(error)


def test_a_refused_port_is_a_permission_error() -> None:
    assert issubclass(PortPermissionError, PermissionError)


def test_the_last_refusal_stops_the_thread(taken_port: int) -> None:
    with pytest.raises(PortInUseError):
        start(port=taken_port)
    assert "httpuv-io" not in [thread.name for thread in threading.enumerate()]


# -- life ------------------------------------------------------------------------------------------


def test_stop_frees_the_port() -> None:
    server = start()
    assert server.is_running
    server.stop()
    assert not server.is_running
    assert is_free(server.port)


def test_stop_twice() -> None:
    server = start()
    server.stop()
    server.stop()
    stop_server(server)


def test_stop_of_one_leaves_the_other() -> None:
    first, second = start(), Serving(hello)
    first.stop()
    assert second.ask().text == "hello"


def test_a_stopped_server_does_not_stop_its_successor() -> None:
    first = start()
    first.stop()
    second = start(port=first.port)
    first.stop()
    assert second.is_running


def test_stop_server_takes_servers_only() -> None:
    with pytest.raises(TypeError, match="8080"):
        stop_server(8080)  # type: ignore[arg-type]


def test_a_context_manager() -> None:
    with start() as server:
        assert server.is_running
    assert not server.is_running


def test_a_context_manager_stops_after_an_error() -> None:
    with pytest.raises(LookupError), start() as server:
        raise LookupError
    assert not server.is_running


def test_list_servers_the_oldest_first() -> None:
    servers = [start() for _ in range(3)]
    assert list_servers() == servers
    servers.pop(1).stop()
    assert list_servers() == servers


def test_list_servers_gives_a_copy() -> None:
    start()
    list_servers().clear()
    assert len(list_servers()) == 1


def test_stop_all_servers() -> None:
    servers = [start() for _ in range(3)]
    stop_all_servers()
    stop_all_servers()
    assert list_servers() == []
    assert not any(server.is_running for server in servers)


@pytest.mark.thread_only("is about the thread")
def test_the_thread_lives_with_the_servers() -> None:
    def lives() -> bool:
        return "httpuv-io" in [thread.name for thread in threading.enumerate()]

    states = [lives()]
    first, second = start(), start()
    states.append(lives())
    first.stop()
    states.append(lives())
    second.stop()
    states.append(lives())
    assert states == [False, True, True, False]


def test_restarts() -> None:
    for _ in range(20):
        serving = Serving(hello)
        assert serving.ask().text == "hello"
        serving.server.stop()


def test_servers_are_started_and_stopped_in_threads() -> None:
    server = in_thread(start)
    assert list_servers() == [server]
    in_thread(server.stop)
    assert list_servers() == []


@pytest.mark.thread_only("is about the thread")
def test_the_switch_interval_is_lowered_while_servers_run() -> None:
    before = sys.getswitchinterval()
    first, second = start(), start()
    during = sys.getswitchinterval()
    first.stop()
    still = sys.getswitchinterval()
    second.stop()
    assert during == pytest.approx(0.0005)
    assert still == during
    assert sys.getswitchinterval() == pytest.approx(before)


def test_the_switch_interval_is_left_alone_with_0() -> None:
    configure(switch_interval=0)
    before = sys.getswitchinterval()
    start()
    assert sys.getswitchinterval() == before


# -- how a server looks ----------------------------------------------------------------------------


def test_attributes() -> None:
    server = start()
    assert server.host == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.port}/"


def test_the_url_of_a_wildcard_can_be_opened() -> None:
    server = start("0.0.0.0", quiet=True)
    assert server.url == f"http://127.0.0.1:{server.port}/"


def test_repr() -> None:
    server = start()
    assert repr(server) == f"<WebServer http://127.0.0.1:{server.port}/ hello()>"
    server.stop()
    assert repr(server) == "<WebServer stopped hello()>"


@pytest.mark.parametrize(
    ("ip", "family"),
    [
        ("127.0.0.1", 4),
        ("0.0.0.0", 4),
        ("::1", 6),
        ("::", 6),
        ("2001:db8::1", 6),
        ("::ffff:192.0.2.1", 6),
        ("fe80::1%eth0", 6),
        ("", -1),
        ("localhost", -1),
        ("256.0.0.1", -1),
        ("1.2.3", -1),
        ("01.2.3.4", -1),
        ("::g", -1),
        ("[::1]", -1),
        (" 127.0.0.1", -1),
        ("127.0.0.1:80", -1),
        (None, -1),
        (127, -1),
        (b"127.0.0.1", -1),
        (b"four", -1),
    ],
    ids=repr,
)
def test_ip_family(ip: str, family: int) -> None:
    assert ip_family(ip) == family


def test_the_deprecated_pair_warns_and_works() -> None:
    with pytest.warns(DeprecationWarning, match="use start_server"):
        server = start_daemonized_server("127.0.0.1", 0, lambda request: {})
    assert server.is_running
    with pytest.warns(DeprecationWarning, match="use stop_server"):
        stop_daemonized_server(server)
    assert not server.is_running
