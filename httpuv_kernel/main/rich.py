"""Objects that a notebook can show, as bodies of responses: which forms they have, and their bytes.

A form is a media type and a function that makes it; only the form that is sent is made. All but
`is_rich` runs code of the user's objects.

Main side.
"""

from __future__ import annotations

import base64
import functools
import inspect
import io
import json
import sys
from collections.abc import Callable, Iterator
from html import escape
from importlib.resources import files
from typing import Any, TypeAlias, cast

from tornado.template import Template

from .negotiation import negotiate

__all__ = ["Form", "is_rich", "render", "rich_variants"]

Form: TypeAlias = "tuple[str, Callable[[], object]]"

# IPython's names for the forms of an object, in the order in which they are sent to a client that
# has no preference. Such a client is a program, and wants the picture or the data; a browser asks
# for text/html.
_METHODS = {
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/json": "_repr_json_",
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "text/latex": "_repr_latex_",
    "application/pdf": "_repr_pdf_",
}
# savefig and get_figure: matplotlib's figures and what is drawn in them; to_frame: a pandas Series.
_MARKS = ("_repr_mimebundle_", *_METHODS.values(), "savefig", "get_figure", "to_frame")
_FIGURE_FORMATS = {
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
}
_HTML = "text/html"
_JSON = "application/json"
_WIDGET = "application/vnd.jupyter.widget-view+json"  # means something to a notebook only
_DOCUMENT = ("<!doctype", "<html")


def is_rich(value: object) -> bool:
    """Whether a notebook would show more of this than text.

    What Python itself brings never is, whatever printers the user has registered for it: a str, a
    list or a number that a handler returns by mistake stays a mistake. Runs no code of the value.
    """
    kind = type(value)
    if kind.__module__ == "builtins":
        return False
    return any(hasattr(kind, mark) for mark in _MARKS) or next(_printers(value), None) is not None


def rich_variants(value: object) -> list[Form]:
    """Every form of an object: those of the user's printers in IPython, its own, its text.

    A media type may stand there twice: when the first function gives None, the next is asked.
    The order is that of `_METHODS`, other types of its mimebundle behind text/html, text last.
    """
    forms = list(_forms(value))
    illustrated = [form for form in forms if form[0] == _HTML]
    illustrated += [form for form in forms if form[0].startswith("image/")]
    illustrated += [form for form in forms if form[0] == "text/markdown"]
    forms = [form for form in forms if form[0] != _HTML]
    if illustrated:
        title = type(value).__name__
        forms.append((_HTML, lambda: _page(title, illustrated)))
    order = [*_METHODS]
    order.insert(order.index(_HTML) + 1, "")
    if _is_drawn(value):  # the vector form of many points is huge
        order.insert(0, "image/png")
    ranks = {kind: rank for rank, kind in reversed(list(enumerate(order)))}
    forms.sort(key=lambda form: ranks.get(form[0], ranks[""]))
    return [*forms, ("text/plain", lambda: repr(value))]


def render(value: object, accept: str | None) -> tuple[str | None, bytes]:
    """The media type and the bytes of the form that the client likes best.

    Without a form that it accepts, None and the list of those there are, as text.

    Raises:
        TypeError: a form that is neither text nor bytes, nor can be JSON.
        Exception: whatever the object's own method raises but NotImplementedError, which, like
            None, says that it does not have this form after all.
    """
    forms = rich_variants(value)
    while True:
        available = list(dict.fromkeys(kind for kind, _ in forms))
        chosen = negotiate(accept, available)
        if chosen is None:
            return None, "".join(kind + "\n" for kind in available).encode()
        data = _first(form for form in forms if form[0] == chosen)
        if data is not None:
            return chosen, data
        forms = [form for form in forms if form[0] != chosen]


# -- the forms of an object ------------------------------------------------------------------------


def _forms(value: Any) -> Iterator[Form]:
    kind = type(value)
    yield from _printers(value)
    has_bundle = hasattr(kind, "_repr_mimebundle_")
    if has_bundle and hasattr(kind, "to_html"):
        # A chart of altair or plotly: the bundle's HTML needs scripts that the notebook has loaded.
        yield _HTML, value.to_html
    if has_bundle:
        yield from _bundle(value)
    for name, method in _METHODS.items():
        if hasattr(kind, method):
            yield name, getattr(value, method)
    if not hasattr(kind, "_repr_html_") and hasattr(kind, "to_frame"):
        yield _HTML, functools.partial(_framed, value)
    if _is_drawn(value):
        for name, file_format in _FIGURE_FORMATS.items():
            yield name, functools.partial(_draw, value, file_format)
    to_json = _json_method(value)
    if to_json is not None:
        yield _JSON, to_json


def _bundle(value: Any) -> Iterator[Form]:
    """The forms of a mimebundle; it has to be made for their names to be known."""
    try:
        bundle = _data(value._repr_mimebundle_(include=None, exclude=None)) or {}
    except NotImplementedError:
        return
    for name, data in bundle.items():
        if name not in ("text/plain", _WIDGET):
            yield name, functools.partial(_same, data)


def _printers(value: object) -> Iterator[Form]:
    """The functions that are registered in IPython for this type, as by `%matplotlib inline`."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    formatters = {} if shell is None else shell.display_formatter.formatters
    for name in _METHODS:
        if name in formatters:
            try:
                printer = formatters[name].lookup(value)
            except KeyError:
                continue
            yield name, functools.partial(printer, value)


def _framed(value: Any) -> object:
    """A Series as the table that it is a column of."""
    frame = value.to_frame()
    return frame._repr_html_() if hasattr(type(frame), "_repr_html_") else None


def _is_drawn(value: object) -> bool:
    return hasattr(type(value), "savefig") or hasattr(type(value), "get_figure")


def _draw(value: Any, file_format: str) -> bytes | None:
    """What a notebook shows of a figure of matplotlib; it has no method for that."""
    figure = value if hasattr(value, "savefig") else value.get_figure()
    if not hasattr(figure, "savefig"):  # removed from its figure
        return None
    file = io.BytesIO()
    figure.savefig(file, format=file_format, bbox_inches="tight")
    return file.getvalue()


def _json_method(value: Any) -> Callable[[], object] | None:
    """How frames and charts write themselves: a frame as a list of records."""
    names = [name for name in ("to_json", "write_json") if hasattr(type(value), name)]
    if not names:
        return None
    method = getattr(value, names[0])
    try:
        signature = inspect.signature(method)
        if "orient" in signature.parameters:  # pandas
            return functools.partial(method, orient="records", date_format="iso")
        signature.bind()
    except (TypeError, ValueError):  # it wants arguments, such as a file
        return None
    return cast("Callable[[], object]", method)


def _same(data: object) -> object:
    return data


# -- their bytes -----------------------------------------------------------------------------------


def _first(forms: Iterator[Form]) -> bytes | None:
    """The first of these forms that there is."""
    for kind, make in forms:
        try:
            data = _data(make())
        except NotImplementedError:
            continue
        if data is not None:
            return _encode(kind, data)
    return None


def _data(made: Any) -> Any:
    """What a `_repr_*_` returned, without the metadata that may stand beside it."""
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], dict):
        return made[0]
    return made


def _encode(kind: str, data: object) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if isinstance(data, str):  # binary data is base64 in Jupyter's messages
        return base64.b64decode(data) if _is_binary(kind) else data.encode()
    if kind == _JSON or kind.endswith("+json"):
        return json.dumps(data, ensure_ascii=False).encode()
    raise TypeError(f"the {kind} form is neither str nor bytes: {type(data).__name__}")


def _is_binary(kind: str) -> bool:
    group = kind.partition("/")[0]
    return (group in ("image", "audio", "video") and not kind.endswith("+xml")) or (
        kind == "application/pdf"
    )


def _page(title: str, forms: list[Form]) -> bytes | None:
    """A page that shows the first of these forms that there is."""
    for kind, make in forms:
        data = _first(iter([(kind, make)]))
        if data is None:
            continue
        if kind == _HTML:
            text = data.decode()
            if text.lstrip().lower().startswith(_DOCUMENT):
                return data
        elif kind.startswith("image/"):
            text = _image(kind, data, title)
        else:
            text = f"<pre>{escape(data.decode())}</pre>"
        template, style = _template()
        return template.generate(title=title, style=style, body=text)
    return None


def _image(kind: str, data: bytes, title: str) -> str:
    source = base64.b64encode(data).decode()
    return f'<img src="data:{kind};base64,{source}" alt="{escape(title)}">'


@functools.lru_cache(maxsize=1)
def _template() -> tuple[Template, str]:
    folder = files("httpuv_kernel.static_assets") / "templates"
    page, style = (
        (folder / name).read_text(encoding="utf-8") for name in ("rich.html", "style.css")
    )
    return Template(page), style
