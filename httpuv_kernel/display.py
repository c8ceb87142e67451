"""What a notebook shows of a server, and that it is told when the server has stopped.

The HTML works without JavaScript, as a plain link. With it the page itself finds out by which of
the candidate URLs it reaches the server. What is saved in the notebook holds no token: the page
claims that with a key that works once.

Main side's ground.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import sys
from collections import deque
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from tornado.template import DictLoader

from .browser_url import Candidate

__all__ = ["Displays", "ServerView", "server_html", "server_text"]

_MOST_DISPLAYS = 50


class ServerView(NamedTuple):
    """A server as it is shown."""

    name: str
    url: str
    """With "…" in the place of its token."""
    content: str
    """What is served, in a few words."""
    running: bool
    identity: str
    candidates: Sequence[Candidate]
    """Where its root may be found, the token left out."""


def server_text(view: ServerView) -> str:
    """One line about a server."""
    name = f"{view.name}  " if view.name else ""
    return f"{name}{view.url if view.running else 'stopped'}  {view.content}"


def server_html(view: ServerView, key: str = "", embed: int | None = None) -> str:
    """The same as HTML, with its script.

    Args:
        view: what to show.
        key: with which the page may claim the server, once.
        embed: height in pixels of a frame that shows what it serves; None for none.
    """
    hidden = "…" in view.url
    facts = {
        "identity": view.identity,
        "hidden": hidden,
        "key": key,
        "candidates": [[each.source.value, each.url, each.needs] for each in view.candidates],
        "embed": embed,
    }
    templates = _templates()
    html: bytes = templates.load("server.html").generate(
        view=view,
        facts=json.dumps(facts),
        style=templates.dict["server.css"],
        script=templates.dict["server.js"],
        hidden=hidden,
    )
    return html.decode()


@functools.lru_cache(maxsize=1)
def _templates() -> DictLoader:
    folder = files("httpuv_kernel.static_assets") / "templates"
    names = ("server.html", "server.css", "server.js")
    return DictLoader({name: (folder / name).read_text(encoding="utf-8") for name in names})


class Displays:
    """The places of the notebook where one server is shown. Any thread."""

    def __init__(self) -> None:
        self._ids: deque[str] = deque(maxlen=_MOST_DISPLAYS)

    def show(self, bundle: dict[str, str]) -> None:
        """Show it at the place where the caller stands; in a plain prompt or script as text."""
        if _shell() is None:
            print(bundle["text/plain"])
            return
        display_id = secrets.token_hex(8)
        self._ids.append(display_id)
        _display(bundle, display_id)

    def update(self, make_bundle: Callable[[], dict[str, str]]) -> None:
        """Show this instead wherever it is shown. A terminal has scrolled on and keeps what it has.

        At the end of the process there may be nobody left to be told.
        """
        if not self._ids or getattr(_shell(), "kernel", None) is None:
            return
        bundle = make_bundle()
        for display_id in tuple(self._ids):
            with contextlib.suppress(Exception):
                _display(bundle, display_id, update=True)


def _display(bundle: dict[str, str], display_id: str, *, update: bool = False) -> None:
    # Here, because scripts use this module without IPython being loaded.
    from IPython.display import display

    show: Any = display
    show(bundle, raw=True, display_id=display_id, update=update)


def _shell() -> Any:
    """IPython's shell; None where there is none."""
    ipython: Any = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
