"""Objects that a notebook can show, as responses: which form of them each client gets."""

from __future__ import annotations

import base64
import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import Reply, Serving
from kernels import Kernel

from httpuv_kernel import Response
from httpuv_kernel.main.rich import is_rich, rich_variants

BROWSER = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,"
    "image/avif,image/webp,image/apng,*/*;q=0.8"
)
IMG = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
PNG = b"\x89PNG\r\n\x1a\n picture"


# -- objects ---------------------------------------------------------------------------------------


def rich(name: str = "Shown", **forms: object) -> Any:
    """An object with `_repr_*_` methods that return these, or raise them."""

    def method(value: object) -> Any:
        def make(self: object, **_: object) -> object:
            if isinstance(value, Exception):
                raise value
            return value

        return make

    return type(name, (), {f"_repr_{form}_": method(value) for form, value in forms.items()})()


def got(value: object, accept: str | None = None, method: str = "GET") -> Reply:
    """What a client gets when an app returns this."""
    return Serving(lambda _: value).ask(method, "/", [("Accept", accept)] if accept else [])


BOTH = rich(html="<b>both</b>", png=PNG)
EVERYTHING = rich(
    html="<b>ä</b>",
    png=PNG,
    jpeg=b"jpeg",
    svg="<svg/>",
    json={"a": ["ä"]},
    markdown="# ä",
    latex="$x$",
)


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        ("image/png", "image/png", PNG),
        ("image/jpeg", "image/jpeg", b"jpeg"),
        (IMG, "image/svg+xml", b"<svg/>"),
        (None, "image/svg+xml", b"<svg/>"),
        ("application/json", "application/json", '{"a": ["ä"]}'.encode()),
        ("text/markdown", "text/markdown; charset=utf-8", "# ä".encode()),
        ("text/latex", "text/latex; charset=utf-8", b"$x$"),
    ],
)
def test_each_form(accept: str | None, kind: str, body: bytes) -> None:
    reply = got(EVERYTHING, accept)
    assert (reply.status, reply["content-type"], reply.body) == (200, kind, body)
    assert "Accept" in reply.all("vary")
    assert reply["cache-control"] == "no-cache"


def test_a_browser_gets_a_page_around_a_fragment() -> None:
    reply = got(EVERYTHING, BROWSER)
    assert reply["content-type"] == "text/html; charset=utf-8"
    assert reply.text.startswith("<!DOCTYPE html>")
    assert "<title>Shown</title>" in reply.text
    assert "<b>ä</b>" in reply.text
    assert "http" not in reply.text.lower()  # no asset from elsewhere


@pytest.mark.parametrize("document", ["<!DOCTYPE html><p>all", "\n <html><p>all"])
def test_a_whole_document_is_sent_as_it_is(document: str) -> None:
    assert got(rich(html=document), BROWSER).text == document


def test_a_browser_gets_a_picture_on_a_page() -> None:
    source = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert f'<img src="{source}" alt="Shown">' in got(rich(png=PNG), BROWSER).text


def test_markdown_is_escaped_on_a_page() -> None:
    assert "<pre># &lt;b&gt;</pre>" in got(rich(markdown="# <b>"), BROWSER).text


def test_a_browser_gets_json_of_what_has_nothing_else() -> None:
    reply = got(rich(json=[1]), BROWSER)
    assert (reply["content-type"], reply.body) == ("application/json", b"[1]")


def test_its_text_is_there_for_who_wants_it() -> None:
    assert got(BOTH, "text/plain").text == repr(BOTH)


def test_none_of_its_forms_is_accepted() -> None:
    reply = got(BOTH, "application/json, text/csv")
    assert reply.status == 406
    assert reply["vary"] == "Accept"
    assert reply.text.split("\n")[1:] == ["image/png", "text/html", "text/plain", ""]


def test_head_has_no_body() -> None:
    reply = got(BOTH, BROWSER, method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert reply["content-type"].startswith("text/html")


# -- methods that are there in name only, or not as one would like ---------------------------------


@pytest.mark.parametrize("absent", [None, NotImplementedError()], ids=repr)
def test_a_form_that_is_not_there_after_all(absent: object) -> None:
    shown = rich(svg=absent, png=PNG, html=absent)
    assert got(shown).body == PNG
    assert got(shown, "image/svg+xml").status == 406
    assert "data:image/png" in got(shown, BROWSER).text


def test_nothing_is_there_but_the_text() -> None:
    shown = rich(html=None)
    assert got(shown, BROWSER).text == repr(shown)


def test_metadata_beside_the_data_is_left_out() -> None:
    assert got(rich(png=(PNG, {"width": 3})), "image/png").body == PNG


def test_base64_is_decoded() -> None:
    assert got(rich(png=base64.b64encode(PNG).decode()), "image/png").body == PNG


@pytest.mark.parametrize(
    ("shown", "named"),
    [
        (rich(html=ZeroDivisionError("mine")), "ZeroDivisionError: mine"),
        (rich(html=3), "the text/html form is neither str nor bytes: int"),
        (rich(json={"a": object()}), "not JSON serializable"),
    ],
    ids=["raises", "number", "no JSON"],
)
def test_a_form_that_fails_is_a_500(
    shown: object, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert got(shown).status == 500
    assert named in capsys.readouterr().err


def test_only_the_form_that_is_sent_is_made() -> None:
    assert got(rich(png=PNG, html=AssertionError(), svg=None), "image/png").body == PNG


def test_a_mimebundle() -> None:
    bundle = {
        "text/plain": "text",
        "text/html": "<i>bundle</i>",
        "application/vnd.vegalite.v5+json": {"mark": "bar"},
        "application/vnd.jupyter.widget-view+json": {},
    }
    for shown in (rich(mimebundle=bundle), rich(mimebundle=(bundle, {}))):
        assert "<i>bundle</i>" in got(shown, BROWSER).text
        assert json.loads(got(shown, "application/vnd.vegalite.v5+json").body) == {"mark": "bar"}
        kinds = [kind for kind, _ in rich_variants(shown)]
        assert kinds == ["text/html", "application/vnd.vegalite.v5+json", "text/plain"]


@pytest.mark.parametrize("bundle", [None, {}, NotImplementedError()], ids=repr)
def test_an_empty_mimebundle(bundle: object) -> None:
    shown = rich(mimebundle=bundle, png=PNG)
    assert [kind for kind, _ in rich_variants(shown)] == ["image/png", "text/html", "text/plain"]


def test_a_chart_makes_its_own_page() -> None:
    class Chart:
        def _repr_mimebundle_(self, include: object, exclude: object) -> dict[str, object]:
            return {"text/html": "<div>needs the notebook's scripts"}

        def to_html(self) -> str:
            return "<!doctype html>whole"

        def to_json(self, *, indent: int = 2) -> str:
            return '{"mark": "bar"}'

    assert got(Chart(), BROWSER).text == "<!doctype html>whole"
    assert got(Chart()).text == '{"mark": "bar"}'


def test_to_json_that_wants_a_file_is_not_called() -> None:
    class Frame:
        def _repr_html_(self) -> str:
            return "<table>"

        def to_json(self, path: str) -> None:
            raise AssertionError

    assert "<table>" in got(Frame()).text


# -- what is rich, and what wins -------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["text", b"bytes", 3, 2.5, True, [1], (1,), {1}, object(), len, type(BOTH)], ids=repr
)
def test_what_is_no_response_stays_none(value: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert got(value).status == 500
    assert "a response is a dict such as" in capsys.readouterr().err


def test_an_awaitable_is_awaited() -> None:
    class Promise:
        def _repr_html_(self) -> str:
            return "<b>pending"

        def __await__(self) -> Iterator[Any]:
            yield from ()
            return {"body": "settled"}

    assert got(Promise(), BROWSER).text == "settled"


def test_what_a_coroutine_returns() -> None:
    async def app(_: object) -> object:
        return BOTH

    assert Serving(app).ask("GET", "/", [("Accept", "image/png")]).body == PNG


def test_a_mapping_that_can_be_shown_is_shown_but_a_dict_is_a_response() -> None:
    class Dataset(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            raise KeyError(key)

        def __iter__(self) -> Iterator[str]:
            return iter(["body"])

        def __len__(self) -> int:
            return 1

        def _repr_html_(self) -> str:
            return "<b>data"

    class Reply(dict[str, object]):
        def _repr_html_(self) -> str:
            raise AssertionError

    assert "<b>data" in got(Dataset(), BROWSER).text
    assert got(Reply(body="sent"), BROWSER).text == "sent"


def test_is_rich_asks_the_type_and_runs_nothing() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    assert not is_rich(Proxy())
    assert not is_rich(SimpleNamespace(_repr_html_=lambda: "<b>"))
    assert is_rich(BOTH)


@pytest.mark.parametrize("kind", [dict, Response])
def test_a_rich_body_keeps_status_and_headers(kind: Any) -> None:
    response = kind(status=201, headers=[("X-A", "b"), ("Cache-Control", "max-age=9")], body=BOTH)
    reply = got(response, "image/png")
    assert (reply.status, reply.body) == (201, PNG)
    assert (reply["x-a"], reply["cache-control"]) == ("b", "max-age=9")
    assert reply["content-type"] == "image/png"


def test_the_apps_content_type_decides() -> None:
    reply = got({"headers": {"Content-Type": "text/html; charset=utf-8"}, "body": BOTH}, IMG)
    assert reply["content-type"] == "text/html; charset=utf-8"
    assert "<b>both</b>" in reply.text


def test_a_content_type_that_it_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert got({"headers": {"Content-Type": "image/gif"}, "body": BOTH}).status == 500
    error = capsys.readouterr().err
    assert "cannot be sent as image/gif; it can as image/png, text/html, text/plain" in error


@pytest.mark.parametrize("part", [{"status": 99}, {"headers": {"X-A": "b\r\nc"}}], ids=repr)
def test_a_wrong_head_is_found_before_anything_is_made(part: dict[str, object]) -> None:
    assert got({**part, "body": rich(png=AssertionError())}).status == 500


def test_on_headers_may_answer_with_it() -> None:
    served = Serving({"on_headers": lambda _: BOTH, "call": lambda _: None})
    assert served.ask("GET", "/", [("Accept", "image/png")]).body == PNG


# -- real libraries --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(sys.executable, tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.close()


def fetch(port: int, path: str, accept: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Accept": accept})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, response.headers["content-type"], body


@pytest.mark.kernel
def test_a_frame_in_a_kernel_is_live(notebook: Kernel) -> None:
    pytest.importorskip("pandas")
    port = notebook.serve(
        """
        import pandas as pd
        df = pd.DataFrame({"n": [1, 2], "when": pd.to_datetime(["2024-01-01", "2024-01-02"])})
        def app(request):
            return df["n"] if request.path == "/series" else df
        """
    ).port
    status, kind, page = fetch(port, "/", BROWSER)
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert b"<!DOCTYPE html>" in page
    assert b"<td>2024-01-02</td>" in page
    assert b"<td>2</td>" in fetch(port, "/series", BROWSER)[2]
    records = json.loads(fetch(port, "/", "application/json")[2])
    assert [(record["n"], record["when"][:10]) for record in records] == [
        (1, "2024-01-01"),
        (2, "2024-01-02"),
    ]
    notebook.run("df.loc[0, 'n'] = 9")
    assert json.loads(fetch(port, "/", "*/*")[2])[0]["n"] == 9


@pytest.mark.kernel
def test_a_figure_in_a_kernel(notebook: Kernel) -> None:
    pytest.importorskip("matplotlib")
    served = notebook.serve(
        """
        %matplotlib inline
        from matplotlib.figure import Figure
        figure = Figure()
        axes = figure.subplots()
        axes.plot([1, 2, 1])
        def app(request):
            return axes if request.path == "/axes" else figure
        """
    )
    for path in ("/", "/axes"):
        for accept in ("image/png", "*/*", IMG.replace("image/svg+xml,", "")):
            status, kind, picture = fetch(served.port, path, accept)
            assert (status, kind, picture[:4]) == (200, "image/png", b"\x89PNG")
        assert b"data:image/png;base64," in fetch(served.port, path, BROWSER)[2]
        assert b"</svg>" in fetch(served.port, path, "image/svg+xml")[2]
    assert fetch(served.port, "/", "application/json")[0] == 406


@pytest.mark.kernel
def test_a_printer_of_the_user_comes_first(notebook: Kernel) -> None:
    port = notebook.serve(
        """
        class Point:
            def _repr_html_(self):
                return "its own"
        class Bare: pass
        html = get_ipython().display_formatter.formatters["text/html"]
        for kind in (Point, Bare, int):
            html.for_type(kind, lambda value: f"<b>registered {type(value).__name__}")
        values = {"/point": Point(), "/bare": Bare(), "/int": 3}
        """,
        "lambda request: values[request.path]",
    ).port
    assert b"<b>registered Point" in fetch(port, "/point", BROWSER)[2]
    assert b"<b>registered Bare" in fetch(port, "/bare", BROWSER)[2]
    assert fetch(port, "/int", BROWSER)[0] == 500


@pytest.mark.kernel
def test_what_a_form_prints_and_raises_goes_to_the_cell(notebook: Kernel) -> None:
    served = notebook.serve(
        """
        class Broken:
            def _repr_html_(self):
                print("in the form")
                raise LookupError("of the user")
        """,
        "lambda request: Broken()",
    )
    assert fetch(served.port, "/", BROWSER)[0] == 500
    served.cell.wait_output("in the form")
    served.cell.wait_output("LookupError: of the user")
    assert "negotiat" not in served.cell.error  # the user's frames only
