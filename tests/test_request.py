"""What an app sees of a request: Rook's environment, conveniences, and the body on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import pytest
from helpers import (
    Client,
    Serving,
    during,
    in_thread,
    request,
    seen,
)

from httpuv_kernel import Request, run_now, start_server
from httpuv_kernel import __version__ as version

T = TypeVar("T")
BOUNDARY = "----boundary"


def made(
    target: str = "/",
    fields: Mapping[str, str] | list[tuple[str, str]] = (),  # type: ignore[assignment]
    body: bytes | tuple[str, int] = b"",
    method: str = "GET",
) -> Request:
    """A request as the bridge delivers it."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
    peer, local = ("192.0.2.1", "50000"), ("127.0.0.1", "8000")
    return Request((method, target.encode("latin-1"), "1.1", raw, peer, local), body)


# -- Rook's environment ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("REQUEST_METHOD", "POST"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/a%20b/c"),
        ("QUERY_STRING", "d=e%20f&g"),
        ("SERVER_NAME", "127.0.0.1"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("CONTENT_TYPE", "text/x-test"),
        ("CONTENT_LENGTH", "3"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_X_SOME_NAME", "a value"),
        ("rook.version", "1.1-0"),
        ("rook.url_scheme", "http"),
        ("httpuv.version", version),
    ],
)
def test_a_key(key: str, value: str) -> None:
    headers = [("Content-Type", "text/x-test"), ("X-Some-Name", "a value")]
    target = "/a%20b/c?d=e%20f&g"
    assert seen(lambda request: request[key], "POST", target, headers, b"abc") == value


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "127.0.0.2"), ("0.0.0.0", "127.0.0.3"), ("::", "::1")],
)
def test_the_address_that_the_client_asked(host: str, address: str) -> None:
    """A server at all of them; each connection has one."""

    def app(request: Request) -> dict[str, str]:
        return {"body": f"{request['SERVER_NAME']} {request['SERVER_PORT']}"}

    with start_server(host, 0, app, quiet=True) as server:

        def ask() -> str:
            with Client(server.port, address) as client:
                return client.ask().text

        assert during(ask) == f"{address} {server.port}"


def test_ports() -> None:
    ports: list[str] = []

    def app(request: Request) -> dict[str, object]:
        ports.extend((request["SERVER_PORT"], request["REMOTE_PORT"]))
        return {}

    serving = Serving(app)
    with serving.connect() as client:
        in_thread(client.send, request())
        run_now(5)
        assert ports == [str(serving.port), str(client.port)]


def test_headers_have_any_case_and_are_read_only() -> None:
    headers = made(fields={"X-Name": "value"}).headers
    assert headers["X-Name"] == headers["x-name"] == headers["X-NAME"] == "value"
    assert "x-NAME" in headers
    assert "y" not in headers
    assert isinstance(headers, Mapping)
    with pytest.raises(TypeError):
        headers["a"] = "b"  # type: ignore[index]


def test_HEADERS_are_the_headers() -> None:
    request = made(fields={"X-Name": "value"})
    assert dict(request["HEADERS"]) == {"x-name": "value"}


def test_repeated_headers_are_joined() -> None:
    request = made(fields=[("Accept", "a"), ("Accept", "b")])
    assert request["HTTP_ACCEPT"] == "a, b"
    assert request.headers.get_all("ACCEPT") == ["a", "b"]


def test_repeated_cookie_headers_are_joined_as_cookies() -> None:
    assert made(fields=[("Cookie", "a=1"), ("Cookie", "b=2")])["HTTP_COOKIE"] == "a=1; b=2"


def test_header_values_lose_nothing() -> None:
    assert seen(lambda request: request.headers["x-a"], headers=[("X-A", "\xe4\xff")]) == "\xe4\xff"


def test_it_is_a_read_only_mapping() -> None:
    request = made(fields={"Content-Type": "a/b", "X-Name": "value"})
    assert isinstance(request, Mapping)
    assert set(request) == {
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "PATH_INFO",
        "QUERY_STRING",
        "SERVER_NAME",
        "SERVER_PORT",
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "CONTENT_TYPE",
        "HTTP_X_NAME",
        "HEADERS",
        "rook.version",
        "rook.url_scheme",
        "rook.input",
        "rook.errors",
        "httpuv.version",
    }
    assert len(request) == len(list(request))
    with pytest.raises(TypeError):
        request["PATH_INFO"] = "/"  # type: ignore[index]


@pytest.mark.parametrize("key", ["CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_X", "nothing"])
def test_what_was_not_sent_is_not_there(key: str) -> None:
    request = made()
    assert key not in request
    assert request.get(key) is None
    with pytest.raises(KeyError):
        request[key]


def test_content_fields_have_no_http_names() -> None:
    request = made(fields={"Content-Type": "a/b", "Content-Length": "0"})
    assert "HTTP_CONTENT_TYPE" not in request
    assert "HTTP_CONTENT_LENGTH" not in request


def test_errors_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    errors = made()["rook.errors"]
    errors.cat("a", 1, fill=True)
    errors.write("b")
    errors.flush()
    assert capsys.readouterr().err == "a 1\nb"


def test_repr_names_method_and_target() -> None:
    assert repr(made("/a?b", method="PUT")) == "<Request PUT /a?b>"


# -- conveniences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a%20b", "/a b"),
        ("/a+b", "/a+b"),
        ("/%C3%A4", "/ä"),
        ("/%ff", "/\N{REPLACEMENT CHARACTER}"),
        ("/a%2Fb", "/a/b"),
        ("/%zz%", "/%zz%"),
        ("/a?b=/c", "/a"),
    ],
)
def test_path_is_decoded(target: str, path: str) -> None:
    assert made(target).path == path


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a=b&c=d%20e+f", {"a": "b", "c": "d e f"}),
        ("a=1&a=2", {"a": "2"}),
        ("a", {"a": ""}),
        ("a=&b=", {"a": "", "b": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=?", {"a": "?"}),
        ("a;b", {"a;b": ""}),
        ("%C3%A4=%C3%B6", {"ä": "ö"}),
        ("&&", {}),
    ],
)
def test_query_is_parsed(query: str, parsed: dict[str, str]) -> None:
    assert made("/?" + query).query == parsed


def test_query_lists_has_every_value() -> None:
    assert made("/?a=1&b=2&a=3").query_lists == {"a": ["1", "3"], "b": ["2"]}


def test_a_query_of_many_parameters_is_parsed() -> None:
    assert len(made("/?" + "&".join(f"a{i}={i}" for i in range(5000))).query) == 5000


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("", "ä".encode(), "ä"),
        ("text/plain", "ä".encode(), "ä"),
        ("text/plain; charset=latin-1", b"\xe4", "ä"),
        ('text/plain; a=b; Charset="ISO-8859-1"', b"\xe4", "ä"),
        ("application/json", b"{}", "{}"),
    ],
)
def test_text_is_decoded(content_type: str, body: bytes, text: str) -> None:
    assert made(fields={"Content-Type": content_type}, body=body).text == text


@pytest.mark.parametrize(
    ("body", "value"), [(b'{"a": [1, null]}', {"a": [1, None]}), ('"ä"'.encode(), "ä"), (b"1", 1)]
)
def test_json_is_parsed(body: bytes, value: object) -> None:
    assert made(body=body).json() == value


def test_json_that_is_none() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        made(body=b"{a").json()


def test_an_urlencoded_form() -> None:
    fields = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    request = made(fields=fields, body=b"a=1&b=%C3%A4+c&a=2&d=")
    assert request.form() == {"a": "2", "b": "ä c", "d": ""}


def multipart(*parts: str) -> Request:
    text = "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts) + f"--{BOUNDARY}--\r\n"
    fields = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return made(fields=fields, body=text.encode())


def test_a_multipart_form() -> None:
    request = multipart(
        'Content-Disposition: form-data; name="a"\r\n\r\nä',
        'Content-Disposition: form-data; name="b"; filename="c.txt"\r\n'
        "Content-Type: text/x-c\r\n\r\nline\r\nline",
        'Content-Disposition: form-data; name="b"; filename="d.txt"\r\n\r\nd',
    )
    assert request.form() == {"a": "ä"}
    first, second = request.files()["b"]
    assert (first.filename, first.content_type, first.body) == (
        "c.txt",
        "text/x-c",
        b"line\r\nline",
    )
    assert (second.filename, second.body) == ("d.txt", b"d")


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data"])
def test_a_body_that_is_no_form(content_type: str) -> None:
    with pytest.raises(ValueError, match="form"):
        made(fields={"Content-Type": content_type}, body=b"{}").form()


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a=b; c=d", {"a": "b", "c": "d"}),
        ("a=b;c=d", {"a": "b", "c": "d"}),
        ('a="b c"', {"a": "b c"}),
        ("a=b=c", {"a": "b=c"}),
        ("bad name=1; a=b", {"a": "b"}),
        ("{json}=1; a=b", {"a": "b"}),
        ("a=1; a=2", {"a": "2"}),
    ],
)
def test_cookies(header: str, cookies: dict[str, str]) -> None:
    found = made(fields={"Cookie": header}).cookies
    assert {name: found.get(name) for name in cookies} == cookies
